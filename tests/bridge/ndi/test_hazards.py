"""Every misuse that crashes, hangs or corrupts the bare binding, against our handles, each in its own process."""

from __future__ import annotations

import pytest


def test_a_sender_ends_once_and_is_dead_then(run_script):
    """Bare: a second destroy and a send after it end the process."""
    run_script("""
    sender = SendHandle(name=name)
    send(sender, picture())
    sender.close(); sender.close()
    assert "closed" in raises(NdiRefused, send, sender, picture())
    raises(NdiRefused, sender.connections); raises(NdiRefused, sender.tally)
    SendHandle(name=name).close()
    """)


def test_a_sender_may_end_while_others_send(run_script):
    """Bare: SIGABRT."""
    run_script("""
    for _ in range(4):
        sender = SendHandle(name=name)
        went, refused = [], []
        def work():
            try:
                while True:
                    send(sender, picture(480, 640)); went.append(1)
            except NdiRefused:
                refused.append(1)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        while len(went) < 5: time.sleep(0.001)
        sender.close()
        for thread in threads: thread.join()
        assert len(refused) == 3
    """)


def test_a_receiver_belongs_to_its_thread(run_script):
    """Bare: undefined when two threads use one, or one ends it under the other."""
    run_script("""
    sender = SendHandle(name=name)
    receiver = ReceiveHandle(source=found(sender), receiver_name="test")
    refused = []
    def work():
        for call in (receiver.connections, receiver.dropped_frames, receiver.close,
                     lambda: receiver.newest(timeout_seconds=0),
                     lambda: receiver.set_tally(program=True, preview=False)):
            refused.append(raises(NdiRefused, call))
    thread = threading.Thread(target=work); thread.start(); thread.join()
    assert len(refused) == 5 and all("thread" in text for text in refused)
    arrives(sender, receiver, picture())
    receiver.close(); receiver.close()
    assert "closed" in raises(NdiRefused, receiver.newest, timeout_seconds=0)
    sender.close()
    """)


def test_a_received_picture_outlives_everything(run_script):
    """Bare: pixels read after the frame was given back are other frames', or the process ends."""
    run_script("""
    sender = SendHandle(name=name)
    receiver = ReceiveHandle(source=found(sender), receiver_name="test")
    first = arrives(sender, receiver, picture(level=200))
    before = first.pixels.copy()
    assert first.pixels.flags.owndata
    for _ in range(20):
        arrives(sender, receiver, picture(level=30))
    receiver.close(); sender.close()
    assert (first.pixels == before).all() and abs(before[..., 1].mean() - (16 + 200 * 219 / 255)) < 3
    """)


def test_frames_are_given_back(run_script):
    """Bare: a frame never freed is leaked, 298 of 640x480 make 357 MB."""
    run_script("""
    import psutil
    sender = SendHandle(name=name)
    receiver = ReceiveHandle(source=found(sender), receiver_name="test")
    arrives(sender, receiver, picture(480, 640))
    def exchange(count):
        for _ in range(count):
            arrives(sender, receiver, picture(480, 640))
        return psutil.Process().memory_info().rss
    before = exchange(40)
    grown = exchange(200) - before
    assert grown < 60e6, grown
    receiver.close(); sender.close()
    """)


def test_pictures_are_checked_before_the_library_sees_them(run_script):
    """Bare: silently cast, read past its end, or sent as garbage."""
    run_script("""
    sender = SendHandle(name=name)
    for pixels, pixel_format in (
        (np.zeros((64, 64, 4), np.float32), PixelFormat.BGRX),
        (np.zeros((64, 64, 4), np.uint16), PixelFormat.BGRX),
        (np.zeros((64, 64, 3), np.uint8), PixelFormat.BGRA),
        (np.zeros((64, 64, 4), np.uint8), PixelFormat.UYVY),
        (np.zeros((64, 64, 2), np.uint8), PixelFormat.BGRX),
        (np.zeros((64, 65, 2), np.uint8), PixelFormat.UYVY),
        (np.zeros((64, 64), np.uint8), PixelFormat.BGRX),
        (np.zeros((16, 64, 4), np.uint8), PixelFormat.BGRX),
        (np.zeros((0, 0, 4), np.uint8), PixelFormat.BGRX),
        (np.zeros((64, 128, 4), np.uint8)[:, ::2], PixelFormat.BGRX),
    ):
        raises(PictureRefused, send, sender, pixels, pixel_format)
    for timecode in (-1, 2**63 - 1):
        raises(PictureRefused, sender.send, pixels=picture(), pixel_format=PixelFormat.BGRX, timecode=timecode,
               rate=Fraction(30))
    for text in ("plain", "", "<open>", "<a/>\\0", "<a>" + "x" * 300_000 + "</a>"):
        raises(ValueError, sender.add_connection_metadata, text)
    sender.close()
    """)


