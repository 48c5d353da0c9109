"""The local web page: live picture, state and simple controls. Importing this loads no web packages."""

from bridge.web.server import DEFAULT_WEB_PORT, WebServer, WebUnavailable

__all__ = ["DEFAULT_WEB_PORT", "WebServer", "WebUnavailable"]
