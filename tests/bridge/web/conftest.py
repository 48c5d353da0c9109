"""A running web page for the tests beside this file, and somebody who shows frames on it."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bridge.web import WebServer
from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat

FACTS: dict[str, object] = {"source": "test pattern <b>", "size": (512, 512), "odd": float("nan"), "path": Path("x")}


class Screening:
    """A running page with its values; `http` asks it."""

    def __init__(self, *, host: str = "127.0.0.1") -> None:
        self.values = LiveValues()
        self.server = WebServer(self.values, host=host, port=0, facts=lambda: FACTS)
        self.server.start()
        self.port = int(re.findall(r":(\d+)/", self.server.url)[0])
        self.shown = 0

    def http(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body or None, headers or {})
        return connection.getresponse()

    def post(self, body: object, **headers: str) -> tuple[int, str]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.http("POST", "/api/values", raw, {"Content-Type": "application/json", **headers})
        return answer.status, answer.read().decode()

    def show(self, level: int = 128, *, side: int = 64) -> None:
        pixels = np.full((side, side, 4), level, np.uint8)
        self.server.show(Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=0.0, index=self.shown))
        self.shown += 1


@pytest.fixture
def screening() -> type[Screening]:
    """To start a page with other settings than usual; who starts it stops it."""
    return Screening


@pytest.fixture
def page() -> Iterator[Screening]:
    screening = Screening()
    yield screening
    screening.server.stop()


@pytest.fixture
def projector(page: Screening) -> Iterator[Callable[..., None]]:
    """Shows frames until the test ends: noise of a given side, which JPEG cannot shrink."""
    stop, threads = threading.Event(), []

    def run(side: int) -> None:
        noise = np.random.default_rng(1).integers(0, 256, (side, side, 4), np.uint8)
        while not stop.wait(0.01):
            page.server.show(Frame(pixels=noise, format=PixelFormat.BGRX, captured_at=0.0, index=0))

    def begin(*, side: int = 64) -> None:
        threads.append(threading.Thread(target=run, args=(side,)))
        threads[-1].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join()
