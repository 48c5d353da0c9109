"""Rendering a clip without a clock: every frame, in order, in this process, the same bytes for the same seed."""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import FrameType

from bridge.devices import DEVICE_ERRORS
from bridge.latency import LatencyRecord
from bridge.mistake import PLAIN, Mistake
from bridge.opening import Opening
from bridge.rendered_file import RenderedFile
from bridge.report import RunReport, make_folder_for, version, write_report
from bridge.sources.decode import ClipFacts, Picture, facts_of, pictures_of
from bridge.sources.parse import parse_source
from engine.frames import Frame
from engine.loop_report import plain_words
from engine.pipelines.build import BuiltStream, build_stream, close_stream
from engine.ports import Sink

Advance = Callable[[int], None]
"""Told the number of finished frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderOptions:
    """What is rendered where. fps: rate of the source, None for its own. frames: that many from the start, 0 for all; a
    still picture is rendered that often."""

    source: str
    sink: str
    fps: float | None = None
    frames: int = 0
    report: Path | None = None
    quiet: bool = False


@dataclass(slots=True)
class _Counts:
    """How far a rendering has come. seconds: of computing, without loading."""

    frames_in: int = 0
    frames_out: int = 0
    seconds: float = 0.0
    size: tuple[int, int] = (0, 0)
    latency: LatencyRecord = field(default_factory=LatencyRecord)


def render(options: RenderOptions, opening: Opening) -> bool:
    """Render the whole source; False if it was interrupted, which leaves nothing under the final name. Raises Mistake."""
    if options.report is not None:
        make_folder_for(options.report)
    path, facts = _source(options)
    rendered_file = RenderedFile(options.sink, fps=facts.fps)
    pictures = _pictures(path, facts, frames=options.frames)
    total = options.frames or facts.frame_count
    if facts.frame_count and not facts.still:
        total = min(total, facts.frame_count)
    try:
        with _terminated_like_ctrl_c(), rendered_file as sink, _progress(total, quiet=options.quiet) as advance:
            # Every frame is wanted, also of a picture that stands still.
            opening.values.set("similarity_filter", False)
            stream = _build(opening)
            counts = _render_all(stream, pictures, sink, opening, fps=facts.fps, advance=advance)
            close_stream(stream)
            if counts.frames_out == 0:
                raise Mistake(f"{options.source} gave no finished frame, so nothing was written")
    except KeyboardInterrupt:
        rendered_file.clear()  # it may have come at any moment, while entering too
        return False
    problems = "; ".join(dict.fromkeys(stream.problems()))
    if problems:
        print(f"phosphene: {problems}", file=sys.stderr)
    if options.report is not None:
        write_report(options.report, _report(options, opening, stream, counts, problems))
    if not options.quiet:
        print(f"{options.sink}: {counts.frames_out} frames at {float(facts.fps):g} fps in {counts.seconds:.1f} s")
    return True


def _source(options: RenderOptions) -> tuple[Path, ClipFacts]:
    try:
        spec = parse_source(options.source)
        if spec.path is None:
            raise Mistake(f"a clip, a picture or frames:FOLDER can be rendered, not {options.source!r}")
        facts = facts_of(spec.path)
    except DEVICE_ERRORS as error:
        raise Mistake(str(error)) from error
    rate = Fraction(options.fps).limit_denominator(1001) if options.fps else facts.fps
    return spec.path, replace(facts, fps=rate)


def _pictures(path: Path, facts: ClipFacts, *, frames: int) -> Iterator[Picture]:
    if facts.still:
        return itertools.repeat(next(pictures_of(path)), frames or 1)
    pictures = pictures_of(path)
    return itertools.islice(pictures, frames) if frames else pictures


def _build(opening: Opening) -> BuiltStream:
    try:
        return build_stream(opening.settings, opening.values.snapshot(0.0), live=False)
    except PLAIN:
        raise
    except Exception as error:
        raise Mistake(plain_words(error)) from error


def _render_all(
    stream: BuiltStream, pictures: Iterator[Picture], sink: Sink, opening: Opening, *, fps: Fraction, advance: Advance
) -> _Counts:
    """Every picture through the stream. captured_at is index / fps, so that no clock has a part in the result."""
    counts, began, taken_at = _Counts(), time.monotonic(), {}
    try:
        for index, picture in enumerate(pictures):
            taken_at[index] = time.monotonic()
            counts.frames_in += 1
            frame = Frame(
                pixels=picture.pixels, format=picture.format, captured_at=float(index / fps), index=index
            )
            finished = stream.step(frame, opening.values.snapshot(float(1 / fps)))
            _show(finished, sink, counts, taken_at, advance)
        _show(stream.flush(opening.values.snapshot(0.0)), sink, counts, taken_at, advance)
    except (*PLAIN, *DEVICE_ERRORS) as error:
        raise Mistake(str(error)) from error
    except Exception as error:
        raise Mistake(plain_words(error)) from error
    counts.seconds = time.monotonic() - began
    return counts


def _show(frames: list[Frame], sink: Sink, counts: _Counts, taken_at: dict[int, float], advance: Advance) -> None:
    for frame in frames:
        sink.show(frame)
        counts.frames_out += 1
        counts.size = (frame.width, frame.height)
        if frame.index in taken_at:
            counts.latency.add((time.monotonic() - taken_at.pop(frame.index)) * 1000.0)
        advance(counts.frames_out)


def _report(options: RenderOptions, opening: Opening, stream: BuiltStream, counts: _Counts, problems: str) -> RunReport:
    targets = opening.values.targets()
    fps = counts.frames_out / counts.seconds if counts.seconds else 0.0
    return RunReport(
        version=version(),
        source=options.source,
        sinks=(options.sink,),
        model=stream.model,
        device=stream.device,
        dtype=stream.dtype,
        runtime=stream.runtime,
        size=counts.size,
        seed=int(str(targets["seed"])),
        seconds=counts.seconds,
        frames_in=counts.frames_in,
        frames_out=counts.frames_out,
        dropped=0,
        skipped=stream.skipped,
        shown=counts.frames_out,
        repeated=0,
        late_ticks=0,
        fps=fps,
        shown_fps=fps,
        latency_ms=counts.latency.whole_run(),
        stage_ms=stream.stage_ms(),
        engine_restarts=0,
        error=problems,
        parameters=targets,
    )


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Advance]:
    """A progress bar on a terminal, nothing elsewhere. total: frames, 0 if unknown."""
    if quiet or not sys.stdout.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True
    ) as bar:
        task = bar.add_task("rendering", total=total or None)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that what was begun is taken away."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
