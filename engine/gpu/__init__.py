"""What depends on the device: CUDA graphs, pinned transfers, stage timers."""
