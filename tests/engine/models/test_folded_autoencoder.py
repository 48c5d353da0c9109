"""Folded convolutions give what diffusers' own layers give, to the outermost pixel, and their gradients."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.folded_autoencoder import (
    FoldedDecoder,
    FoldedEncoder,
    folded_decoder,
    folded_encoder,
    frozen_decoder,
    frozen_encoder,
)
from engine.models.folded_convolutions import (
    PairWeights,
    composed,
    folded,
    strided_pair,
    subpixel_kernel,
    upsampled_pair,
    upsampling_kernel,
)

SHIPPED = [Path(__file__).resolve().parents[3] / "engine" / "models" / name / "vae" for name in ("embedded", "embedded_video")]
SIDES = [(8, 6), (7, 9), (1, 1), (2, 5), (1, 4), (3, 2)]
SLIM = {"encoder_block_out_channels": (6, 6, 6, 6), "decoder_block_out_channels": (10, 10, 10, 10), "latent_channels": 5}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tiny(*, encoder: tuple[int, ...] = (0, 1, 1, 2), decoder: tuple[int, ...] = (2, 1, 1, 0), **settings: Any) -> Any:
    """An AutoencoderTiny in float32; by default with an empty stage at both ends."""
    from diffusers import AutoencoderTiny

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return AutoencoderTiny(num_encoder_blocks=encoder, num_decoder_blocks=decoder, **(SLIM | settings)).eval()


def layer(inputs: int, outputs: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, stride=stride, bias=bias, dtype=torch.float64)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("biases", [(True, False), (False, True), (True, True), (False, False)])
def test_a_folded_pair_is_the_two_layers_at_every_pixel(sides: tuple[int, int], biases: tuple[bool, bool]) -> None:
    x = normal(2, 3, *sides, dtype=torch.float32)
    first, second = layer(3, 7, bias=biases[0]).float(), layer(7, 4, bias=biases[1], stride=2).float()
    torch.testing.assert_close(strided_pair(x, folded(first, second, upsampled=False)), second(first(x)), atol=1e-5, rtol=1e-5)
    second.stride = (1, 1)
    pair = folded(first, second, upsampled=True, gain=2.0, offset=-1.0)
    expected = second(first(F.interpolate(x, scale_factor=2))) * 2 - 1
    torch.testing.assert_close(upsampled_pair(x, pair), expected, atol=1e-5, rtol=1e-5)


def test_the_kernels_by_closed_form() -> None:
    ones = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    hat = torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    assert torch.equal(composed(ones, ones)[0, 0], hat[:, None] * hat)  # a box over a box is a hat
    # Of three rows of ones the even output row takes one of the row above and two of its own, the odd one the other way.
    even, odd = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([0.0, 2.0, 1.0])
    phases = [torch.outer(a, b).double() for a in (even, odd) for b in (even, odd)]
    assert torch.equal(subpixel_kernel(ones)[:, 0], torch.stack(phases))
    trapezium = torch.tensor([1.0, 2.0, 2.0, 1.0], dtype=torch.float64)
    assert torch.equal(upsampling_kernel(ones)[0, 0], trapezium[:, None] * trapezium)


@pytest.mark.parametrize("sides", SIDES)
def test_an_upsampling_and_its_convolution_are_one_transposed_convolution(sides: tuple[int, int]) -> None:
    x, kernel = normal(2, 3, *sides), normal(5, 3, 3, 3, seed=1)
    expected = F.conv2d(F.interpolate(x, scale_factor=2), kernel, padding=1)
    torch.testing.assert_close(F.conv_transpose2d(x, upsampling_kernel(kernel), stride=2, padding=1), expected)
    torch.testing.assert_close(F.pixel_shuffle(F.conv2d(x, subpixel_kernel(kernel), padding=1), 2), expected)


def test_without_the_correction_only_the_outermost_pixels_differ() -> None:
    """What the correction is for: the bare kernel goes on where diffusers pads with zeros."""
    x, first, second = normal(1, 3, 8, 8), layer(3, 6, bias=False), layer(6, 3, bias=False)
    expected = second(first(F.interpolate(x, scale_factor=2)))
    bare = F.pixel_shuffle(F.conv2d(x, subpixel_kernel(composed(first.weight, second.weight)), padding=1), 2)
    difference = (bare - expected).abs()
    assert difference[..., 1:-1, 1:-1].max() < 1e-12
    for edge in (difference[..., 0, :], difference[..., -1, :], difference[..., 0], difference[..., -1]):
        assert edge.max() > 1e-2


@pytest.mark.parametrize("sides", [(16, 16), (8, 24), (24, 40)])
@torch.no_grad()
def test_the_folded_autoencoder_is_diffusers_own(sides: tuple[int, int]) -> None:
    vae = tiny()
    rgb = normal(2, 3, *sides, dtype=torch.float32).clamp(-1, 1)
    encoder, decoder = frozen_encoder(vae.encoder), frozen_decoder(vae.decoder)
    assert isinstance(encoder, FoldedEncoder) and isinstance(decoder, FoldedDecoder)
    latents = vae.encode(rgb).latents
    torch.testing.assert_close(encoder(rgb), latents, atol=1e-5, rtol=1e-5)
    pictures = vae.decode(3 * latents).sample
    torch.testing.assert_close(decoder(3 * latents), pictures, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(folded_encoder(vae.encoder)(rgb), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(folded_decoder(vae.decoder)(3 * latents), pictures, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sides", [(13, 9), (7, 10)])
@torch.no_grad()
def test_sides_that_cannot_be_halved_too(sides: tuple[int, int]) -> None:
    vae, rgb = tiny(), normal(1, 3, *sides, dtype=torch.float32)
    torch.testing.assert_close(frozen_encoder(vae.encoder)(rgb), vae.encoder(rgb), atol=1e-5, rtol=1e-5)
    latents = normal(1, 5, *sides, dtype=torch.float32)
    torch.testing.assert_close(frozen_decoder(vae.decoder)(latents), vae.decoder(latents), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.parent.name)
@torch.no_grad()
def test_the_shipped_autoencoders_fold(folder: Path) -> None:
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny.from_pretrained(folder).eval()
    encoder, decoder = frozen_encoder(vae.encoder), frozen_decoder(vae.decoder)
    assert isinstance(encoder, FoldedEncoder) and isinstance(decoder, FoldedDecoder)
    rgb = normal(1, 3, 48, 64, dtype=torch.float32).clamp(-1, 1)
    latents = vae.encoder(rgb)
    torch.testing.assert_close(encoder(rgb), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decoder(latents), vae.decoder(latents), atol=1e-5, rtol=1e-5)
    half = copy.deepcopy(vae).bfloat16()
    half_error = (half.decoder(latents.bfloat16()).float() - vae.decoder(latents)).square().mean().sqrt()
    ours = (frozen_decoder(half.decoder)(latents.bfloat16()).float() - vae.decoder(latents)).square().mean().sqrt()
    assert ours < 1.1 * half_error  # rounded less often


def test_other_autoencoders_stay_as_they_are() -> None:
    taesd = tiny(encoder=(1, 3, 3, 3), decoder=(3, 3, 3, 1))
    assert frozen_encoder(taesd.encoder) is taesd.encoder and frozen_decoder(taesd.decoder) is taesd.decoder
    smooth = tiny(upsample_fn="bilinear")
    assert frozen_decoder(smooth.decoder) is smooth.decoder
    larger = tiny(upsampling_scaling_factor=3)
    assert frozen_decoder(larger.decoder) is larger.decoder
    assert frozen_encoder(other := nn.Identity()) is other and frozen_decoder(other) is other


def test_it_folds_without_a_device() -> None:
    """As what counts operations does."""
    vae = tiny().to("meta")
    rgb = torch.empty(1, 3, 16, 24, device="meta")
    assert frozen_decoder(vae.decoder)(frozen_encoder(vae.encoder)(rgb)).shape == rgb.shape


def test_gradients_are_those_through_diffusers_layers() -> None:
    vae = tiny().double()
    rgb = normal(2, 3, 16, 24).clamp(-1, 1)
    found = []
    for encode, decode in ((vae.encoder, vae.decoder), (folded_encoder(vae.encoder), folded_decoder(vae.decoder))):
        vae.zero_grad()
        latents = encode(rgb)
        pictures = decode(latents)
        (pictures * normal(*pictures.shape, seed=9).to(pictures.dtype)).sum().backward()
        found.append({name: weight.grad.clone() for name, weight in vae.named_parameters()})
    assert all(gradient.abs().max() > 0 for gradient in found[0].values())
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-5, rtol=1e-5, msg=name)


def test_the_training_form_follows_the_weights_and_composes_them_in_float32() -> None:
    vae, latents = tiny(), normal(1, 5, 4, 4, dtype=torch.float32)
    decode = folded_decoder(vae.decoder)
    with torch.no_grad():
        vae.decoder.layers[-1].weight.mul_(1.5)
        vae.decoder.layers[-2].weight.mul_(0.5)
        torch.testing.assert_close(decode(latents), vae.decoder(latents), atol=1e-5, rtol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            pair = folded(vae.decoder.layers[-2], vae.decoder.layers[-1], upsampled=True)
            assert decode(latents).dtype == torch.bfloat16
    assert isinstance(pair, PairWeights) and pair.kernel.dtype == torch.float32
    assert torch.equal(pair.kernel, folded(vae.decoder.layers[-2], vae.decoder.layers[-1], upsampled=True).kernel)
