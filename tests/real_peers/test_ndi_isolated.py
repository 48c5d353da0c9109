"""NDI in child processes against peers that we did not write: whatever ends a child, this process lives and frames go on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from bridge.ndi import keeper
from bridge.ndi.keeper import USUAL_BYTES
from bridge.ndi.library import NdiNameTaken, NdiRefused
from bridge.ndi.receiver import ReceiverState
from bridge.ndi.receiver_process import NdiReceiverProcess
from bridge.ndi.sender_process import NdiSenderProcess
from engine import segments
from engine.frames import Frame, PixelFormat

pytestmark = pytest.mark.usefixtures("own_name_locks")
STORM, STORM_SECONDS = 500, 15.0
HOLDER = """
import sys, time
from bridge.ndi.sender_process import NdiSenderProcess
from bridge.ndi.receiver_process import NdiReceiverProcess
sender = NdiSenderProcess(name=sys.argv[1]); sender.start()
receiver = NdiReceiverProcess(source="nobody", put=lambda *frame: None); receiver.start()
while not receiver.pid: time.sleep(0.01)
print("up", sender.pid, receiver.pid, flush=True)
time.sleep(60)
"""


def own_segments(what: str = "") -> list[str]:
    return [name for name in segments.present() if name.startswith(f"{segments.PREFIX}_{os.getpid()}_ndi{what}")]


@pytest.fixture
def sender(ndi_name):
    """A sender that runs, stopped at the end, which leaves no thread, process or shared memory."""
    made = NdiSenderProcess(name=ndi_name, frame_rate=30, version="1", size=(320, 256))
    made.start()
    pid = made.pid
    yield made
    print(made.statistics(), made.restarts)  # shown if the test failed
    made.stop()
    assert not psutil.pid_exists(pid) and made.pid == 0
    assert not own_segments("sender")
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ndi ")]


@pytest.fixture
def showing(sender):
    """showing(pixels): show it 50 times a second from a thread until the end; gives how long each `show` took."""
    stop, threads, took = threading.Event(), [], []

    def start(pixels, pixel_format=PixelFormat.BGRX):
        def run():
            index = 0
            while not stop.wait(0.02):
                began = time.monotonic()
                sender.show(Frame(pixels=pixels, format=pixel_format, captured_at=began, index=index))
                took.append(time.monotonic() - began)
                index += 1

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return took

    yield start
    stop.set()
    for thread in threads:
        thread.join()


class Kept:
    """Takes frames as a consumer would: copies what it keeps, the newest 100."""

    def __init__(self) -> None:
        self.frames: list[tuple[PixelFormat, np.ndarray, float, int]] = []

    def put(self, pixel_format, pixels, captured_at, index) -> None:
        self.frames = [*self.frames[-99:], (pixel_format, pixels.copy(), captured_at, index)]


@pytest.fixture
def receive():
    """receive(source=..) -> (NdiReceiverProcess that runs, Kept); stopped at the end, which leaves nothing."""
    started = []

    def start(*, put=None, **options):
        kept = Kept()
        receiver = NdiReceiverProcess(put=put or kept.put, **options)
        receiver.start()
        started.append(receiver)
        return receiver, kept

    yield start
    for receiver in started:
        print(receiver.statistics(), receiver.restarts)
        receiver.stop()
        assert receiver.pid == 0
    assert not own_segments("receiver")


def listening(pid: int) -> list[int]:
    """The TCP ports of a process; empty if it has none or is not there."""
    if not pid:
        return []
    return [each.laddr.port for each in psutil.Process(pid).net_connections("tcp") if each.status == psutil.CONN_LISTEN]


def ignores_ctrl_c(pid: int) -> bool:
    """Linux tells which signals a process ignores, as a hexadecimal mask."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigIgn"], 16) >> signal.SIGINT - 1 & 1)


def opaque(picture):
    return np.dstack([picture, np.full(picture.shape[:2], 77, np.uint8)])


