"""Two and three processes against one: the same latents and pictures bit for bit."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from engine.models.video_denoiser import VideoDenoiser
from engine.pipelines.rank_prompts import PromptedNetwork, RankPrompts
from engine.video.phased_batch import LocalLine, PhasedBatch
from engine.video.schedulers import StreamBatch
from tests.engine.pipelines import rank_programs as programs
from tests.engine.video import tiny

SPAWN = multiprocessing.get_context("spawn")
GROUP_SECONDS = 120.0


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As the ranks have: the number of threads decides in which order a product is summed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=[2, 3])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, list[Tensor]]]:
    """What a group of ranks made, in every way of sharing the work."""
    folder = tmp_path_factory.mktemp("ranks")
    process = SPAWN.Process(target=programs.head, args=(folder, request.param))
    process.start()
    process.join(GROUP_SECONDS)
    process.kill()  # its ranks end with it
    assert process.exitcode == 0
    return request.param, torch.load(folder / "made.pt", weights_only=True)


class OneProcess:
    """The same stream on one rank."""

    def __init__(self, kind: str) -> None:
        denoiser = VideoDenoiser(tiny.model(programs.LAYERS))
        self._prompts = RankPrompts(denoiser)
        self.rollout = programs.make_rollout(kind, PromptedNetwork(denoiser, self._prompts), lambda: denoiser)

    def stream(self, scheduler: PhasedBatch | StreamBatch) -> list[Tensor]:
        keep = self._prompts.keep
        return programs.run_stream(scheduler, self.rollout, lambda seed: keep(seed + 1, tiny.prompt_tokens(seed)), lambda: None)

    def phased(self, phases: int) -> list[Tensor]:
        return self.stream(PhasedBatch(self.rollout, LocalLine(self.rollout), phases=phases))


@pytest.mark.parametrize("kind", ["ring", "adaptive"])
def test_a_layer_ring_whose_blocks_move_gives_the_bits_of_one_process(made: tuple[int, dict[str, list[Tensor]]], kind: str) -> None:
    ranks, results = made
    alone = OneProcess(kind).phased(ranks)
    assert all(torch.equal(one, other) for one, other in zip(alone, results[kind], strict=True))


def test_the_phases_of_the_ring_change_no_picture(made: tuple[int, dict[str, list[Tensor]]]) -> None:
    _, results = made
    process = OneProcess("ring")
    for one, other in zip(process.stream(StreamBatch(process.rollout)), results["ring"], strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=0)


class Alone(StreamBatch):
    """Every chunk by itself through the rows: the calls that ranks with steps of their own make."""

    def enter(self, chunk: programs.Chunk) -> list[programs.Chunk]:
        return super().enter(chunk) + self.flush()


def test_denoising_steps_on_ranks_give_the_bits_of_one_process(made: tuple[int, dict[str, list[Tensor]]]) -> None:
    _, results = made
    process = OneProcess("ring")
    alone = process.stream(Alone(process.rollout))
    assert all(torch.equal(one, other) for one, other in zip(alone, results["steps"], strict=True))


def test_a_codec_on_its_own_rank_gives_the_bits_of_one_process(made: tuple[int, dict[str, list[Tensor]]]) -> None:
    ranks, results = made
    codec, pictures = programs.codec(), programs.clip()
    latents = codec.encode(pictures)
    expected = [latents, codec.decode(latents), codec.encode_alone(pictures[:, :1])] * 2
    assert all(torch.equal(one, other) for one, other in zip(expected, results["codec"], strict=True))
    if ranks == 3:
        alone = OneProcess("ring").phased(2)
        assert all(torch.equal(one, other) for one, other in zip(alone, results["ring beside codec"], strict=True))
