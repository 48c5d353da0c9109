"""Real NDI peers for tests: their environment, and peers in processes of their own that are ended with the test."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

PEERS = Path(__file__).parent / "peers"


class Peer:
    """A peer process whose printed lines can be awaited."""

    def __init__(self, *, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.strip())
        self._queue.put(None)

    def expect(self, word: str, *, timeout_seconds: float = 20) -> str:
        """Wait for a line that begins with `word`."""
        end = time.monotonic() + timeout_seconds
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"the peer did not say {word!r} but {self.lines}") from None
            if line is None:
                raise AssertionError(f"the peer ended without {word!r}: {self.lines}")
            self.lines.append(line)
            if line.startswith(word):
                return line

    def finish(self, *, timeout_seconds: float = 40) -> None:
        """Wait for the end of the process, which must succeed."""
        assert self.process.wait(timeout_seconds) == 0, self.lines

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture(scope="session")
def ndi_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment for NDI child processes: a folder of their own for name locks, and sources found on
    this computer without avahi (each process on it is asked, see bridge.ndi.finder)."""
    folder = tmp_path_factory.mktemp("ndi")
    ips = ",".join(["127.0.0.1"] * 16)
    (folder / "ndi-config.v1.json").write_text(json.dumps({"ndi": {"networks": {"ips": ips}}}))
    return {
        **os.environ,
        "TMPDIR": str(folder),
        "NDI_CONFIG_DIR": str(folder),
        "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
    }


@pytest.fixture
def ndi_name() -> str:
    """A sender name that nobody else has."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def start_peer(ndi_environment: dict[str, str]) -> Iterator[Callable[..., Peer]]:
    """start_peer("cyndilib_send.py", "--name", ..) -> Peer; killed at the end of the test."""
    started: list[Peer] = []

    def start(script: str, *arguments: object) -> Peer:
        peer = Peer(arguments=[str(PEERS / script), *map(str, arguments)], environment=ndi_environment)
        started.append(peer)
        return peer

    yield start
    for peer in started:
        print("peer", peer.process.poll(), peer.lines)  # shown if the test failed; a number: it had ended by itself
        peer.kill()


@pytest.fixture
def own_name_locks(ndi_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own senders keep their name locks where the peers keep theirs."""
    monkeypatch.setenv("TMPDIR", ndi_environment["TMPDIR"])


@pytest.fixture(scope="session")
def photo() -> Callable[[int, int], np.ndarray]:
    """photo(height, width) -> uint8 [H, W, 3], BGR: soft and edged parts with a photo's fall of detail."""

    def draw(height: int, width: int) -> np.ndarray:
        random = np.random.default_rng(7)
        y, x = np.mgrid[0:height, 0:width].astype(np.float64)
        picture = np.zeros((height, width, 3))
        for octave in range(1, 7):
            for _ in range(4):
                angle, phase = random.uniform(0, 2 * np.pi, 2)
                wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2**octave / 400 + phase)
                picture += wave[..., None] * random.uniform(-1, 1, 3) / 2**octave
        disc = (x - width / 3) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2
        picture[disc] = picture[disc] * 0.5 + [0.4, -0.2, 0.1]
        picture -= picture.min()
        return (picture / picture.max() * 235 + 10).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def bt709() -> Callable[[np.ndarray], np.ndarray]:
    """bt709(uyvy [H, W, 2]) -> BGR [H, W, 3]: the written definition of BT.709 limited range, chroma repeated."""

    def decode(uyvy: np.ndarray) -> np.ndarray:
        luma = (uyvy[..., 1].astype(np.float64) - 16) / 219
        blue_difference = np.repeat((uyvy[:, 0::2, 0].astype(np.float64) - 128) / 224, 2, axis=1)
        red_difference = np.repeat((uyvy[:, 1::2, 0].astype(np.float64) - 128) / 224, 2, axis=1)
        blue = luma + 1.8556 * blue_difference
        red = luma + 1.5748 * red_difference
        green = (luma - 0.0722 * blue - 0.2126 * red) / 0.7152
        return np.clip(np.stack([blue, green, red], axis=-1) * 255, 0, 255)

    return decode


@pytest.fixture(scope="session")
def psnr() -> Callable[[np.ndarray, np.ndarray], float]:
    """psnr(a, b) -> dB of two pictures of 0..255."""

    def measure(first: np.ndarray, second: np.ndarray) -> float:
        error = np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2)
        return float(10 * np.log10(255**2 / max(error, 1e-12)))

    return measure


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """until(test, seconds): poll `test` until it is true; fails after `seconds`."""

    def wait(test: Callable[[], object], seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while not test():
            assert time.monotonic() < end, "did not happen in time"
            time.sleep(0.01)

    return wait
