"""The autoencoder: ranges, scale and shift as in diffusers' own pipelines, and a real one on a real picture."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.models.autoencoder import Autoencoder
from engine.models.catalogue import resolve
from engine.models.weights import load

TinyModel = Callable[[str], Path]
SHARED = Path(__file__).resolve().parents[4] / "shared"


def part(tiny_model: TinyModel, kind: str, dtype: torch.dtype = torch.float32) -> Autoencoder:
    return Autoencoder.of(load(resolve(str(tiny_model(kind))), device=torch.device("cpu"), dtype=dtype))


def picture(seed: int = 0, *, rows: int = 2) -> Tensor:
    return torch.rand(rows, 3, 64, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def img2img_latents(folder: Path, rgb: Tensor) -> Tensor:
    """What diffusers' SDXL image to image gives before noise, with the distribution's mode in place of a sample."""
    from diffusers import StableDiffusionXLImg2ImgPipeline
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    pipeline = StableDiffusionXLImg2ImgPipeline.from_pretrained(folder)
    sample = DiagonalGaussianDistribution.sample
    try:
        DiagonalGaussianDistribution.sample = lambda self, generator=None: self.mode()
        found: Tensor = pipeline.prepare_latents(rgb, None, len(rgb), 1, torch.float32, torch.device("cpu"), None, add_noise=False)
        return found.detach()
    finally:
        DiagonalGaussianDistribution.sample = sample


def test_latents_are_those_of_diffusers_image_to_image(tiny_model: TinyModel) -> None:
    rgb = picture()
    ours = part(tiny_model, "sdxl").encode(rgb)
    assert ours.shape == (2, 4, 8, 4)
    torch.testing.assert_close(ours, img2img_latents(tiny_model("sdxl"), rgb), atol=1e-6, rtol=1e-5)


def test_the_image_condition_is_that_of_diffusers_instruct_pix2pix(tiny_model: TinyModel) -> None:
    from diffusers import StableDiffusionInstructPix2PixPipeline

    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tiny_model("ip2p"), safety_checker=None)
    rgb = picture(1)
    theirs = pipeline.prepare_image_latents(rgb, len(rgb), 1, torch.float32, torch.device("cpu"), False).detach()
    autoencoder = part(tiny_model, "ip2p")
    torch.testing.assert_close(autoencoder.unscaled(autoencoder.encode(rgb)), theirs, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(autoencoder.encode(rgb), theirs * 0.18215, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(autoencoder.unscaled(autoencoder.encode(rgb)), theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["sd15", "flow"])
def test_decoding_gives_the_picture_of_diffusers_pipeline(tiny_model: TinyModel, kind: str) -> None:
    from diffusers import StableDiffusionPipeline
    from diffusers.image_processor import VaeImageProcessor

    latents = torch.randn(2, 4, 8, 4, generator=torch.Generator().manual_seed(2)) * 3
    model = load(resolve(str(tiny_model(kind))), device=torch.device("cpu"), dtype=torch.float32)
    theirs = model.vae.decode(latents / model.vae.config.scaling_factor, return_dict=False)[0]
    as_pixels = VaeImageProcessor().postprocess(theirs, output_type="pt")
    ours = Autoencoder.of(model).decode(latents)
    assert StableDiffusionPipeline is not None and ours.shape == (2, 3, 64, 32)
    torch.testing.assert_close(ours / 2 + 0.5, as_pixels, atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_a_folded_autoencoder_gives_the_pictures_of_diffusers_own() -> None:
    from diffusers import AutoencoderTiny

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        vae = AutoencoderTiny(num_encoder_blocks=(0, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 0), scaling_factor=2.0).eval()
    autoencoder, rgb = Autoencoder(vae, dtype=torch.float32), picture()
    latents = vae.encode(rgb).latents
    torch.testing.assert_close(autoencoder.encode(rgb), 2 * latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(autoencoder.decode(2 * latents), vae.decode(latents).sample.clamp(-1, 1), atol=1e-5, rtol=1e-5)
    assert len(list(vae.encoder.layers)) == 8  # which stays diffusers' own


def test_encoding_twice_gives_the_same_latents(tiny_model: TinyModel) -> None:
    for kind in ("sd15", "flow"):
        autoencoder = part(tiny_model, kind)
        assert torch.equal(autoencoder.encode(picture()), autoencoder.encode(picture()))


def test_what_is_decoded_stays_in_range(tiny_model: TinyModel) -> None:
    for kind in ("sd15", "flow"):
        decoded = part(tiny_model, kind).decode(torch.full((1, 4, 2, 2), 1e4))
        assert decoded.abs().max() <= 1


def test_sdxl_in_half_precision_runs_in_float32_and_answers_in_half(tiny_model: TinyModel) -> None:
    half, whole = part(tiny_model, "sdxl", torch.float16), part(tiny_model, "sdxl")
    rgb = picture().half()
    latents = half.encode(rgb)
    assert latents.dtype == torch.float16 and half.decode(latents).dtype == torch.float16
    torch.testing.assert_close(latents, whole.encode(rgb.float()).half(), atol=0, rtol=0)


def test_shift_and_per_channel_moments_are_applied() -> None:
    from diffusers import AutoencoderKL

    sizes: dict[str, Any] = {"block_out_channels": (8,), "norm_num_groups": 4, "latent_channels": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        shifted = AutoencoderKL(**sizes, scaling_factor=0.5, shift_factor=0.25).requires_grad_(False).eval()
    rgb = picture(rows=1)
    mode = shifted.encode(rgb).latent_dist.mode()
    autoencoder = Autoencoder(shifted, dtype=torch.float32)
    assert (autoencoder.factor, autoencoder.latent_channels) == (1, 2)
    torch.testing.assert_close(autoencoder.encode(rgb), (mode - 0.25) * 0.5)
    moments = AutoencoderKL(**sizes, scaling_factor=0.5, latents_mean=(1.0, -2.0), latents_std=(4.0, 0.5)).requires_grad_(False)
    moments.load_state_dict(shifted.state_dict())
    expected = torch.stack([(mode[:, 0] - 1) * 0.5 / 4, (mode[:, 1] + 2) * 0.5 / 0.5], dim=1)
    centred = Autoencoder(moments, dtype=torch.float32)
    torch.testing.assert_close(centred.encode(rgb), expected)
    torch.testing.assert_close(centred.unscaled(centred.encode(rgb)), mode, atol=1e-6, rtol=1e-5)


def real_pictures(count: int) -> list[Tensor]:
    """The first photos of the shared set at 512 px, RGB [1, 3, 512, 512] in [-1, 1]."""
    cv2 = pytest.importorskip("cv2")
    archive = SHARED / "data" / "photos_256_0.tar"
    if not archive.is_file():
        pytest.skip("the shared folder with photos is not here")
    found = []
    with tarfile.open(archive) as tar:
        for member in (one for one in tar if one.isfile()):
            file = tar.extractfile(member)
            image = cv2.imdecode(np.frombuffer(file.read() if file else b"", np.uint8), cv2.IMREAD_COLOR_RGB)
            if image is not None:
                image = cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC)
                found.append(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1)
            if len(found) == count:
                break
    return found


def test_the_real_tiny_autoencoder_brings_photos_back() -> None:
    from diffusers import AutoencoderTiny

    folder = SHARED / "weights" / "taesd"
    if not folder.is_dir():
        pytest.skip("the shared folder with TAESD's weights is not here")
    vae = AutoencoderTiny.from_pretrained(folder).requires_grad_(False).eval()
    autoencoder = Autoencoder(vae, dtype=torch.float32)
    for rgb in real_pictures(1):
        latents = autoencoder.encode(rgb)
        assert latents.shape == (1, 4, 64, 64) and 0.3 < float(latents.std()) < 2
        psnr = 10 * float(torch.log10(4 / (autoencoder.decode(latents) - rgb).square().mean()))
        assert 22 < psnr < 40, psnr
