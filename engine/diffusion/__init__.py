"""Diffusion numerics: pure functions, no threads, clocks, files or parameter names."""
