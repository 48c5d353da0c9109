"""The bridge: devices, ports and supervision around the engine. Nothing in here imports torch."""
