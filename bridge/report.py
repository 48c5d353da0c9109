"""The report of a run as one JSON file: what ran, what it took, what it lost. Written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

from bridge.latency import Percentiles
from bridge.mistake import Mistake
from engine.control.parameter import Value


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """The report's keys, in their order.

    frames_in: frames the engine took. frames_out: frames it finished. dropped: input frames replaced unseen by a newer
    one. skipped: not computed, as they resembled the last. shown: frames the sinks got, of which `repeated` were on
    before. fps: frames finished a second of the running time `seconds`. latency_ms: capture to sinks, over the whole
    run. runtime: what ran the networks, and in which precision. stage_ms: milliseconds of the engine's stages, recently.
    punctuality: of a video stream as its engine saw it, since it was started or reset: milliseconds to the first frame,
    latency (until a picture is on the host), jitter of it from chunk to chunk, and frames after the deadline.
    size: width and height of a finished frame.
    """

    version: str
    source: str
    sinks: tuple[str, ...]
    model: str
    device: str
    dtype: str
    runtime: str
    size: tuple[int, int]
    seed: int
    seconds: float
    frames_in: int
    frames_out: int
    dropped: int
    skipped: int
    shown: int
    repeated: int
    late_ticks: int
    fps: float
    shown_fps: float
    latency_ms: Percentiles
    stage_ms: Mapping[str, float]
    engine_restarts: int
    error: str
    parameters: Mapping[str, Value]
    osc: Mapping[str, int] = field(default_factory=dict)
    punctuality: Mapping[str, float] = field(default_factory=dict)


def version() -> str:
    """The version of Phosphene that runs."""
    try:
        return installed_version("phosphene")
    except PackageNotFoundError:
        return "0 (not installed)"


def make_folder_for(path: Path) -> None:
    """Be sure, before a run, that a report can be written afterwards. Raises Mistake."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
    except OSError as error:
        raise _unwritable(path, error) from error


def write_report(path: Path, report: RunReport) -> None:
    """Write the report as JSON. Raises Mistake, and leaves what was there before untouched."""
    content = {row.name: getattr(report, row.name) for row in fields(report)}
    text = json.dumps(_rounded(content), indent=2, ensure_ascii=False) + "\n"
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        make_folder_for(path)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> Mistake:
    return Mistake(f"the report {path} cannot be written: {error.strerror or error}")


def _rounded(content: object) -> object:
    """The same with floats at four places, as a report is read by people too."""
    match content:
        case float():
            return round(content, 4)
        case Percentiles():
            return _rounded(asdict(content))
        case Mapping():
            return {key: _rounded(item) for key, item in content.items()}
        case list() | tuple():
            return [_rounded(item) for item in content]
        case _:
            return content
