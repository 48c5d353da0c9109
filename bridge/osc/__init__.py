"""OSC over UDP: parameters in, replies and feedback out. Loopback unless told otherwise."""

DEFAULT_OSC_PORT = 9000
"""UDP port for incoming OSC."""

__all__ = ["DEFAULT_OSC_PORT"]
