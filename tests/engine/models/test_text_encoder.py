"""Prompt embeddings: equal to diffusers' own pipelines bit for bit, and the worker thread of the live picture."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.models.catalogue import resolve
from engine.models.text_encoder import PromptEmbedding, TextEncoder, sdxl_time_ids
from engine.models.weights import LoadedModel, load

TinyModel = Callable[[str], Path]
CPU = torch.device("cpu")
PROMPTS = ("", "a cat", "Watercolor painting, of  OIL!", "a cat at a cat at a cat at a cat at a cat at a cat", "日本 🎉")
UNREADABLE = "\ud800"
"""Half of a character, which no tokenizer takes: the kind of text a broken sender sends."""


def loaded(tiny_model: TinyModel, kind: str) -> LoadedModel:
    return load(resolve(str(tiny_model(kind))), device=CPU, dtype=torch.float32)


class WaitingTokenizer:
    """A model's tokenizer that notes each text and waits for the gate before it goes on."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.model_max_length = tokenizer.model_max_length
        self.gate = threading.Event()
        self.began = threading.Event()
        self.texts: list[str] = []

    def __call__(self, text: str, **options: Any) -> Any:
        if "padding" in options:
            self.texts.append(text)
            self.began.set()
            assert self.gate.wait(20)
        return self._tokenizer(text, **options)


@pytest.fixture
def waiting(tiny_model: TinyModel) -> Iterator[tuple[TextEncoder, WaitingTokenizer]]:
    model = loaded(tiny_model, "sd15")
    tokenizer = WaitingTokenizer(model.tokenizers[0])
    encoder = TextEncoder(replace(model, tokenizers=(tokenizer,)), device=CPU, dtype=torch.float32)
    yield encoder, tokenizer
    tokenizer.gate.set()
    encoder.close()


def eventually(encoder: TextEncoder, text: str) -> PromptEmbedding:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = encoder.fetch(text)
        if found is not None:
            return found
        time.sleep(0.002)
    raise AssertionError(f"{text!r} was never encoded")


