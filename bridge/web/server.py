"""The web server's life: its port, its thread, its event loop. The packages behind it are loaded at `start`."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from bridge.port_busy import PortBusy
from engine.control.live_values import LiveValues
from engine.frames import Frame

if TYPE_CHECKING:
    import uvicorn

    from bridge.web.preview import Preview

DEFAULT_WEB_PORT = 8000
STOP_SECONDS = 5.0


class WebUnavailable(RuntimeError):
    """The page cannot be served; everything else runs without it. The text says what is missing."""


class WebServer:
    """The page on http://host:port/, and a sink for the picture on it. Owns its thread.

    facts: called for every state request, from the server's thread; quick, JSON-like values.
    On an address that others can reach, `url` carries a token that every visitor needs.
    """

    def __init__(
        self,
        values: LiveValues,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_WEB_PORT,
        facts: Callable[[], Mapping[str, object]],
    ) -> None:
        self._values, self._facts = values, facts
        self._host, self._port = host, port
        self._token = "" if _is_loopback(host) else secrets.token_urlsafe(12)
        self._preview: Preview | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where to point a browser."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/" + (f"?token={self._token}" if self._token else "")

    @property
    def watchers(self) -> int:
        """Browsers that show the live picture now."""
        return self._preview.watchers if self._preview else 0

    def describe(self) -> str:
        """One line for people."""
        reach = "" if not self._token else ", open to ALL machines that reach it and know the token"
        return f"web page on {self.url}{reach}"

    def start(self) -> None:
        """Open the port and serve. Raises PortBusy, and WebUnavailable if a package is missing or the address is wrong."""
        try:
            import uvicorn

            from bridge.web.admission import Admission
            from bridge.web.app import build_app
            from bridge.web.jpeg import encode_jpeg
            from bridge.web.preview import Preview
        except ImportError as error:
            name = error.name or "a package"
            raise WebUnavailable(f"no web page: {name} is missing, install it with: pip install {name}") from None
        opened = _open(self._host, self._port)
        self._port = int(opened.getsockname()[1])
        self._preview = Preview(encode_jpeg)
        admission = Admission(host=self._host, token=self._token)
        app = build_app(values=self._values, preview=self._preview, facts=self._facts, admission=admission)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=64,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, args=(self._server, opened), name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and all connections; returns when the thread has ended."""
        if self._preview is not None:
            self._preview.end()
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(STOP_SECONDS)
        self._server = self._thread = self._preview = None

    def show(self, frame: Frame) -> None:
        """Offer a frame to whoever watches. Never blocks; copies only if somebody does."""
        preview = self._preview
        if preview is not None:
            preview.show(frame)

    def _run(self, server: uvicorn.Server, opened: socket.socket) -> None:
        with opened:
            asyncio.run(server.serve(sockets=[opened]))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _open(host: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows would let another program share the port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(64)
    except OSError as error:
        opened.close()
        reserved = error.errno == errno.EACCES and port >= 1024  # how Windows names a port held exclusively
        if error.errno == errno.EADDRINUSE or reserved:
            raise PortBusy(what="web", host=host, port=port, option="--web-port") from None
        reason = error.strerror or str(error)
        raise WebUnavailable(f"no web page: cannot listen on {host} port {port}: {reason}; check --web-host") from None
    return opened
