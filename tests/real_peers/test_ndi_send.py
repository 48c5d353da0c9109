"""NdiSender against a receiver that we did not write: pictures, alpha, padding, timecode, tally, names, idleness."""

from __future__ import annotations

import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from bridge.ndi.library import NdiNameTaken, NdiRefused
from bridge.ndi.sender import NdiSender
from engine.frames import Frame, PixelFormat

pytestmark = pytest.mark.usefixtures("own_name_locks")


@pytest.fixture
def sender(ndi_name):
    """A sender that runs, stopped at the end, which must not leave a thread."""
    made = NdiSender(name=ndi_name, frame_rate=59.94)
    made.start()
    yield made
    made.stop()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ndi sender")]


@pytest.fixture
def showing(sender):
    """showing(pixels, format): show it 50 times a second from a thread, until the end of the test."""
    stop, threads = threading.Event(), []

    def start(pixels, pixel_format):
        def run():
            index = 0
            while not stop.wait(0.02):
                sender.show(Frame(pixels=pixels, format=pixel_format, captured_at=time.monotonic(), index=index))
                index += 1

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def received(start_peer, ndi_name, tmp_path):
    """received(*arguments) -> what the peer wrote."""

    def run(*arguments):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
        peer = start_peer(
            "cyndilib_receive.py", "--name", ndi_name, "--out", out, "--frames", 12, "--keep-every", 5, *arguments
        )
        peer.finish()
        return dict(np.load(out))

    return run


def opaque(picture):
    return np.dstack([picture, np.full(picture.shape[:2], 77, np.uint8)])


def test_an_opaque_picture_and_its_readouts(sender, showing, received, photo, bt709, psnr):
    picture = photo(256, 320)
    showing(opaque(picture), PixelFormat.BGRX)
    got = received("--program")
    assert set(got["formats"]) == {"UYVY"}  # no alpha: the fourth byte was not sent
    assert psnr(bt709(got["frame_1"]), picture) >= 30
    assert float(got["rate"]) == pytest.approx(float(Fraction(60000, 1001)))
    statistics = sender.statistics()
    assert statistics.sent >= 12 and (statistics.width, statistics.height) == (320, 256)
    assert statistics.last_error == "" and 0 < statistics.latency_seconds < 5


def test_alpha_survives(showing, received, photo, psnr):
    picture = photo(256, 320)
    ramp = np.broadcast_to(np.linspace(0, 255, 320).astype(np.uint8), (256, 320))
    showing(np.dstack([picture, ramp]), PixelFormat.BGRA)
    got = received()
    assert set(got["formats"]) == {"BGRA"}
    assert psnr(got["frame_1"][..., :3], picture) >= 30
    assert np.abs(got["frame_1"][..., 3].astype(int) - ramp).max() <= 2


def test_uyvy_passes_through(showing, received):
    """Bytes in, bytes out, without a colour conversion: each plane keeps to the codec's loss."""
    y, x = np.mgrid[0:180, 0:320]
    uyvy = np.empty((180, 320, 2), np.uint8)
    uyvy[..., 1] = 126 + 100 * np.sin(x / 31) * np.cos(y / 23)
    uyvy[:, 0::2, 0] = 60 + y[:, 0::2]
    uyvy[:, 1::2, 0] = 200 - y[:, 0::2] // 2
    showing(uyvy, PixelFormat.UYVY)
    got = received()
    assert set(got["formats"]) == {"UYVY"}
    assert np.abs(got["frame_1"].astype(int) - uyvy).mean() < 1.5


def test_odd_sides_are_padded_not_cut(showing, received, photo, bt709, psnr):
    picture = photo(241, 321)
    picture[:, -1] = [20, 30, 240]
    showing(opaque(picture), PixelFormat.BGRX)
    got = received()
    assert set(got["widths"]) == {322} and set(got["heights"]) == {242}
    back = bt709(got["frame_1"])
    assert psnr(back, np.pad(picture, ((0, 1), (0, 1), (0, 0)), mode="edge")) >= 28
    assert np.abs(back[100, 321] - [20, 30, 240]).max() < 60  # the repeated column, not black