def test_pictures_go_out_whole(sender, showing, start_peer, ndi_name, tmp_path, until, photo, bt709, psnr):
    out = tmp_path / "o.npz"
    peer = start_peer(
        "cyndilib_receive.py", "--name", ndi_name, "--out", out, "--frames", 12, "--keep-every", 5, "--program"
    )
    until(lambda: sender.statistics().connections)
    sender.frame_rate = 25
    picture = photo(256, 320)
    showing(opaque(picture))
    until(lambda: sender.statistics().on_program)
    peer.finish()
    got = np.load(out)
    assert set(got["formats"]) == {"UYVY"} and psnr(bt709(got["frame_1"]), picture) >= 30
    assert float(got["rate"]) == pytest.approx(25)
    until(lambda: sender.statistics().sent >= 12)
    statistics = sender.statistics()
    assert statistics.source_name.endswith(f"({ndi_name})") and statistics.last_error == ""
    assert (statistics.width, statistics.height) == (320, 256) and 0 < statistics.latency_seconds < 5
    assert sender.restarts == 0


def test_pictures_come_in_whole(start_peer, ndi_name, receive, until, photo, bt709, psnr, tmp_path):
    picture = photo(360, 640)
    np.save(tmp_path / "frame.npy", opaque(picture))
    start_peer("cyndilib_send.py", "--name", ndi_name, "--npy", tmp_path / "frame.npy").expect("ready")
    receiver, kept = receive(source=ndi_name)
    until(lambda: len(kept.frames) >= 5)
    pixel_format, pixels, captured_at, _ = kept.frames[-1]
    assert pixel_format is PixelFormat.UYVY and psnr(bt709(pixels), picture) >= 30
    assert 0 < time.monotonic() - captured_at < 20
    until(lambda: receiver.statistics().state is ReceiverState.CONNECTED)
    statistics = receiver.statistics()
    assert (statistics.width, statistics.height, statistics.format) == (640, 360, PixelFormat.UYVY)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT])
def test_a_dead_sender_is_replaced_and_its_receiver_goes_on(
    how, sender, showing, start_peer, ndi_name, tmp_path, until, photo, bt709, psnr
):
    out = tmp_path / "o.npz"
    peer = start_peer("cyndilib_receive.py", "--name", ndi_name, "--out", out, "--seconds", 8, "--keep-every", 1, "--keep-most", 500)
    until(lambda: sender.statistics().connections)
    picture = photo(256, 320)
    took = showing(opaque(picture))
    peer.expect("first")
    until(lambda: sender.statistics().sent >= 20)
    first = sender.pid
    os.kill(first, how)
    died = time.monotonic()
    until(lambda: how.name in sender.statistics().last_error)
    assert "started again" in sender.statistics().last_error
    until(lambda: sender.pid not in (0, first))
    until(lambda: sender.statistics().connections and not sender.statistics().last_error)
    sent = sender.statistics().sent
    assert sent >= 20 and sender.restarts == 1  # counted on, not anew
    until(lambda: sender.statistics().sent > sent + 20)
    peer.finish()
    got = np.load(out)
    times = got["times"]
    print(f"receiver without a picture for {np.diff(times).max():.2f} s; longest show {max(took) * 1000:.1f} ms")
    later = np.flatnonzero(times > died + np.diff(times).max())
    assert len(later) >= 5
    assert psnr(bt709(got[f"frame_{np.flatnonzero(got['kept_at'] == later[-1])[0]}"]), picture) >= 30


def test_the_last_picture_is_shown_again_by_a_new_child(sender, start_peer, ndi_name, tmp_path, until):
    """Nobody shows anything any more when the sender dies: the picture that was on comes back by itself."""
    start_peer("cyndilib_receive.py", "--name", ndi_name, "--out", tmp_path / "o.npz", "--seconds", 20)
    until(lambda: sender.statistics().connections)
    sender.show(Frame(pixels=np.zeros((64, 64, 4), np.uint8), format=PixelFormat.BGRX, captured_at=time.monotonic(), index=0))
    until(lambda: sender.statistics().sent == 1)
    os.kill(sender.pid, signal.SIGKILL)
    until(lambda: sender.statistics().sent == 2)
    assert sender.restarts == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT])
def test_a_dead_receiver_is_replaced(how, start_peer, ndi_name, receive, until):
    start_peer("cyndilib_send.py", "--name", ndi_name).expect("ready")
    receiver, kept = receive(source=ndi_name)
    until(lambda: len(kept.frames) >= 10)
    first = receiver.pid
    os.kill(first, how)
    until(lambda: how.name in receiver.statistics().last_error)
    until(lambda: receiver.pid not in (0, first))
    before = kept.frames[-1][3]
    until(lambda: kept.frames[-1][3] > before + 10)
    indices = np.array([frame[3] for frame in kept.frames])
    assert (np.diff(indices) >= 1).all() and receiver.restarts == 1
    until(lambda: receiver.statistics().state is ReceiverState.CONNECTED and not receiver.statistics().last_error)
    assert receiver.statistics().connects == 2


