"""NdiReceiver against a sender that we did not write: pictures, alpha, sizes, names, loss, hang, a slow consumer."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from bridge.ndi.finder import NdiFinder, NdiSourceMissing, list_sources, resolve_source
from bridge.ndi.receiver import NdiReceiver, ReceiverState
from engine.frames import PixelFormat

pytestmark = pytest.mark.usefixtures("own_name_locks")


class Kept:
    """Takes frames as a consumer would and keeps the newest 100."""

    def __init__(self) -> None:
        self.frames: list[tuple[PixelFormat, np.ndarray, float, int]] = []

    def put(self, pixel_format, pixels, captured_at, index) -> None:
        self.frames = [*self.frames[-99:], (pixel_format, pixels, captured_at, index)]


@pytest.fixture
def receive():
    """receive(source=.., ..) -> (NdiReceiver that runs, Kept); stopped at the end, which must not leave a thread."""
    started = []

    def start(*, put=None, **options):
        kept = Kept()
        receiver = NdiReceiver(put=put or kept.put, **options)
        receiver.start()
        started.append(receiver)
        return receiver, kept

    yield start
    for receiver in started:
        print(receiver.statistics())  # shown if the test failed
        receiver.stop()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ndi receiver")]


@pytest.mark.parametrize(("height", "width"), [(360, 640), (202, 650)])
def test_an_opaque_picture_arrives_as_uyvy(
    start_peer, ndi_name, receive, until, photo, bt709, psnr, tmp_path, height, width
):
    picture = photo(height, width)
    np.save(tmp_path / "frame.npy", np.dstack([picture, np.full((height, width), 9, np.uint8)]))
    start_peer("cyndilib_send.py", "--name", ndi_name, "--npy", tmp_path / "frame.npy").expect("ready")
    receiver, kept = receive(source=ndi_name)
    until(lambda: len(kept.frames) >= 3)
    pixel_format, pixels, _, _ = kept.frames[-1]
    assert pixel_format is PixelFormat.UYVY and pixels.shape == (height, width, 2)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    assert psnr(bt709(pixels), picture) >= 30
    statistics = receiver.statistics()
    assert (statistics.state, statistics.width, statistics.height) == (ReceiverState.CONNECTED, width, height)
    assert statistics.source_name.endswith(f"({ndi_name})")
    assert statistics.format is PixelFormat.UYVY


def test_alpha_arrives_as_bgra(start_peer, ndi_name, receive, until, photo, psnr, tmp_path):
    picture = photo(256, 320)
    ramp = np.broadcast_to(np.linspace(0, 255, 320).astype(np.uint8), (256, 320))
    np.save(tmp_path / "frame.npy", np.dstack([picture, ramp]))
    peer = start_peer("cyndilib_send.py", "--name", ndi_name, "--npy", tmp_path / "frame.npy", "--format", "BGRA")
    peer.expect("ready")
    _, kept = receive(source=ndi_name)
    until(lambda: len(kept.frames) >= 3)
    pixel_format, pixels, _, _ = kept.frames[-1]
    assert pixel_format is PixelFormat.BGRA
    assert psnr(pixels[..., :3], picture) >= 30
    assert np.abs(pixels[..., 3].astype(int) - ramp).max() <= 2


def test_by_address_with_times_and_indices(start_peer, ndi_name, receive, until):
    start_peer("cyndilib_send.py", "--name", ndi_name, "--fps", 60).expect("ready")
    source = resolve_source(ndi_name, timeout_seconds=15)
    receiver, kept = receive(source=source.url)
    until(lambda: len(kept.frames) >= 20)
    times = np.array([frame[2] for frame in kept.frames])
    indices = np.array([frame[3] for frame in kept.frames])
    assert (np.diff(times) > 0).all() and (np.diff(indices) >= 1).all()
    statistics = receiver.statistics()
    assert statistics.url == source.url and statistics.refused == 0 and statistics.last_error == ""
    # Every frame that arrived is either handed on or counted as dropped.
    receiver.stop()
    statistics = receiver.statistics()
    assert kept.frames[-1][3] + 1 == statistics.received + statistics.dropped


def test_a_slow_consumer_gets_the_newest(start_peer, ndi_name, receive, until, tmp_path):
    """One frame in n carries its number as its brightness: after a stall the next frames are the newest."""
    frames = np.empty((25, 64, 64, 4), np.uint8)
    for number in range(25):
        frames[number] = 10 * number
    np.save(tmp_path / "frames.npy", frames)
    start_peer("cyndilib_send.py", "--name", ndi_name, "--npy", tmp_path / "frames.npy", "--fps", 50).expect("ready")
    let_go, entered = threading.Event(), threading.Event()
    seen: list[tuple[float, int]] = []

    def put(pixel_format, pixels, captured_at, index):
        seen.append((float(pixels[..., 1].mean()), index))
        if len(seen) == 5:
            entered.set()
            assert let_go.wait(20)

    receiver, _ = receive(source=ndi_name, put=put)
    assert entered.wait(15)
    # A second connection counts what the stalled one misses: 30 frames, more than the library's queue of 10.
    _, other = receive(source=ndi_name)
    until(lambda: other.frames and other.frames[-1][3] >= 30)
    let_go.set()
    until(lambda: len(seen) >= 8)
    # One jump over the stall, then one by one: not the ten queued frames first.
    steps = np.diff([index for _, index in seen])
    assert steps[4] >= 25
    assert receiver.statistics().dropped >= 24
    # Brightness in steps of 10 out of 16..235 limited range: the frames after the stall follow one another.
    numbers = [round((level - 16) / 219 * 25.5) for level, _ in seen]
    assert (numbers[5] - numbers[4]) % 25 == steps[4] % 25


def test_names_are_found_in_any_case_and_by_their_part(start_peer, ndi_name):
    start_peer("cyndilib_send.py", "--name", ndi_name).expect("ready")
    with NdiFinder() as finder:
        full = finder.resolve(ndi_name, timeout_seconds=15).name
        assert full.endswith(f"({ndi_name})") and len(full) > len(ndi_name) + 2
        assert finder.resolve(full.upper(), timeout_seconds=15).name == full
        assert finder.resolve("any", timeout_seconds=15)
        with pytest.raises(NdiSourceMissing, match=f"did you mean .*{ndi_name}"):
            finder.resolve(ndi_name[:-1] + "_", timeout_seconds=0.3)
    names = [source.name for source in list_sources(timeout_seconds=3)]
    assert len(names) == len(set(names))


def test_a_killed_sender_comes_back(start_peer, ndi_name, receive, until):
    first = start_peer("cyndilib_send.py", "--name", ndi_name)
    first.expect("ready")
    receiver, kept = receive(source=ndi_name, stale_seconds=1e9, renew_seconds=1e9)  # by the loss alone
    until(lambda: kept.frames)
    first.kill()
    until(lambda: receiver.statistics().state is ReceiverState.WAITING)
    assert "gone" in receiver.statistics().last_error
    kept.frames = []
    start_peer("cyndilib_send.py", "--name", ndi_name, "--size", "320x200").expect("ready")
    until(lambda: kept.frames)
    until(lambda: receiver.statistics().state is ReceiverState.CONNECTED)
    statistics = receiver.statistics()
    assert (statistics.width, statistics.height) == (320, 200)
    assert statistics.connects == 2 and statistics.last_error == ""


def test_waits_for_a_sender_that_is_not_there_yet(start_peer, ndi_name, receive, until):
    receiver, kept = receive(source=ndi_name)
    until(lambda: receiver.statistics().last_error)
    assert ndi_name in receiver.statistics().last_error
    start_peer("cyndilib_send.py", "--name", ndi_name).expect("ready")
    until(lambda: kept.frames)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot halt a process by a signal")
def test_a_hung_sender_is_noticed(start_peer, ndi_name, receive, until):
    peer = start_peer("cyndilib_send.py", "--name", ndi_name)
    peer.expect("ready")
    receiver, kept = receive(source=ndi_name, stale_seconds=0.5)
    until(lambda: kept.frames)
    os.kill(peer.process.pid, signal.SIGSTOP)
    try:
        until(lambda: receiver.statistics().state is ReceiverState.STALE)
    finally:
        os.kill(peer.process.pid, signal.SIGCONT)
    until(lambda: receiver.statistics().state is ReceiverState.CONNECTED)


def test_a_failing_consumer_does_not_end_the_device(start_peer, ndi_name, receive, until):
    start_peer("cyndilib_send.py", "--name", ndi_name).expect("ready")

    def put(pixel_format, pixels, captured_at, index):
        raise RuntimeError("no room")

    receiver, _ = receive(source=ndi_name, put=put)
    until(lambda: receiver.statistics().received >= 3)
    assert "no room" in receiver.statistics().last_error


def test_a_clip_passes(start_peer, ndi_name, receive, until):
    clip = Path(__file__).resolve().parents[2].parent / "shared" / "clips" / "yoga_360x360.mp4"
    if not clip.exists():
        pytest.skip("the folder of real clips is not beside the checkout")
    start_peer("cyndilib_send.py", "--name", ndi_name, "--clip", clip).expect("ready")
    receiver, kept = receive(source=ndi_name)
    until(lambda: len(kept.frames) >= 5)
    assert kept.frames[-1][1].shape == (360, 360, 2)
