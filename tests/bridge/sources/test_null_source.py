"""The source without frames."""

from bridge.sources.null_source import NullSource


def test_it_gives_nothing_and_never_ends(taken) -> None:  # type: ignore[no-untyped-def]
    source = NullSource(taken.put)
    source.start()
    assert (source.state, source.ended, source.describe()) == ("no input", False, "no input")
    source.stop()
    assert source.state == "stopped" and taken.frames == []