def test_a_hung_receiver_is_replaced(start_peer, ndi_name, receive, until, monkeypatch):
    monkeypatch.setattr(keeper, "PATIENCE_SECONDS", 2.0)
    start_peer("cyndilib_send.py", "--name", ndi_name).expect("ready")
    receiver, kept = receive(source=ndi_name)
    until(lambda: len(kept.frames) >= 10)
    os.kill(receiver.pid, signal.SIGSTOP)
    until(lambda: "did not answer" in receiver.statistics().last_error)
    before = kept.frames[-1][3]
    until(lambda: kept.frames[-1][3] > before + 10)
    assert receiver.restarts == 1


def test_larger_frames_make_room_for_themselves(sender, showing, start_peer, ndi_name, receive, until):
    receiver, kept = receive(source=ndi_name)
    until(lambda: sender.statistics().connections)
    pixels = np.full((2160, 2560, 4), 120, np.uint8)
    pids = (sender.pid, receiver.pid)
    showing(pixels)
    until(lambda: kept.frames, 30)
    assert kept.frames[-1][1].nbytes == pixels.nbytes // 2 > USUAL_BYTES
    assert pids[0] != sender.pid and pids[1] != receiver.pid
    until(lambda: not sender.statistics().last_error and not receiver.statistics().last_error)
    assert sender.restarts == receiver.restarts == 0 and sender.statistics().dropped >= 1


def test_a_name_in_use_is_an_error_until_it_is_free(start_peer, ndi_name):
    peer = start_peer("cyndilib_send.py", "--name", ndi_name)
    peer.expect("ready")
    ours = NdiSenderProcess(name=ndi_name)
    with pytest.raises(NdiNameTaken, match=ndi_name):
        ours.start()
    assert ours.pid == 0 and not own_segments()
    peer.kill()
    ours.start()
    assert ours.statistics().source_name.endswith(f"({ndi_name})")
    ours.stop()
    with pytest.raises(NdiRefused, match="too long"):
        NdiSenderProcess(name="n" * 300).start()


def test_a_killed_parent_takes_its_children_and_memory_along(ndi_environment, ndi_name, until):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, ndi_name], env=ndi_environment, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        word, *pids = holder.stdout.readline().split()
        assert word == "up"
        mine = f"{segments.PREFIX}_{holder.pid}_"
        assert len([name for name in segments.present() if name.startswith(mine)]) == 2
        assert len(pids) == 2
        if sys.platform == "linux":
            until(lambda: all(ignores_ctrl_c(int(pid)) for pid in pids), 5)
    finally:
        holder.kill()
        holder.wait(10)
        holder.stdout.close()
    until(lambda: not any(psutil.pid_exists(int(pid)) for pid in pids), 5)
    again = NdiSenderProcess(name=ndi_name)
    again.start()  # the name is free, and what was left is swept
    again.stop()
    assert not [name for name in segments.present() if name.startswith(mine)]


def test_a_storm_of_connections_cut_at_once(sender, showing, start_peer, ndi_name, tmp_path, until):
    """What a port scan does to the sender: it may die of that, this process may not, and the receiver gets its picture."""
    out = tmp_path / "o.npz"
    peer = start_peer("cyndilib_receive.py", "--name", ndi_name, "--out", out, "--seconds", 30, "--frames", 1 << 20)
    until(lambda: sender.statistics().connections)
    showing(np.full((64, 64, 4), 99, np.uint8))
    peer.expect("first")
    ports: list[int] = []
    made = 0
    end = time.monotonic() + STORM_SECONDS
    while made < STORM and time.monotonic() < end:
        try:
            ports = ports or listening(sender.pid)
            for port in ports:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                made += 1
        except (OSError, psutil.Error):  # it has just died of it
            ports = []
        if not ports:
            time.sleep(0.02)
    print(f"{made} connections, {sender.restarts} restarts")
    assert made >= STORM // 10
    sent = sender.statistics().sent
    until(lambda: sender.statistics().connections and sender.statistics().sent > sent + 30)
    assert peer.process.poll() is None
    peer.kill()


def test_the_child_is_light():
    """It starts in the time that a bridge has: no torch, no cv2, no web server, no OSC."""
    code = "import sys, bridge.ndi.child; print([name for name in ('torch', 'cv2', 'av', 'starlette', 'pythonosc') if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment).stdout.strip() == "[]"
