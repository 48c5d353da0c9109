"""The stream's attention against diffusers' own, and the denoiser's inputs against diffusers' pipelines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import LatentConsistencyModelPipeline
from torch import Tensor

from engine.models.attention import StreamAttention, _joined, joinable
from engine.models.catalogue import resolve
from engine.models.image_denoiser import ImageDenoiser, guidance_embedding
from engine.models.text_encoder import TextEncoder
from engine.models.weights import LoadedModel, load

CPU = torch.device("cpu")
KINDS = ("sd15", "sd21", "sdxl", "ip2p", "flow", "lcm")


def fresh(tiny_model: Callable[[str], Path], kind: str) -> LoadedModel:
    """A model of its own: denoisers change the attention of theirs."""
    return load(resolve(str(tiny_model(kind))), device=CPU, dtype=torch.float32)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache_prompt", [True, False])
@torch.inference_mode()
def test_the_network_says_what_it_says_with_diffusers_attention(
    tiny_model: Callable[[str], Path], kind: str, cache_prompt: bool
) -> None:
    loaded = fresh(tiny_model, kind)
    encoder = TextEncoder(loaded, device=CPU, dtype=torch.float32)
    prompts = [encoder.encode("a cat"), encoder.encode("oil")]
    latents, timesteps = random(2, 4, 8, 8), torch.tensor([999.0, 259.0])
    image = random(2, 4, 8, 8, seed=1) if loaded.image_conditioned else None
    added = None
    if loaded.is_sdxl:
        time_ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(2, -1)
        added = {"text_embeds": torch.cat([p.pooled for p in prompts if p.pooled is not None]), "time_ids": time_ids}
    width = loaded.unet.config.time_cond_proj_dim
    theirs = loaded.unet(
        latents if image is None else torch.cat((latents, image), 1),
        timesteps,
        encoder_hidden_states=torch.cat([p.tokens for p in prompts]),
        added_cond_kwargs=added,
        timestep_cond=None if width is None else guidance_embedding(8.5, width).expand(2, -1),
    ).sample
    denoiser = ImageDenoiser(loaded, device=CPU, dtype=torch.float32, cache_prompt=cache_prompt)
    assert any(isinstance(p, StreamAttention) for p in loaded.unet.attn_processors.values())
    conditioning = denoiser.condition(prompts, height=64, width=64)
    assert (conditioning.keys_values is not None) == cache_prompt
    ours = denoiser(latents, timesteps, conditioning, image_latents=image)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_prompt_is_projected_once_as_long_as_it_stays(tiny_model: Callable[[str], Path]) -> None:
    loaded = fresh(tiny_model, "sdxl")
    encoder = TextEncoder(loaded, device=CPU, dtype=torch.float32)
    denoiser = ImageDenoiser(loaded, device=CPU, dtype=torch.float32)
    prompt, other = encoder.encode("a cat"), encoder.encode("oil")
    first = denoiser.condition([prompt], height=64, width=64)
    assert denoiser.condition([prompt], height=64, width=64) is first
    assert denoiser.condition([other], height=64, width=64) is not first
    wider = denoiser.condition([prompt], height=64, width=128)
    assert wider.time_ids is not None and wider.time_ids[0, 1] == 128
    copy = first.with_tensors([t.clone() for t in first.tensors()])
    assert all(torch.equal(a, b) for a, b in zip(copy.tensors(), first.tensors(), strict=True))


def test_guidance_embedding_is_diffusers() -> None:
    for width in (32, 256):
        theirs = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, torch.tensor([6.5]), embedding_dim=width)
        torch.testing.assert_close(guidance_embedding(7.5, width), theirs)


def test_joined_rows_see_their_group_and_small_groups_are_repeated_whole() -> None:
    states = torch.arange(6.0).view(3, 2, 1)
    assert _joined(states, (3,))[..., 0].tolist() == [[0, 1, 2, 3, 4, 5]] * 3
    assert _joined(states, (1, 2))[..., 0].tolist() == [[0, 1, 0, 1], [2, 3, 4, 5], [2, 3, 4, 5]]


@pytest.mark.parametrize(("groups", "legal"), [((1,), False), ((2,), True), ((1, 4), True), ((2, 4), True), ((2, 3), False)])
def test_which_groups_can_be_joined(groups: tuple[int, ...], legal: bool) -> None:
    assert joinable(groups) is legal


@torch.inference_mode()
def test_cross_frame_attention_is_the_softmax_over_all_frames() -> None:
    """Against the written formula: softmax(q k^T / sqrt(d)) v with the keys and values of every row of the group."""
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    attn = Attention(query_dim=8, heads=2, dim_head=4).eval()
    x = random(3, 5, 8)
    got = StreamAttention(layer=None)(attn, x, frame_groups=(3,))
    q, k, v = attn.to_q(x), attn.to_k(x).reshape(1, 15, 8).expand(3, -1, -1), attn.to_v(x).reshape(1, 15, 8).expand(3, -1, -1)
    heads = []
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        weights = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) / 2.0, -1)
        heads.append(weights @ v[..., part])
    torch.testing.assert_close(got, attn.to_out[0](torch.cat(heads, -1)), atol=1e-6, rtol=1e-5)
