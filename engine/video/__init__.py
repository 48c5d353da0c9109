"""Video numerics: chunks, caches, positions, schedulers, noise. Pure: no threads, clocks, files or parameter names."""