@pytest.mark.parametrize("kind", ["sd15", "sd21", "ip2p", "flow", "lcm"])
def test_tokens_are_those_of_diffusers_own_pipeline(tiny_model: TinyModel, kind: str) -> None:
    from diffusers import StableDiffusionPipeline

    model = loaded(tiny_model, kind)
    encoder = TextEncoder(model, device=CPU, dtype=torch.float32)
    peer = StableDiffusionPipeline(
        unet=model.unet, vae=model.vae, text_encoder=model.text_encoders[0], tokenizer=model.tokenizers[0],
        scheduler=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    for prompt in PROMPTS:
        theirs, _ = peer.encode_prompt(prompt, CPU, 1, False)
        ours = encoder.encode(prompt)
        assert torch.equal(ours.tokens, theirs) and ours.pooled is None and not ours.tokens.requires_grad
    _, negative = peer.encode_prompt("x", CPU, 1, True, negative_prompt="a cat")
    assert torch.equal(encoder.encode("a cat").tokens, negative)


def test_sdxls_tokens_pooled_and_time_ids_are_those_of_diffusers_own_pipeline(tiny_model: TinyModel) -> None:
    from diffusers import StableDiffusionXLPipeline

    model = loaded(tiny_model, "sdxl")
    encoder = TextEncoder(model, device=CPU, dtype=torch.float32)
    peer = StableDiffusionXLPipeline.from_pretrained(tiny_model("sdxl"))
    for prompt in PROMPTS:
        tokens, _, pooled, _ = peer.encode_prompt(prompt, device=CPU, do_classifier_free_guidance=False)
        ours = encoder.encode(prompt)
        assert ours.pooled is not None
        assert torch.equal(ours.tokens, tokens) and torch.equal(ours.pooled, pooled)
    ids = peer._get_add_time_ids((320, 512), (0, 0), (320, 512), torch.float32, text_encoder_projection_dim=32)
    assert torch.equal(sdxl_time_ids(320, 512), ids)


def test_different_prompts_differ_and_a_known_one_is_the_same_object(tiny_model: TinyModel) -> None:
    encoder = TextEncoder(loaded(tiny_model, "sd15"), device=CPU, dtype=torch.float16)
    cat = encoder.encode("a cat")
    assert cat.tokens.dtype == torch.float16 and cat.text == "a cat"
    assert encoder.encode("a cat") is cat and encoder.fetch("a cat") is cat
    assert not torch.equal(encoder.encode("oil").tokens, cat.tokens)


def test_the_prompts_used_longest_ago_are_forgotten(tiny_model: TinyModel) -> None:
    encoder = TextEncoder(loaded(tiny_model, "sd15"), device=CPU, dtype=torch.float32)
    first, second = encoder.encode("first"), encoder.encode("second")
    for number in range(62):
        encoder.encode(str(number))
    assert encoder.encode("first") is first
    encoder.encode("one more")
    assert encoder.encode("first") is first
    assert encoder.encode("second") is not second


def test_a_prompt_that_is_too_long_is_told_once_with_what_is_not_read(tiny_model: TinyModel) -> None:
    encoder = TextEncoder(loaded(tiny_model, "sdxl"), device=CPU, dtype=torch.float32)
    encoder.encode("a cat")
    encoder.encode("a " * 14)
    assert encoder.take_problems() == []
    encoder.encode("a " * 14 + "cat oil")
    encoder.encode("a " * 14 + "cat oil")
    assert encoder.take_problems() == ["the prompt is longer than the 16 tokens this model reads; it does not see 'cat oil'"]
    assert encoder.take_problems() == []


def test_fetch_does_not_wait_and_gives_the_embedding_later(waiting: tuple[TextEncoder, WaitingTokenizer]) -> None:
    encoder, tokenizer = waiting
    assert encoder.fetch("a cat") is None
    assert tokenizer.began.wait(20)
    assert encoder.fetch("a cat") is None and encoder.fetch("a cat") is None
    tokenizer.gate.set()
    embedding = eventually(encoder, "a cat")
    assert torch.equal(embedding.tokens, encoder.encode("a cat").tokens)
    assert tokenizer.texts == ["a cat"]


def test_the_newest_request_goes_first_and_asking_again_makes_it_new(waiting: tuple[TextEncoder, WaitingTokenizer]) -> None:
    encoder, tokenizer = waiting
    encoder.fetch("running")
    assert tokenizer.began.wait(20)
    for text in ("one", "two", "three", "one"):
        assert encoder.fetch(text) is None
    tokenizer.gate.set()
    deadline = time.monotonic() + 20
    while len(tokenizer.texts) < 4 and time.monotonic() < deadline:
        time.sleep(0.002)
    assert tokenizer.texts == ["running", "one", "three", "two"]


def test_a_prompt_that_cannot_be_encoded_is_told_once_and_the_next_ones_go_on(tiny_model: TinyModel) -> None:
    encoder = TextEncoder(loaded(tiny_model, "sd15"), device=CPU, dtype=torch.float32)
    try:
        assert encoder.fetch(UNREADABLE) is None
        eventually(encoder, "after")
        assert encoder.fetch(UNREADABLE) is None
        eventually(encoder, "later")
        problems = encoder.take_problems()
        assert len(problems) == 1 and "could not be encoded" in problems[0] and "stays" in problems[0]
        with pytest.raises((UnicodeError, TypeError, ValueError)):
            encoder.encode(UNREADABLE)
    finally:
        encoder.close()


def test_waiting_fetch_needs_no_thread_and_close_ends_the_one_there_is(tiny_model: TinyModel) -> None:
    before = set(threading.enumerate())
    encoder = TextEncoder(loaded(tiny_model, "sd15"), device=CPU, dtype=torch.float32)
    assert encoder.fetch("a cat", wait=True) is not None
    assert set(threading.enumerate()) == before
    eventually(encoder, "another")
    assert len(set(threading.enumerate()) - before) == 1
    encoder.close()
    encoder.close()
    assert set(threading.enumerate()) == before
    assert encoder.fetch("too late") is None and set(threading.enumerate()) == before
    assert encoder.encode("too late").text == "too late"
