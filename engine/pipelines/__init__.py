"""Streams: what joins frames, diffusion and models into one live picture."""
