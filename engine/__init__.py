"""The engine: what a frame, a parameter and a stream are, and the diffusion that turns one frame into another.

Importing this package, `engine.control` or any of the contracts stays free of torch, so that the bridge starts at once.
"""
