"""The web page served by the real uvicorn on loopback, asked by http.client and bare sockets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.port_busy import PortBusy
from bridge.web import WebServer, WebUnavailable
from engine.control.live_values import LiveValues
from engine.control.table import TABLE


def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.01)
    return True


def test_the_page_holds_everything_itself(page: Any) -> None:
    answer = page.http("GET", "/")
    html = answer.read().decode()
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/html")
    assert not re.findall(r"https?://|@import|<link[^>]+stylesheet|src=\"", html)
    assert not re.findall(r"@[A-Z]+@", html), "nothing is left to be filled in"
    policy = answer.headers["Content-Security-Policy"]
    [nonce] = set(re.findall(r"script-src 'nonce-([^']+)'", policy))
    assert html.count(f'nonce="{nonce}"') == 3 and "default-src 'none'" in policy
    table = json.loads(re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)[0])
    assert [row["name"] for row in table] == [row.name for row in TABLE if not row.read_only]
    assert nonce not in page.http("GET", "/").read().decode()


def test_the_state(page: Any) -> None:
    page.values.report({"fps": 25.0, "state": "running", "error": "the camera is gone"})
    answer = page.http("GET", "/api/state")
    state = json.loads(answer.read())
    assert answer.headers["Cache-Control"] == "no-store"
    assert state["readouts"] | {"fps": 25.0, "state": "running", "error": "the camera is gone"} == state["readouts"]
    assert state["facts"] == {"source": "test pattern <b>", "size": [512, 512], "odd": None, "path": "x"}


def test_values_are_read_and_written_with_their_origin(page: Any) -> None:
    status, body = page.post({"strength": 7, "prompt": "fox", "t_list": [45, 32], "reset": True})
    assert (status, json.loads(body)) == (
        200, {"values": {"strength": 1, "prompt": "fox", "step_list": [45, 32], "reset": None}},
    )  # fmt: skip
    read = json.loads(page.http("GET", "/api/values").read())
    assert read["values"] | {"strength": 1, "prompt": "fox", "step_list": [45, 32]} == read["values"]
    assert set(read["values"]) == {row.name for row in TABLE if not row.read_only} - {"reset"}
    assert {change.origin for change in page.values.changes_since(0)[1]} == {"web"}
    assert page.values.snapshot(0.0).fired == {"reset"}
    assert page.post({"reset": False})[0] == 200
    assert page.values.snapshot(0.0).fired == frozenset()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"promt": "x"}, "there is no parameter 'promt'; did you mean 'prompt'?"),
        ({"mix": 0.5, "strength": "much"}, "strength takes a number, not 'much'"),
        ({"mix": 0.5, "fps": 3}, "fps is a readout and cannot be set"),
        (b'{"strength": NaN}', "strength takes a finite number, not nan"),
        ([1], "send a JSON object"),
        (b"{", "this is not JSON"),
        (b"\xff\xfe\xfd", "this is not JSON"),
        (b"[" * 60_000, "this is not JSON"),
        ({"prompt": "x" * 70_000}, "a request may carry 65536 bytes at most"),
        (b"", "this is not JSON"),
    ],
)
def test_a_refused_request_changes_nothing_and_says_why(page: Any, body: object, sentence: str) -> None:
    before = page.values.targets()
    status, answer = page.post(body)
    assert status == 400 and answer.startswith(sentence)
    assert page.values.targets() == before


def test_strangers_are_refused(page: Any) -> None:
    before = page.values.targets()
    assert page.post({"mix": 0.5}, Origin="http://evil.example")[0] == 403
    assert page.post({"mix": 0.5}, Host="evil.example")[0] == 403
    assert page.http("GET", "/preview.jpg", headers={"Host": f"evil.example:{page.port}"}).status == 403
    plain = page.http("POST", "/api/values", b'{"mix": 0.5}', {"Content-Type": "text/plain"})
    assert plain.status == 400 and b"application/json" in plain.read()
    assert page.http("DELETE", "/api/values").status == 405
    assert page.http("GET", "/etc/passwd").status == 404
    assert page.values.targets() == before
    assert page.post({"mix": 0.5}, Origin=f"http://127.0.0.1:{page.port}")[0] == 200


def test_a_busy_port_is_named_with_the_remedy(page: Any) -> None:
    with pytest.raises(PortBusy, match=rf"web port {page.port} on 127.0.0.1 is in use .*--web-port"):
        WebServer(LiveValues(), port=page.port, facts=dict).start()


def test_an_address_of_another_machine_is_a_named_error() -> None:
    with pytest.raises(WebUnavailable, match="no web page: cannot listen on 203.0.113.5"):
        WebServer(LiveValues(), host="203.0.113.5", port=0, facts=dict).start()


def test_stop_ends_streams_frees_the_port_and_the_thread(page: Any, caplog: pytest.LogCaptureFixture) -> None:
    answer = page.http("GET", "/preview.mjpg")
    assert until(lambda: page.server.watchers == 1)
    page.server.stop()
    assert not any(thread.name == "web" for thread in threading.enumerate())
    assert answer.read() == b"--picture\r\n", "the stream was ended properly"
    assert caplog.records == []
    answer.close()
    again = WebServer(LiveValues(), port=page.port, facts=dict)
    again.start()
    again.stop()
    page.show()


def test_an_open_page_asks_for_the_token_of_its_link(screening: Any) -> None:
    page = screening(host="0.0.0.0")
    try:
        token = page.server.url.partition("token=")[2]
        assert len(token) >= 16 and "ALL machines" in page.server.describe()
        assert page.http("GET", "/api/state").status == 401
        assert page.http("GET", "/api/state?token=wrong").status == 401
        answer = page.http("GET", f"/?token={token}")
        assert answer.status == 200
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert page.http("GET", "/api/state", headers={"Cookie": cookie.partition(";")[0]}).status == 200
    finally:
        page.server.stop()


def test_importing_loads_no_web_packages_and_a_missing_one_is_said_plainly() -> None:
    program = (
        "import sys, bridge.web\n"
        "loaded = {'starlette', 'uvicorn', 'cv2', 'torch'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "sys.modules['uvicorn'] = None\n"
        "from engine.control.live_values import LiveValues\n"
        "server = bridge.web.WebServer(LiveValues(), port=0, facts=dict)\n"
        "try:\n    server.start()\n"
        "except bridge.web.WebUnavailable as error:\n    print(error)\n"
        "server.show(None)\nserver.stop()\n"
    )
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout == "no web page: uvicorn is missing, install it with: pip install uvicorn\n", done.stderr