def test_timecodes_are_the_times_of_capture(sender, start_peer, ndi_name, tmp_path, until):
    """Frames captured 0.25 s apart, shown whenever: their timecodes are 0.25 s apart, in UTC."""
    out = tmp_path / "out.npz"
    peer = start_peer("cyndilib_receive.py", "--name", ndi_name, "--out", out, "--frames", 4)
    until(lambda: sender.statistics().connections)
    began, wall = time.monotonic(), time.time()
    pixels = np.zeros((64, 64, 4), np.uint8)
    for index in range(400):
        if peer.process.poll() is not None:
            break
        sender.show(Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=began + index / 4, index=index))
        time.sleep(0.05)
    peer.finish()
    timecodes = np.load(out)["timecodes"]
    steps = np.diff(timecodes) / 2_500_000
    assert np.abs(steps - np.round(steps)).max() < 1e-4 and (steps > 0.5).all()
    assert abs(timecodes[0] / 1e7 - wall) < 200


def test_tally_and_connections_are_read(sender, showing, start_peer, ndi_name, tmp_path, until):
    showing(np.zeros((64, 64, 4), np.uint8), PixelFormat.BGRX)
    peer = start_peer("cyndilib_receive.py", "--name", ndi_name, "--out", tmp_path / "o.npz", "--program")
    until(lambda: sender.statistics().on_program)
    assert sender.statistics().connections == 1 and not sender.statistics().on_preview
    peer.kill()
    until(lambda: not sender.statistics().connections)
    until(lambda: not sender.statistics().on_program)


def test_nothing_is_encoded_while_nobody_receives(sender, start_peer, ndi_name, tmp_path, until):
    frame = Frame(pixels=np.zeros((64, 64, 4), np.uint8), format=PixelFormat.BGRX, captured_at=0.0, index=0)
    for _ in range(50):
        sender.show(frame)
    assert sender.statistics().sent == 0 and sender.statistics().skipped == 50
    start_peer("cyndilib_receive.py", "--name", ndi_name, "--out", tmp_path / "o.npz")
    until(lambda: sender.statistics().connections)
    sender.show(frame)
    until(lambda: sender.statistics().sent == 1)


def test_a_name_in_use_is_an_error_until_it_is_free(start_peer, ndi_name, until):
    peer = start_peer("cyndilib_send.py", "--name", ndi_name)
    peer.expect("ready")
    ours = NdiSender(name=ndi_name)
    with pytest.raises(NdiNameTaken, match=ndi_name):
        ours.start()
    ours.show(Frame(pixels=np.zeros((64, 64, 4), np.uint8), format=PixelFormat.BGRX, captured_at=0.0, index=0))
    peer.kill()
    ours.start()
    assert ours.statistics().source_name.endswith(f"({ndi_name})")
    ours.stop()
    with pytest.raises(NdiRefused, match="too long"):
        NdiSender(name="n" * 300).start()


def test_stop_while_others_show(ndi_name, start_peer, tmp_path, until):
    sender = NdiSender(name=ndi_name)
    sender.start()
    start_peer("cyndilib_receive.py", "--name", ndi_name, "--out", tmp_path / "o.npz")
    done = threading.Event()
    pixels = np.zeros((720, 1280, 4), np.uint8)

    def show():
        while not done.is_set():
            sender.show(Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=time.monotonic(), index=0))

    threads = [threading.Thread(target=show) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: sender.statistics().sent >= 3)
    sender.stop()
    sent = sender.statistics().sent
    done.set()
    for thread in threads:
        thread.join()
    assert sender.statistics().sent == sent and sender.statistics().connections == 0
    assert sender.statistics().dropped > 0
    sender.start()  # the name is free again
    sender.stop()


def test_the_picture_belongs_to_the_caller_after_show(sender, start_peer, ndi_name, tmp_path, until):
    """The caller paints over its array at once, and faster than can be sent: every received frame is one whole grey."""
    out = tmp_path / "o.npz"
    arguments = ["--out", out, "--frames", 20, "--keep-every", 1, "--color", "BGRX_BGRA"]
    peer = start_peer("cyndilib_receive.py", "--name", ndi_name, *arguments)
    until(lambda: sender.statistics().connections)
    pixels = np.zeros((720, 1280, 4), np.uint8)
    shown = 0
    while peer.process.poll() is None:
        for _ in range(5):
            pixels[:] = 40 + shown % 2 * 160
            sender.show(Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=time.monotonic(), index=shown))
            pixels[:] = 128
            shown += 1
        time.sleep(0.01)
    peer.finish()
    got = np.load(out)
    frames = [got[key] for key in got if key.startswith("frame_")]
    assert len(frames) == 20 and sender.statistics().dropped > 0
    for frame in frames:
        inside = frame[..., :3].astype(int)
        assert inside.max() - inside.min() <= 6 and min(abs(inside.mean() - 40), abs(inside.mean() - 200)) < 6
