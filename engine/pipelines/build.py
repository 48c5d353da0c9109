"""From settings to a stream that is ready to run. Torch is imported only if the model needs it."""

from __future__ import annotations

import os
from typing import Protocol

from engine.control.live_values import Snapshot
from engine.models.catalogue import resolve
from engine.ports import Stream
from engine.settings import PASSTHROUGH, Settings, SettingsError

SPINS = "1000"
"""Turns of GNU's OpenMP, which torch has on Linux, before a waiting thread sleeps: microseconds. On two cores of a virtual machine a
256x256 frame in torch took 0.65 to 0.95 of its time. Beside two programs that each wanted half a core nothing could be told from chance;
with 5000 turns it got slower there."""


class BuiltStream(Stream, Protocol):
    """A stream that can say what it runs on."""

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    @property
    def dtype(self) -> str:
        """In which precision."""
        ...

    @property
    def runtime(self) -> str:
        """What runs its networks at present, and in which precision."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) it works at; (0, 0) if it takes every size."""
        ...


def let_waiting_threads_sleep() -> None:
    """Have torch's CPU threads sleep, not spin, while they wait for each other. Must come before the first import of torch.

    A spinning thread takes the processor from the one it waits for as soon as anything else runs beside the engine: a step that
    takes 80 ms with sleeping threads took 200 ms and more with spinning ones on two cores that also sent NDI. The few microseconds
    between one layer and the next are not worth falling asleep for, though: waking costs more than they last.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def close_stream(stream: Stream) -> None:
    """The orderly end of what a stream has working for it elsewhere, if it has anything."""
    close = getattr(stream, "close", None)
    if close is not None:
        close()


def build_stream(settings: Settings, values: Snapshot, *, live: bool) -> BuiltStream:
    """Load the model of `settings` and make its stream, at the size that `values` name.

    live: texts are encoded beside the stream and the device may be a call ahead; otherwise every frame waits for all it needs.
    Raises SettingsError in plain words for everything the user can put right.
    """
    card = resolve(settings.model)
    if settings.ranks > 1 and card.video is None:
        raise SettingsError(f"{card.title} makes one picture at a time, which does not go over ranks; leave --ranks out")
    if settings.model == PASSTHROUGH:
        from engine.pipelines.passthrough import Passthrough

        return Passthrough()
    let_waiting_threads_sleep()
    if card.video is not None:
        from engine.pipelines.video_build import build_video_stream

        return build_video_stream(settings, values, card, live=live)
    from engine.pipelines.image_build import build_image_stream

    return build_image_stream(settings, values, live=live)
