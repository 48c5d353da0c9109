"""The one error for a network port that another program holds. No sockets in here."""

from __future__ import annotations


class PortBusy(OSError):
    """A port that is taken. The text names the port and the option that chooses another."""

    def __init__(self, *, what: str, host: str, port: int, option: str) -> None:
        super().__init__(f"{what} port {port} on {host} is in use by another program; close it or choose another with {option}")
        self.host = host
        self.port = port
