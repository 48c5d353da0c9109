"""umT5 embeddings: those of diffusers' own pipeline, zero beyond the prompt, remembered, made beside the picture, off-loadable."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.models.catalogue import resolve
from engine.models.video_text import VideoTextEncoder, clean
from engine.models.video_weights import LoadedVideoModel, load_video

CPU = torch.device("cpu")
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
        self.done = threading.Event()

    def to(self, device: torch.device) -> None:
        self.moves.append(str(device))

    def __call__(self, ids: torch.Tensor) -> Any:
        if self.broken:
            raise RuntimeError("broken")
        self.threads.append(threading.current_thread().name)
        self.done.set()
        return self._encoder(ids)
