"""A deadline in a whole video stream: the steps that run are the steps that were planned, whatever else is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.control.live_values import LiveValues
from engine.frames import Frame
from engine.models.video_denoiser import VideoDenoiser
from engine.pipelines.chunk_plan import ONLY_COUNTED
from engine.pipelines.video_build import LoadedVideoStream
from tests.engine.models.conftest import tiny_wan  # noqa: F401
from tests.engine.pipelines.test_video_stream import STREAM_V2, Make, feed, loaded, make  # noqa: F401


class Machine:
    """Counts the denoiser's calls of each chunk; every call takes `forward` seconds as far as the stream can tell."""

    def __init__(self, stream: LoadedVideoStream, monkeypatch: pytest.MonkeyPatch, forward: float) -> None:
        self.forward, self.calls = forward, 0
        self.of_chunks: list[int] = []
        right = VideoDenoiser.__call__

        def counted(denoiser, *given):  # type: ignore[no-untyped-def]
            self.calls += 1
            return right(denoiser, *given)

        monkeypatch.setattr(VideoDenoiser, "__call__", counted)
        monkeypatch.setattr(stream, "newest_stage_ms", self.stage_ms)

    def stage_ms(self) -> dict[str, float]:
        self.of_chunks.append(self.calls)
        self.calls = 0
        return {"encode": 1.0, "denoise": 1000.0 * self.forward * self.of_chunks[-1], "decode": 1.0}


def learned(stream: LoadedVideoStream) -> float:
    """Seconds of a call, as the controller believes."""
    control = stream._deadline._control
    assert control is not None
    return control._costs.of(control.plan).forward


def show(stream: LoadedVideoStream, values: LiveValues, moving: Callable[[int], Frame], chunks: int) -> None:
    feed(stream, values, [moving(i) for i in range(4 * chunks + 1)])


@pytest.mark.parametrize(
    ("scheduler", "forward", "at_first", "settled"),
    [("sequential", 0.1, 3, 1), ("clean_rerun", 0.1, 4, 2), ("clean_rerun", 0.05, 4, 2)],
)
def test_a_list_of_steps_follows_a_deadline_and_its_calls_are_counted(
    make: Make, moving: Callable[[int], Frame], monkeypatch: pytest.MonkeyPatch,  # noqa: F811
    scheduler: str, forward: float, at_first: int, settled: int,
) -> None:  # fmt: skip
    """Four pictures at 30 a second are 133 ms, which is what a chunk may take."""
    stream, values = make(step_list=[800, 600, 300], deadline=400.0, step_scheduler=scheduler)
    machine = Machine(stream, monkeypatch, forward)
    show(stream, values, moving, 60)
    assert machine.of_chunks[0] == at_first and set(machine.of_chunks[-20:]) == {settled}
    assert learned(stream) == pytest.approx(forward)


def test_no_fewer_steps_than_the_fewest_asked_for(
    make: Make, moving: Callable[[int], Frame], monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    stream, values = make(steps=4, deadline=400.0, fewest_steps=2)
    machine = Machine(stream, monkeypatch, 10.0)
    show(stream, values, moving, 40)
    assert machine.of_chunks[0] == 4 and machine.of_chunks[-1] == 2 and min(machine.of_chunks) == 2
    values.set_many({"steps": 1, "fewest_steps": 8})
    show(stream, values, moving, 2)
    assert machine.of_chunks[-1] == 1, "the steps asked for are the most"


def test_text_to_video_takes_steps_away_for_its_deadline(
    make: Make, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    stream, values = make(replace(STREAM_V2, noise="fixed"), mode="text_to_image", steps=4, deadline=120.0, step_scheduler="clean_rerun")
    machine = Machine(stream, monkeypatch, 0.03)
    found = feed(stream, values, [None] * (4 * 40))
    # At most 85 of 100 parts of 113 ms for 4 pictures at 30 a second, and 102 ms of the deadline: two steps and the further call.
    assert machine.of_chunks[0] == 5 and set(machine.of_chunks[-10:]) == {3}
    assert [f.index for f in found] == list(range(len(found))) and len(found) > 150
    assert learned(stream) == pytest.approx(0.03)
    values.set("deadline", 0.0)
    machine.of_chunks.clear()
    feed(stream, values, [None] * 8)
    assert set(machine.of_chunks) == {5}


def test_pictures_out_of_nothing_after_the_deadline_are_counted(make: Make) -> None:  # noqa: F811
    stream, values = make(mode="text_to_image", deadline=0.001)
    moments = iter(range(1000))
    stream._clock = lambda: float(next(moments))
    feed(stream, values, [None] * 5)
    assert stream.punctuality().missed == stream.punctuality().frames == 5


def test_a_rolling_window_tells_once_that_a_deadline_changes_nothing_and_counts(
    make: Make, moving: Callable[[int], Frame]  # noqa: F811
) -> None:
    stream, values = make(replace(STREAM_V2, cache="ring", sink_threshold=0.0), step_scheduler="rolling_window", deadline=1.0)
    show(stream, values, moving, 6)
    assert stream.problems() == [ONLY_COUNTED]
    assert stream.punctuality().missed == stream.punctuality().frames > 0, "the clock stands at 123 s"