@pytest.mark.parametrize("size", [(33, 35), (95, 127), (65, 64)])
def test_odd_pictures_arrive_whole(run_script, size):
    """Bare: the last row and column are lost, a read-only array is fine."""
    height, width = size
    run_script(f"""
    sender = SendHandle(name=name)
    receiver = ReceiveHandle(source=found(sender), receiver_name="test")
    pixels = picture({height}, {width}, 60)
    pixels[:, -1] = 230
    pixels.flags.writeable = False
    even = ({height} + {height} % 2, {width} + {width} % 2)
    for _ in range(200):
        send(sender, pixels)
        arrived = receiver.newest(timeout_seconds=0.05)
        if arrived is not None:
            break
    assert arrived.pixels.shape == (*even, 2) and arrived.timecode == 5
    assert arrived.pixels[:, -1, 1].mean() > 180, arrived.pixels[:, -1, 1]
    receiver.close(); sender.close()
    """)


def test_names(run_script):
    """Bare: None instead of an error, and a crash at its first use."""
    run_script("""
    sender = SendHandle(name=name)
    assert name in raises(NdiNameTaken, SendHandle, name=name)
    for bad in ("", "  ", "a\\0b", "n" * 260, "\\u00fc" * 130):
        raises(NdiRefused, SendHandle, name=bad)
    raises(NdiRefused, SendHandle, name="x" * 100_000)
    sender.close()
    """)


def test_a_finder_ends_once_and_lists_a_source_once(run_script):
    """Bare: a second destroy ends the process; a source asked for 16 times is listed 16 times."""
    run_script("""
    sender = SendHandle(name=name)
    finder = FindHandle(extra_ips=["127.0.0.1"] * 16)
    for _ in range(50):
        finder.wait(timeout_seconds=0.1)
        names = [source.name for source in finder.sources()]
        if sender.full_name in names:
            break
    assert names.count(sender.full_name) == 1
    finder.close(); finder.close()
    raises(NdiRefused, finder.sources)
    sender.close()
    """)


def test_no_connection_is_cut_at_once(run_script):
    """Bare: ended within a millisecond of its begin, 16 of 8,000 receivers took the sender's process with them."""
    run_script("""
    sender = SendHandle(name=name)
    source = found(sender)
    for make in (lambda: FindHandle(extra_ips=["127.0.0.1"]),
                 lambda: ReceiveHandle(source=source, receiver_name="test")):
        began = time.monotonic()
        make().close()
        assert time.monotonic() - began >= 0.29
    sender.close()
    """)


@pytest.mark.parametrize("end", ["", "raise SystemExit(0)"])
def test_leaving_without_a_goodbye_does_not_crash(run_script, end):
    """Bare: a thread inside the library while Python ends aborts the process."""
    run_script(f"""
    from bridge.ndi.receiver import NdiReceiver
    from bridge.ndi.sender import NdiSender
    sender = NdiSender(name=name); sender.start()
    receiver = NdiReceiver(source=name, put=lambda *frame: None); receiver.start()
    while not sender.statistics().connections: time.sleep(0.01)
    print('came to its end', flush=True)
    {end}
    """)


def test_stop_comes_back_in_every_state(run_script):
    run_script("""
    from bridge.ndi.receiver import NdiReceiver
    for source in ("nobody " + name, "127.0.0.1:9", "any", "localhost:9"):
        receiver = NdiReceiver(source=source, put=lambda *frame: None)
        receiver.stop(); receiver.start(); receiver.start()
        stopper = threading.Thread(target=receiver.stop, daemon=True)
        stopper.start(); stopper.join(10)
        assert not stopper.is_alive(), source
    """)


def test_a_silent_source_is_stale_and_asked_again(run_script):
    """Connected but without a frame, a source may be paused or dead: bare, nothing tells."""
    run_script("""
    from bridge.ndi.receiver import NdiReceiver, ReceiverState
    from engine.frames import Frame
    from bridge.ndi.sender import NdiSender
    sender = NdiSender(name=name); sender.start()
    arrived, states = [], set()
    receiver = NdiReceiver(source=name, put=lambda *frame: arrived.append(frame), stale_seconds=0.2)
    receiver.start()
    while receiver.statistics().connects < 2:
        states.add(receiver.statistics().state); time.sleep(0.01)
    assert ReceiverState.STALE in states and not arrived
    while len(arrived) < 3:
        sender.show(Frame(pixels=picture(), format=PixelFormat.BGRX, captured_at=time.monotonic(), index=0))
        time.sleep(0.01)
    assert receiver.statistics().state is ReceiverState.CONNECTED
    receiver.stop(); sender.stop()
    """)


def test_connection_metadata_reaches_a_receiver(run_script):
    """Read by the bare binding: the note about the product comes as XML with its quotes kept."""
    run_script("""
    library.load()
    import NDIlib as ndi, xml.etree.ElementTree as tree
    from bridge.ndi.metadata import product_xml
    sender = SendHandle(name=name)
    sender.add_connection_metadata(product_xml(name='Pho"s & <phene>', version="1.2"))
    source = found(sender)
    receiver = ndi.recv_create_v3(ndi.RecvCreateV3(ndi.Source(source.name, source.url)))
    for _ in range(200):
        _, _, _, note = ndi.recv_capture_v2(receiver, 50, False, False, True)
        if note is not None:
            text = note.data; ndi.recv_free_metadata(receiver, note)
            if "ndi_product" in text:
                break
    assert tree.fromstring(text).attrib["long_name"] == 'Pho"s & <phene>', text
    ndi.recv_destroy(receiver); sender.close()
    """)
