"""The live picture of the web page: JPEG and motion JPEG over real connections, by watchers of all manners."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np


def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.01)
    return True


def test_nothing_is_copied_while_nobody_watches(page: Any) -> None:
    for _ in range(10):
        page.show()
    preview = page.server._preview
    assert preview is not None and (preview.copied, preview.encoded) == (0, 0)


def test_one_picture(page: Any, projector: Callable[..., None]) -> None:
    projector()
    answer = page.http("GET", "/preview.jpg")
    picture = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
    assert answer.headers["Content-Type"] == "image/jpeg" and picture.shape == (64, 64, 3)
    assert until(lambda: page.server.watchers == 0)


def test_no_picture_yet(page: Any) -> None:
    answer = page.http("GET", "/preview.jpg")
    assert (answer.status, answer.read()) == (503, b"there is no picture yet")


def read_parts(answer: http.client.HTTPResponse, count: int) -> list[bytes]:
    parts = []
    assert answer.readline() == b"--picture\r\n"
    for _ in range(count):
        assert answer.readline() == b"Content-Type: image/jpeg\r\n"
        length = int(answer.readline().split(b":")[1])
        assert answer.readline() == b"\r\n"
        parts.append(answer.read(length))
        assert answer.readline() == b"\r\n" and answer.readline() == b"--picture\r\n"
    return parts


def test_moving_pictures_are_encoded_once_for_all_and_leaving_is_noticed(page: Any, projector: Callable[..., None]) -> None:
    projector()
    answers = [page.http("GET", "/preview.mjpg") for _ in range(3)]
    assert all(a.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=picture" for a in answers)
    for answer in answers:
        for jpeg in read_parts(answer, 5):
            assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (64, 64, 3)
    preview = page.server._preview
    assert preview is not None
    assert page.server.watchers == 3 and preview.encoded <= preview.copied
    for answer in answers:
        answer.close()
    assert until(lambda: page.server.watchers == 0)
    assert until(lambda: preview._encoder is None)
    copied = preview.copied
    page.show()
    assert preview.copied == copied


def test_a_browser_that_takes_nothing_blocks_neither_show_nor_others(page: Any, projector: Callable[..., None]) -> None:
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", page.port))
        stuck.sendall(f"GET /preview.mjpg HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n\r\n".encode())
        assert until(lambda: page.server.watchers == 1)
        projector(side=700)
        preview = page.server._preview
        assert preview is not None and until(lambda: preview.encoded >= 30), "pictures go on being made"
        other = page.http("GET", "/preview.mjpg")
        assert len(read_parts(other, 5)) == 5
        assert page.post({"mix": 0.5})[0] == 200
        other.close()
    assert until(lambda: page.server.watchers == 0)


def test_places_for_watchers_are_bounded(page: Any) -> None:
    answers = []
    for number in range(8):
        answers.append(page.http("GET", "/preview.mjpg"))
        assert until(lambda number=number: page.server.watchers == number + 1)
    assert page.http("GET", "/preview.mjpg").status == 503
    for answer in answers:
        answer.close()
