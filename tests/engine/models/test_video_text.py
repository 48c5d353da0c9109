"""umT5 embeddings: those of diffusers' own pipeline, zero beyond the prompt, remembered, made beside the picture, off-loadable."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.models import video_text
from engine.models.catalogue import resolve
from engine.models.video_text import ROOM, VideoTextEncoder, clean, free_bytes
from engine.models.video_weights import LoadedVideoModel, load_video

CPU = torch.device("cpu")
CARD = torch.device("cpu", 0)
"""Stands for a GPU: a place with a name of its own, where tensors can be put on any machine."""
PROMPTS = ("a cat", "", "  oil   painting\nof the sea ", "a &amp;amp; cat", "a cat " * 40)


@pytest.fixture(scope="module")
def loaded(tiny_wan: Path) -> LoadedVideoModel:
    return load_video(resolve(str(tiny_wan)), device=CPU, dtype=torch.float32)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_an_embedding_is_that_of_diffusers_own_pipeline(loaded: LoadedVideoModel, tiny_wan: Path, prompt: str) -> None:
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(tiny_wan)
    with torch.no_grad():
        wanted = pipeline._get_t5_prompt_embeds(prompt, max_sequence_length=512)
    found = loaded.prompts().encode(prompt)
    assert found.tokens.shape == wanted.shape == (1, 512, 32) and found.text == prompt and found.pooled is None
    assert torch.allclose(found.tokens, wanted, atol=2e-5)
    assert not found.tokens.requires_grad


def test_beyond_the_prompt_there_are_exact_zeros(loaded: LoadedVideoModel) -> None:
    tokens = loaded.prompts().encode("a cat at sea").tokens[0]
    assert (tokens[:5].abs().sum(-1) > 0).all()
    assert torch.count_nonzero(tokens[5:]) == 0


def test_a_long_prompt_is_cut_and_told(loaded: LoadedVideoModel) -> None:
    encoder = VideoTextEncoder(loaded.text_encoder, loaded.tokenizer, device=CPU, dtype=torch.float32, tokens=4)
    found = encoder.encode("a cat at sea oil")
    assert found.tokens.shape == (1, 4, 32) and torch.count_nonzero(found.tokens[0, 3]) > 0
    assert encoder.take_problems() == ["the prompt is longer than the 4 tokens this model reads; it does not see 'sea oil'"]


def test_a_prompt_is_encoded_once_on_a_thread_of_its_own(loaded: LoadedVideoModel) -> None:
    encoder, ran = CountingEncoder(loaded.text_encoder), threading.Event()
    prompts = VideoTextEncoder(encoder, loaded.tokenizer, device=CPU, dtype=torch.float32)
    encoder.done = ran
    assert prompts.fetch("a cat") is None
    assert ran.wait(20)
    prompts.close()  # waits for the worker
    first = prompts.fetch("a cat")
    assert first is not None and prompts.encode("a cat") is first
    assert encoder.threads == ["text encoder"]


def test_offloaded_weights_go_there_and_back_for_every_new_prompt_even_if_it_fails(loaded: LoadedVideoModel) -> None:
    encoder = CountingEncoder(loaded.text_encoder)
    prompts = VideoTextEncoder(encoder, loaded.tokenizer, device=CPU, dtype=torch.float32, offload=True)
    prompts.encode("a cat")
    prompts.encode("a cat")
    assert encoder.moves == ["cpu", "cpu", "cpu"]  # at rest, to work, to rest; the second time nothing
    encoder.broken = True
    with pytest.raises(RuntimeError, match="broken"):
        prompts.encode("oil")
    assert encoder.moves[3:] == ["cpu", "cpu"]


def on_a_card(loaded: LoadedVideoModel, monkeypatch: pytest.MonkeyPatch, free: int) -> tuple[VideoTextEncoder, CountingEncoder]:
    """An offloaded text encoder beside a card of which `free` bytes more than its weights are free."""
    encoder = CountingEncoder(loaded.text_encoder)
    needed = sum(weight.numel() * weight.element_size() for weight in encoder.parameters())
    monkeypatch.setattr(video_text, "free_bytes", lambda device, left: needed + free)
    return VideoTextEncoder(encoder, loaded.tokenizer, device=CARD, dtype=torch.float32, offload=True), encoder


def test_a_prompt_is_encoded_on_the_card_only_where_the_weights_and_a_gigabyte_fit(
    loaded: LoadedVideoModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, encoder = on_a_card(loaded, monkeypatch, ROOM)
    wanted = prompts.encode("a cat").tokens
    assert encoder.moves == ["cpu", "cpu:0", "cpu"] and prompts.take_problems() == []
    prompts, encoder = on_a_card(loaded, monkeypatch, ROOM - 1)
    assert torch.equal(prompts.encode("a cat").tokens, wanted)
    prompts.encode("oil")
    assert "cpu:0" not in encoder.moves
    (told,) = prompts.take_problems()  # once, not with every prompt
    assert "encoded on the CPU" in told and "wants 1.0 GB of the memory of cpu:0, and 1.0 GB are free" in told


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: out of memory")])
def test_a_card_that_runs_out_of_memory_leaves_the_prompt_to_the_cpu(
    loaded: LoadedVideoModel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    prompts, encoder = on_a_card(loaded, monkeypatch, 10 * ROOM)
    encoder.refused = {"cpu:0": error}
    assert torch.equal(prompts.encode("a cat").tokens, loaded.prompts().encode("a cat").tokens)
    assert encoder.moves == ["cpu", "cpu:0", "cpu", "cpu", "cpu"]  # at rest; there and back; here and at rest
    prompts.encode("oil")
    assert encoder.moves.count("cpu:0") == 1  # it is not tried again
    (told,) = prompts.take_problems()
    assert "encoded on the CPU" in told and "it ran out" in told


def test_another_error_on_the_card_is_not_taken_for_a_lack_of_memory(loaded: LoadedVideoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, encoder = on_a_card(loaded, monkeypatch, ROOM)
    encoder.broken = True
    with pytest.raises(RuntimeError, match="broken"):
        prompts.encode("a cat")
    assert encoder.moves == ["cpu", "cpu:0", "cpu"]


def test_what_is_free_counts_what_the_weights_left_behind_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3_000, 80_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 9_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4_000)
    cuda = torch.device("cuda", 0)
    assert [free_bytes(cuda, left) for left in (0, 2_000, 11_000)] == [3_000, 5_000, 8_000]
    assert free_bytes(CPU, 0) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_the_weights_rest_on_the_cpu_and_the_numbers_are_the_same(tiny_wan: Path) -> None:
    cuda = torch.device("cuda")
    here = load_video(resolve(str(tiny_wan)), device=CPU, dtype=torch.float32)
    there = load_video(resolve(str(tiny_wan)), device=cuda, dtype=torch.float32)
    assert there.text_offloaded
    found = there.prompts().encode("a cat at sea")
    assert found.tokens.device.type == "cuda"
    assert {weight.device.type for weight in there.text_encoder.parameters()} == {"cpu"}
    assert torch.allclose(found.tokens.cpu(), here.prompts().encode("a cat at sea").tokens, atol=1e-4)


def test_white_space_and_entities() -> None:
    assert clean(" a\n\tcat &amp;amp; b ") == "a cat & b"


class CountingEncoder:
    """A model's text encoder that notes where it was put and on which thread it ran."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.moves: list[str] = []
        self.threads: list[str] = []
        self.broken = False
        self.refused: dict[str, Exception] = {}
        self.done = threading.Event()

    def parameters(self) -> Any:
        return self._encoder.parameters()

    def to(self, device: torch.device) -> None:
        self.moves.append(str(device))
        if str(device) in self.refused:
            raise self.refused[str(device)]

    def __call__(self, ids: torch.Tensor) -> Any:
        if self.broken:
            raise RuntimeError("broken")
        self.threads.append(threading.current_thread().name)
        self.done.set()
        return self._encoder(ids)
