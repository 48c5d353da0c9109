"""The sink that shows nothing."""

from collections.abc import Callable

from bridge.sinks.null_sink import NullSink
from engine.frames import Frame


def test_it_counts(draw: Callable[..., list[Frame]]) -> None:
    sink = NullSink()
    sink.start()
    for frame in draw(3):
        sink.show(frame)
    assert (sink.state, sink.shown, sink.describe()) == ("running", 3, "no output")
    sink.stop()
    assert sink.state == "stopped"
