"""A video stream built from a folder over gloo ranks: the frames of one process, what does not go over ranks, an orderly end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from engine.control.live_values import LiveValues
from engine.frames import Frame
from engine.models.catalogue import resolve
from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_weights import load_video
from engine.pipelines import rank_denoising
from engine.pipelines.build import build_stream, close_stream
from engine.pipelines.denoising import DenoisingHere, ThisProcess
from engine.pipelines.rank_denoising import LayersOverRanks
from engine.pipelines.rank_team import check_policies, rank_device
from engine.pipelines.video_build import LoadedVideoStream, assemble
from engine.pipelines.video_parts import DenoisingKind
from engine.settings import Settings, SettingsError
from engine.video.phased_batch import LocalLine, PhasedBatch
from engine.video.schedulers import Chunk, StreamBatch
from tests.engine.models.conftest import tiny_wan  # noqa: F401
from tests.engine.pipelines.test_video_stream import STREAM_V2

POLICIES = {
    "input_latents": "raw", "timesteps": [700, 500, 400], "warped": False, "shift": 8.0, "step_rule": "first", "frames": 1,
    "first_frames": 2, "window": 5, "sinks": 2, "scheduler": "sequential", "cache": "adaptive_sinks", "sink_threshold": 0.2,
    "positions": "reset", "reset_at": 10, "restart_at": 5, "noise": "motion_aware", "on_prompt": "recache",
}  # fmt: skip
CHUNKS, SOON = 14, 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the ranks have: the number of threads decides in which order a product is summed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def soon_balanced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured within a short stream."""
    monkeypatch.setattr(rank_denoising, "BALANCE_AFTER", SOON)


@pytest.fixture(scope="module")
def folder(tiny_wan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A model with two layers and policies of its own."""
    copy = Path(shutil.copytree(tiny_wan, tmp_path_factory.mktemp("ranked") / "video"))
    (copy / "video_policies.json").write_text(json.dumps(POLICIES))
    return copy


def settings(folder: Path, **more: object) -> Settings:
    return Settings(model=str(folder), device="cpu", dtype="float32", threads=1, **more)  # type: ignore[arg-type]


def opened(**asked: object) -> LiveValues:
    values = LiveValues()
    values.set_many({"width": 64, "height": 64, "prompt": "a cat", "seed_mode": "random", "prompt_recache": "keep", **asked})
    values.jump()
    return values


def show(stream: LoadedVideoStream, values: LiveValues, moving: Callable[[int], Frame], chunks: int = CHUNKS) -> list[Frame]:
    """A stream with another prompt in between, a new size, and a reset."""
    found: list[Frame] = []
    frames = 4 * chunks + 1
    for index in range(frames):
        if index == frames // 3:
            values.set("prompt", "oil painting")
        if index == frames - 9:
            values.set("width", 80)
        values.jump()
        found += stream.step(moving(index), values.snapshot(0.0))
    found += stream.flush(values.snapshot(0.0))
    stream.reset()
    for index in range(frames, frames + 9):
        found += stream.step(moving(index), values.snapshot(0.0))
    return found + stream.flush(values.snapshot(0.0))


def rank_processes() -> list[psutil.Process]:
    """The further ranks; other tests may have left this process a child of Python's own, which tracks shared memory."""
    return [child for child in psutil.Process().children() if "live()" in " ".join(child.cmdline())]


def over_ranks(folder: Path, moving: Callable[[int], Frame], asked: dict[str, object], **more: object) -> list[Frame]:
    values = opened(**asked)
    stream = build_stream(settings(folder, **more), values.snapshot(0.0), live=False)
    assert isinstance(stream, LoadedVideoStream)
    children = rank_processes()
    assert len(children) == more["ranks"] - 1  # type: ignore[operator]
    try:
        frames = show(stream, values, moving)
    finally:
        close_stream(stream)
    assert not [child for child in children if child.is_running()] and stream.in_flight == 0
    return frames


def alike(found: list[Frame], expected: list[Frame]) -> bool:
    assert [frame.index for frame in found] == [frame.index for frame in expected] == list(range(len(found)))
    return all(np.array_equal(a.pixels, b.pixels) and a.captured_at == b.captured_at for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        ({"steps": 1}, {"ranks": 2}),
        ({"steps": 2, "step_scheduler": "sequential"}, {"ranks": 2, "codec_rank": True}),
    ],
    ids=["layers", "codec"],
)
def test_two_ranks_give_the_frames_of_one_process_bit_for_bit(
    folder: Path, moving: Callable[[int], Frame], asked: dict[str, object], more: dict[str, object]
) -> None:
    values = opened(**asked)
    alone = build_stream(settings(folder), values.snapshot(0.0), live=False)
    assert isinstance(alone, LoadedVideoStream)
    assert alike(over_ranks(folder, moving, asked, **more), show(alone, values, moving))


class Alone(StreamBatch):
    """Every chunk by itself through the rows: the calls that ranks with steps of their own make."""

    def enter(self, chunk: Chunk) -> list[Chunk]:
        return super().enter(chunk) + self.flush()


class SameCalls(ThisProcess):
    """One process that makes the network calls of several ranks, in their order."""

    only_scheduler = "stream_batch"

    def __init__(self, folder: Path, way: str) -> None:
        self.loaded = load_video(resolve(str(folder)), device=torch.device("cpu"), dtype=torch.float32)
        super().__init__(VideoDenoiser(self.loaded.transformer), self.loaded.policies)
        self._way = way

    def begin(self, kind: DenoisingKind, first: Callable[[Tensor], Tensor] | None) -> DenoisingHere:
        made = super().begin(kind, first)
        assert isinstance(made, DenoisingHere)
        rollout = made.rollout
        made.scheduler = PhasedBatch(rollout, LocalLine(rollout), phases=2) if self._way == "layers" else Alone(rollout)
        return made


