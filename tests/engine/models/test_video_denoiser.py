"""The network with its cache against diffusers' own forward, and against attention under a block-causal mask."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor

from engine.models.video_denoiser import VideoDenoiser, joined_prompts
from engine.video.cache_policies import RingWithSinks
from engine.video.positions import AbsolutePositions, CacheRelativePositions
from tests.engine.video import tiny

TOKENS = 4


def stock() -> torch.nn.Module:
    model = copy.deepcopy(tiny.model())
    for block in model.blocks:
        block.attn1.set_processor(WanAttnProcessor())
        block.attn2.set_processor(WanAttnProcessor())
    return model


def forward(model: torch.nn.Module, x: Tensor, timesteps: Tensor) -> Tensor:
    tokens = tiny.prompt_tokens().expand(x.shape[0], -1, -1)
    out: Tensor = model(x.transpose(1, 2), timesteps, tokens, return_dict=False)[0]
    return out.transpose(1, 2)


@torch.inference_mode()
@pytest.mark.parametrize("positions", [AbsolutePositions, CacheRelativePositions])
def test_a_first_chunk_is_diffusers_own_forward(positions: type[AbsolutePositions]) -> None:
    run = tiny.rollout(RingWithSinks(window=4), positions())
    x, told = tiny.latent(3, frames=3), torch.tensor([640.0])
    run.admit(0, 3, 0)
    found = run.denoise(x, told, (tiny.prompt(),))
    assert torch.allclose(found, forward(stock(), x, told), atol=2e-6)


@torch.inference_mode()
def test_frames_may_have_timesteps_of_their_own() -> None:
    run = tiny.rollout(RingWithSinks(window=4))
    x, told = tiny.latent(3, frames=2), torch.tensor([[900.0, 100.0]])
    run.admit(0, 2, 0)
    found = run.denoise(x, told, (tiny.prompt(),))
    assert torch.allclose(found, forward(stock(), x, told.repeat_interleave(TOKENS, 1)), atol=2e-6)


class BlockCausal(WanAttnProcessor):
    """Stock attention under a mask: tokens see chunks up to their own."""

    def __init__(self, chunk_of_token: Tensor) -> None:
        super().__init__()
        self._mask = chunk_of_token[:, None] >= chunk_of_token[None, :]

    def __call__(self, attn: object, hidden_states: Tensor, *rest: object, **named: object) -> Tensor:
        named.pop("attention_mask", None)
        rotary = named.pop("rotary_emb", None) or rest[-1]
        return super().__call__(attn, hidden_states, None, self._mask[None, None], rotary)  # type: ignore[arg-type]


@torch.inference_mode()
@pytest.mark.parametrize("positions", [AbsolutePositions, CacheRelativePositions])
def test_chunk_by_chunk_is_one_forward_under_a_block_causal_mask(positions: type[AbsolutePositions]) -> None:
    run, told = tiny.rollout(RingWithSinks(window=6), positions()), torch.tensor([500.0])
    x, found = tiny.latent(5, frames=6), []
    for start, frames in ((0, 2), (2, 1), (3, 3)):
        run.admit(0, frames, start)
        found.append(run.denoise(x[:, start : start + frames], told, (tiny.prompt(),)))
    model = stock()
    chunk_of_token = torch.tensor([0, 0, 1, 2, 2, 2]).repeat_interleave(TOKENS)
    for block in model.blocks:
        block.attn1.set_processor(BlockCausal(chunk_of_token))
    assert torch.allclose(torch.cat(found, 1), forward(model, x, told), atol=2e-6)


@torch.inference_mode()
def test_a_call_may_be_run_twice() -> None:
    run = tiny.rollout(RingWithSinks(window=2, sinks=1))
    for number in range(4):
        run.admit(0, 1, number)
        once = run.denoise(tiny.latent(number), torch.tensor([500.0]), (tiny.prompt(),))
        kept = run.cache.keys.clone()
        assert torch.equal(run.denoise(tiny.latent(number), torch.tensor([500.0]), (tiny.prompt(),)), once)
        assert torch.equal(run.cache.keys, kept)


@torch.inference_mode()
def test_two_parts_of_the_blocks_are_the_whole() -> None:
    whole = tiny.rollout(RingWithSinks(window=3))
    whole.admit(0, 2, 0)
    x, told = tiny.latent(1, frames=2), torch.tensor([300.0])
    expected = whole.denoise(x, told, (tiny.prompt(),))
    parts = [VideoDenoiser(copy.deepcopy(tiny.model()), blocks=span) for span in ((0, 1), (1, 2))]
    hidden = parts[0].embed(x)
    times, modulation = parts[0].time(told, TOKENS)
    for part in parts:
        run = tiny.rollout(RingWithSinks(window=3))
        run.cache = part.make_cache(tiny.SIDE, tiny.SIDE, policy=run.policy, rows=1)
        run.admit(0, 2, 0)
        seen: list[object] = []
        run._network = lambda x, t, p, access, seen=seen: seen.append(access) or x  # type: ignore[assignment,func-returns-value]
        run.denoise(x, told, ())
        hidden = part.through_blocks(hidden, modulation, joined_prompts([part.prompt(tiny.prompt_tokens())]), seen[0])
    assert torch.equal(parts[1].head(hidden, times, x), expected)


def test_rows_with_one_prompt_share_its_memory() -> None:
    told = tiny.prompt()
    shared = joined_prompts([told, told])
    assert shared[0].shape[0] == 2 and shared[0].stride(0) == 0
    mixed = joined_prompts([told, tiny.prompt(1)])
    assert mixed[0].shape[0] == 2 and not torch.equal(mixed[0][0], mixed[0][1])
