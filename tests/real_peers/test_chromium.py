"""The web page in a real browser: Chromium, headless, driven over its debugging pipe (POSIX only: inherited pipes)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from bridge.web import WebServer
from engine.control.live_values import LiveValues
from engine.control.table import TABLE
from engine.frames import Frame, PixelFormat

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not here"),
    pytest.mark.skipif(sys.platform == "win32", reason="the debugging pipe needs inherited file descriptors"),
]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1200,900",
    "--remote-debugging-pipe",
)  # fmt: skip

PLACE_PIPES = """
import os, sys
commands, answers = os.dup(int(sys.argv[1])), os.dup(int(sys.argv[2]))
for pipe, place in ((commands, 3), (answers, 4)):
    os.dup2(pipe, place)
    os.set_inheritable(place, True)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from descriptor 3 and answers on 4."""


class Browser:
    """One page of a browser, spoken to in the DevTools protocol: JSON texts ended by a zero byte."""

    def __init__(self, folder: Path) -> None:
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        arguments = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}"]
        command = [sys.executable, "-c", PLACE_PIPES, str(to_browser), str(from_browser), *arguments]
        with (folder.parent / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(command, pass_fds=(to_browser, from_browser), stdout=log, stderr=log)
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._rest, self._session = 0, b"", ""

    def ask(self, method: str, **parameters: object) -> dict[str, object]:
        """Send one command and wait for its answer."""
        self._number += 1
        command: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._out, json.dumps(command).encode() + b"\0")
        while True:
            text, found, self._rest = self._rest.partition(b"\0")
            if not found:
                more = os.read(self._in, 1 << 16)
                assert more, "the browser has ended"
                self._rest = text + more
            elif (answer := json.loads(text)).get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def open(self, url: str) -> None:
        """Go to a page."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = str(self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        self.ask("Page.enable")
        self.ask("Page.navigate", url=url)

    def run(self, script: str) -> object:
        """The value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")  # type: ignore[attr-defined]

    def until(self, script: str, seconds: float = 20) -> bool:
        """Whether an expression becomes true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            if time.monotonic() > end:
                return False
            threading.Event().wait(0.05)
        return True

    def close(self) -> None:
        """End the browser."""
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture
def values() -> LiveValues:
    return LiveValues()


@pytest.fixture
def url(values: LiveValues) -> Iterator[str]:
    """A page with an orange picture."""
    server = WebServer(values, port=0, facts=lambda: {"source": "test pattern", "stage_ms": {"encode": 1.5}})
    server.start()
    stop = threading.Event()
    orange = np.empty((360, 640, 4), np.uint8)
    orange[:] = (0, 128, 255, 255)

    def project() -> None:
        while not stop.wait(0.03):
            server.show(Frame(pixels=orange, format=PixelFormat.BGRX, captured_at=0.0, index=0))

    thread = threading.Thread(target=project)
    thread.start()
    yield server.url
    stop.set()
    thread.join()
    server.stop()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    folder = tmp_path / "profile"
    folder.mkdir()
    opened = Browser(folder)
    yield opened
    opened.close()


def test_the_page_lives(browser: Browser, url: str, values: LiveValues) -> None:
    values.report({"state": "running", "fps": 24.96, "model": "embedded", "error": "the <camera> is gone"})
    browser.open(url)
    assert browser.until("document.querySelector('#state')?.dataset.state === 'running'")
    assert browser.until("document.querySelector('#picture').naturalWidth === 640"), "the live picture is shown"
    text = str(browser.run("document.body.innerText"))
    for expected in ("25.0", "embedded", "the <camera> is gone", "test pattern", "encode 1.5"):
        assert expected in text

    names = json.loads(str(browser.run("JSON.stringify([...controls.keys()])")))
    assert names == [row.name for row in TABLE if not row.read_only]
    assert browser.run("document.getElementById('in-strength').value") == "0.8"

    shot = base64.b64decode(str(browser.ask("Page.captureScreenshot", format="png")["data"]))
    picture = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert (np.abs(picture - (0, 128, 255)).max(axis=2) < 12).mean() > 0.1, "a good part of the page is orange"


def test_controls_set_values_and_follow_them(browser: Browser, url: str, values: LiveValues) -> None:
    browser.open(url)
    assert browser.until("document.querySelector('#state')?.dataset.state === 'starting'")
    set_by = "((id, key, value, event) => { const e = document.getElementById(id); e[key] = value; e.dispatchEvent(new Event(event)); })"
    slider = "document.getElementById('in-fallback_after').parentElement.firstChild"
    browser.run(f"{set_by}('in-prompt', 'value', 'stained glass', 'change')")
    browser.run(f"{set_by}('in-step_list', 'value', '600 300', 'change')")
    browser.run(f"{set_by}('in-guidance', 'value', 'self', 'change')")
    browser.run(f"{set_by}('in-add_noise', 'checked', false, 'change')")
    browser.run(f"{slider}.value = 0; {slider}.dispatchEvent(new Event('input'))")
    browser.run("[...document.querySelectorAll('#actions button')].find((b) => b.textContent === 'freeze').click()")
    browser.run("[...document.querySelectorAll('#actions button')].find((b) => b.textContent === 'reset').click()")
    assert browser.until("!sending && Object.keys(pending).length === 0")
    wanted = {
        "prompt": "stained glass", "step_list": (600, 300), "guidance": "self", "add_noise": False, "fallback_after": 0.1,
        "freeze": True,
    }  # fmt: skip
    assert {name: values.get(name) for name in wanted} == wanted
    assert "reset" in values.snapshot(0.0).fired

    values.set("guidance", "full", "osc:127.0.0.1:1")
    assert browser.until("document.getElementById('in-guidance').value === 'full'"), "own changes are overruled later"
    values.set_many({"mix": 0.25, "seed": 99, "prompt_2": "fox"}, "osc:127.0.0.1:1")
    assert browser.until("document.getElementById('in-mix').value === '0.25'")
    assert browser.until("document.getElementById('in-seed').value === '99'")
    assert browser.until("document.getElementById('in-prompt_2').value === 'fox'")

    browser.run(f"{set_by}('in-step_list', 'value', 'one two', 'change')")
    assert browser.until("document.getElementById('toast').innerText.startsWith('step_list takes a number')")