@pytest.mark.parametrize("way", ["layers", "steps"])
def test_several_steps_over_ranks_give_the_bits_of_the_same_calls_in_one_process(
    folder: Path, moving: Callable[[int], Frame], way: str
) -> None:
    site, values = SameCalls(folder, way), opened(steps=2)
    alone = assemble(site.loaded, values.snapshot(0.0), encoder=site.loaded.prompts(), wait=True, site=site)
    expected = show(alone, values, moving)
    more = {"ranks": 3, "codec_rank": True} if way == "steps" else {"ranks": 2}
    assert alike(over_ranks(folder, moving, {"steps": 2}, parallel=way, **more), expected)


def test_what_ranks_cannot_do_while_it_runs_is_told_once_and_the_picture_goes_on(folder: Path, moving: Callable[[int], Frame]) -> None:
    values = opened(steps=1, prompt_recache="recache", step_scheduler="clean_rerun", prompt_chunks=1)
    stream = build_stream(settings(folder, ranks=2), values.snapshot(0.0), live=False)
    assert isinstance(stream, LoadedVideoStream)
    found, told = [], []
    try:
        for index in range(41):
            values.set("prompt", ("a cat", "oil painting", "sea")[index // 14])
            values.set("steps", 1 + index // 20)
            found += stream.step(moving(index), values.snapshot(0.0))
            told += stream.problems()
        found += stream.flush(values.snapshot(0.0))
    finally:
        close_stream(stream)
    assert [frame.index for frame in found] == list(range(41))
    assert len(told) == len(set(told)) == 3
    for part in ("step scheduler clean_rerun", "recaching needs all blocks", "empty context"):
        assert any(part in sentence for sentence in told)


@pytest.mark.parametrize(
    ("policies", "more", "words"),
    [
        ({"cache": "recompute", "context": 2, "sinks": 0}, {"ranks": 2}, "computes its context anew"),
        ({"cache": "rolling_sink", "positions": "cache_relative"}, {"ranks": 2}, "computes its context anew"),
        ({"cache": "ring", "scheduler": "rolling_window"}, {"ranks": 2}, "moving window"),
        ({}, {"ranks": 5, "parallel": "steps"}, "4 denoising steps"),
    ],
    ids=["recompute", "rolling sink", "window", "steps"],
)
def test_models_that_do_not_go_over_ranks_are_refused_in_plain_words(
    policies: dict[str, object], more: dict[str, object], words: str
) -> None:
    asked = Settings(**more)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=words):
        check_policies(replace(STREAM_V2, **policies), asked, "A model")  # type: ignore[arg-type]
    assert check_policies(replace(STREAM_V2, **policies), Settings(ranks=2, codec_rank=True), "A model") == []  # type: ignore[arg-type]


def test_a_clean_rerun_that_does_not_go_over_ranks_is_told() -> None:
    told = check_policies(replace(STREAM_V2, scheduler="clean_rerun"), Settings(ranks=2), "A model")
    assert len(told) == 1 and "noisier" in told[0]


@pytest.mark.parametrize("model", ["embedded", "passthrough"])
def test_image_models_are_refused(model: str) -> None:
    with pytest.raises(SettingsError, match="does not go over ranks"):
        build_stream(Settings(model=model, ranks=2), LiveValues().snapshot(0.0), live=False)


def test_more_ranks_than_blocks_are_refused_and_nobody_is_left_waiting(folder: Path) -> None:
    with pytest.raises(SettingsError, match="2 blocks"):
        build_stream(settings(folder, ranks=3), opened().snapshot(0.0), live=False)
    assert not rank_processes()


def test_ranks_need_as_many_gpus_and_no_apple_one() -> None:
    with pytest.raises(SettingsError, match="99|need as many GPUs"):
        rank_device(torch.device("cuda", 99), Settings(ranks=2), 1)
    with pytest.raises(SettingsError, match="not on mps"):
        rank_device(torch.device("mps"), Settings(ranks=2), 0)
    assert rank_device(torch.device("cpu"), Settings(ranks=2), 1) == torch.device("cpu")


@pytest.mark.parametrize("wrong", [{"ranks": 0}, {"ranks": 17}, {"parallel": "heads"}, {"codec_rank": True}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        Settings(**wrong)  # type: ignore[arg-type]


def test_a_stream_that_ends_in_the_middle_of_its_work_ends_its_ranks_in_order(
    folder: Path, moving: Callable[[int], Frame], capfd: pytest.CaptureFixture[str]
) -> None:
    values = opened(steps=2)
    stream = build_stream(settings(folder, ranks=3, codec_rank=True), values.snapshot(0.0), live=False)
    ranks = rank_processes()
    for index in range(21):
        stream.step(moving(index), values.snapshot(0.0))
    assert stream.in_flight
    close_stream(stream)
    assert not [rank for rank in ranks if rank.is_running()] and "lost" not in capfd.readouterr().err


def test_blocks_move_at_the_stated_moment(folder: Path, moving: Callable[[int], Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    balanced: list[int] = []
    right = LayersOverRanks.chunk_entered
    values = opened(steps=1)
    stream = build_stream(settings(folder, ranks=2), values.snapshot(0.0), live=False)
    assert isinstance(stream, LoadedVideoStream)

    def noted(self: LayersOverRanks, other_seconds: float) -> None:
        monkeypatch.setattr(self.head, "balance", lambda other: balanced.append(self._chunks))
        right(self, other_seconds)

    monkeypatch.setattr(LayersOverRanks, "chunk_entered", noted)
    try:
        for index in range(4 * (SOON + 2)):
            stream.step(moving(index), values.snapshot(0.0))
    finally:
        close_stream(stream)
    assert balanced == [SOON]

