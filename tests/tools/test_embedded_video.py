"""The parts of the embedded video model's training: drifting clouds, cameras, who sees whom, noising, training steps, export."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from embedded_video import drift, figures, motion, noising
from embedded_video.export import POLICIES, export_folder
from embedded_video.looks import Look, looks, prompts
from embedded_video.network import ClipDenoiser, new_transformer, seen
from embedded_video.playing import Player
from embedded_video.pool import FRAMES, Batch, Pool, make_shard
from embedded_video.training import Training, rate_at
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from engine.models.video_catalogue import EMBEDDED_VIDEO, VIDEO_CATALOGUE
from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_policies import policies_from_json
from engine.video.cache_policies import RingWithSinks
from engine.video.positions import CacheRelativePositions
from engine.video.rollout import Rollout
from engine.video.schedule import FlowGrid
from engine.video.schedulers import Chunk, Sequential


def test_clouds_keep_their_variance_and_hold_together_along_the_wind_as_the_weights_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "WIND", (0.0, 0.0))
    noise = np.random.default_rng(1).standard_normal((40, 24, 24, 8), dtype=np.float32)
    fields = drift.drifting(noise)[5:, 6:-6, 6:-6]
    w = 0.85 ** np.arange(6)
    expected = (w[1:] * w[:-1]).sum() / (w**2).sum()
    assert fields.var() == pytest.approx(1.0, abs=0.06)
    assert (fields[1:] * fields[:-1]).mean() / fields.var() == pytest.approx(expected, abs=0.03)


def test_the_first_cloud_is_its_own_noise_and_no_cloud_knows_later_noise() -> None:
    noise = np.random.default_rng(2).standard_normal((9, 8, 8, 4), dtype=np.float32)
    fields = drift.drifting(noise)
    assert np.allclose(fields[0], drift.smooth(noise[0]), atol=1e-6)
    changed = noise.copy()
    changed[8] += 1
    changed[0] -= 1  # too long ago for frame 6 and later
    other = drift.drifting(changed)
    assert np.array_equal(other[6:8], fields[6:8]) and not np.array_equal(other[8], fields[8]) and not np.array_equal(other[5], fields[5])


def test_clouds_move_with_the_wind() -> None:
    field = np.zeros((12, 12, 4), np.float32)
    field[4, 3] = 1
    moved = drift.shifted(field, frames=2)[..., 0]
    rows, columns = np.mgrid[:12, :12]
    assert (moved * rows).sum() / moved.sum() == pytest.approx(4 + 2 * drift.WIND[0], abs=0.05)
    assert (moved * columns).sum() / moved.sum() == pytest.approx(3 + 2 * drift.WIND[1], abs=0.05)


def test_a_camera_shows_the_part_it_looks_at_and_travels() -> None:
    photo = np.random.default_rng(3).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    camera = motion.Camera(centre=(25.5, 23.5), speed=(3.0, -2.0), span=16.0, zoom=1.0, angle=0.0, turn=0.0)
    clip = motion.filmed(photo, camera, frames=3, side=16)
    for frame in range(3):
        top, left = 16 - 2 * frame, 18 + 3 * frame
        assert np.array_equal(clip[frame], photo[top : top + 16, left : left + 16])
    turned = motion.Camera(centre=(31.5, 31.5), speed=(0.0, 0.0), span=64.0, zoom=1.0, angle=np.pi / 2, turn=0.0)
    assert np.array_equal(motion.filmed(photo, turned, frames=1, side=64)[0], np.rot90(photo, 1))


def test_every_look_has_prompts_of_its_own_and_changes_the_picture() -> None:
    every = looks()
    phrases = [phrase for look in every for phrase in look.phrases]
    assert len(set(phrases)) == len(phrases) and every[0].name == "" and "underwater" in phrases
    picture = np.random.default_rng(4).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(every[0].draw(picture), picture)
    assert all(look.draw(picture).shape == picture.shape and not np.array_equal(look.draw(picture), picture) for look in every[1:])
    assert prompts(every[1], np.random.default_rng(0), count=12)[: len(every[1].phrases)] == list(every[1].phrases)


def test_a_chunk_sees_itself_and_what_is_left_of_the_window() -> None:
    assert seen(4, chunk=1, window=2) == [(0, 1, 0), (1, 2, 0), (2, 3, 1), (3, 4, 2)]
    assert seen(7, chunk=3, window=5) == [(0, 3, 0), (3, 6, 1), (6, 7, 2)]


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_clip_at_once_is_what_the_stream_computes_chunk_by_chunk(chunk: int) -> None:
    torch.manual_seed(0)
    transformer = new_transformer(channels=8, width=48, heads=2, layers=2, hidden=64, text=24).eval()
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, prompt = torch.randn(1, FRAMES, 8, 4, 4), torch.randn(1, 1, 5, 24)
    with torch.inference_mode():
        whole = ClipDenoiser(transformer, side=4, frames=FRAMES)(
            x, torch.full((1, FRAMES), 600.0), prompt, torch.zeros(1, FRAMES, dtype=torch.bool), chunk=chunk
        )
        network = VideoDenoiser(transformer)
        policy = RingWithSinks(window=6, sinks=0)
        rollout = Rollout(
            network, lambda rows: network.make_cache(4, 4, policy=policy, rows=rows), policy=policy, positions=CacheRelativePositions(),
            rope=network.rope(4, 4),
        )  # fmt: skip
        scheduler, levels, made = Sequential(rollout), FlowGrid(1.0).levels((600.0,), torch.device("cpu")), []
        for first in range(0, FRAMES, chunk):
            part = x[:, first : first + chunk]
            entered = Chunk(part, levels, torch.empty(0, chunk, 8, 4, 4), first, network.prompt(prompt[0]), first)
            made += [done.latent for done in scheduler.enter(entered)]
    assert torch.allclose(torch.cat(made, 1), x - 0.6 * whole, atol=2e-5)
    assert float((whole - whole.mean(1, keepdim=True)).abs().mean()) > 0.05


def batch_of(*, clips: int, dreams: int) -> Batch:
    shape = (clips + dreams, FRAMES, 8, 4, 4)
    source, target, other, noise = (torch.randn(shape) for _ in range(4))
    numbers = torch.arange(clips + dreams) % 3
    return Batch(source, target, other, numbers, (numbers + 1) % 3, noise, torch.arange(clips + dreams) >= clips)


def test_a_perfect_velocity_has_the_least_loss_at_every_step_of_the_stream() -> None:
    batch = batch_of(clips=24, dreams=8)
    clip = noising.noised(batch, generator=torch.Generator().manual_seed(0))
    sigma = clip.sigma[:, :, None, None, None]
    perfect = torch.where(sigma > 0, (clip.x - clip.target) / sigma.clamp(min=1e-3), torch.randn_like(clip.x))
    assert float(noising.loss_of(perfect, clip)) == pytest.approx(1e-3**0.5, rel=1e-3)
    wrong = torch.where(sigma == sigma.max(), 0.0, perfect)
    assert float(noising.loss_of(wrong, clip)) > 0.05


def test_frames_start_as_the_stream_starts_them() -> None:
    batch = batch_of(clips=64, dreams=64)
    clip = noising.noised(batch, generator=torch.Generator().manual_seed(1))
    for number in range(128):
        last = FRAMES - 1
        sigma = float(clip.sigma[number, last])
        if batch.dreamt[number] and sigma == 1.0:
            assert torch.equal(clip.x[number, last], batch.noise[number, last])
        if not batch.dreamt[number] and sigma == pytest.approx(0.4):
            expected = 0.5 * batch.source[number, last] + 0.5 * batch.noise[number, last]
            assert torch.allclose(clip.x[number, last], expected, atol=1e-6)
    usual = (clip.sigma[:64, -1] - 0.4).abs() < 1e-6
    assert 0.2 < float(usual.float().mean()) < 0.7
    assert bool(clip.second.any()) and not bool(clip.second[64:].any()) and not bool(clip.second[:, 0].any())
    assert bool((clip.sigma == 0).any()) and bool((clip.sigma > 0).any(dim=1).all())


@pytest.fixture(scope="module")
def shard_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small shard: plain looks, latents by averaging."""
    folder = tmp_path_factory.mktemp("shards")

    def encode(clip: np.ndarray) -> Tensor:
        small = torch.nn.functional.avg_pool2d(torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 127.5 - 1, 8)
        return torch.cat([small, small, small[:, :2]], dim=1)

    def source(generator: np.random.Generator) -> np.ndarray:
        return drift.clouds(generator.standard_normal((FRAMES, 8, 16, 16), dtype=np.float32))

    plain = tuple(
        Look((name,), lambda picture, scale=scale: (picture * scale).astype(np.uint8))
        for name, scale in (("full", 1.0), ("half", 0.5), ("third", 0.33), ("dark", 0.1))
    )
    make_shard(folder / "shard_000.pt", source=source, encode=encode, looks=plain, seed=5, sources=3, dreams=2)
    return folder


def test_a_batch_pairs_every_clip_with_two_of_its_looks_and_every_dream_with_its_noise(shard_folder: Path) -> None:
    pool = Pool(shard_folder, seed=3)
    scale = torch.tensor([1.0, 0.5, 0.33, 0.1])
    batch = pool.batch(6, dreams=2)
    assert pool.clips == 12 and batch.dreamt.tolist() == [False] * 4 + [True] * 2
    for clip in range(4):
        for latents, look in ((batch.target[clip], batch.look[clip]), (batch.other[clip], batch.other_look[clip])):
            assert torch.allclose(latents, scale[look] * (batch.source[clip] + 1) - 1, atol=0.02)
        assert batch.look[clip] != batch.other_look[clip]
    dreamt = (drift.clouds(batch.noise[4].numpy()) * float(scale[batch.look[4]])).astype(np.uint8)
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(dreamt).permute(0, 3, 1, 2).float() / 127.5 - 1, 8)
    assert torch.allclose(batch.target[4, :, :3], small, atol=0.03)  # the noise is kept in half precision


def training_in(folder: Path, work: Path) -> Training:
    torch.manual_seed(0)
    transformer = new_transformer(channels=8, width=48, heads=2, layers=1, hidden=64, text=24)
    bank = torch.randn(4, 2, 5, 24, generator=torch.Generator().manual_seed(1))
    return Training(transformer, Pool(folder, seed=1), bank, work, batch=3, seed=1)


def test_training_lowers_the_loss(shard_folder: Path, tmp_path: Path) -> None:
    training = training_in(shard_folder, tmp_path)
    losses = [training.one_step(rate=1.0) for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(shard_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    whole = training_in(shard_folder, tmp_path / "a")
    for _ in range(2):
        whole.one_step(rate=0.5)
    whole.save()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    later = training_in(shard_folder, tmp_path / "b")
    assert later.step == 2
    assert [whole.one_step(rate=0.5) for _ in range(2)] == [later.one_step(rate=0.5) for _ in range(2)]
    pairs = zip(whole.average.state_dict().values(), later.average.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_rate_rises_stays_and_falls() -> None:
    assert rate_at(0, 0.0) < 0.05 and rate_at(1000, 0.3) == pytest.approx(1.0) and rate_at(1000, 1.0) == pytest.approx(0.02)


def test_psnr_and_flicker_of_pictures_that_are_known() -> None:
    grey = np.full((2, 32, 32, 3), 100, np.uint8)
    assert figures.psnr(grey, grey + 51) == pytest.approx(20 * np.log10(5), abs=1e-6)
    assert figures.nearest(grey[0], [grey[0] + 50, grey[0] + 3, grey[0] + 20]) == 1
    assert figures.flicker(np.stack([grey[0], grey[0] + 51]), grey) == pytest.approx(0.2, abs=1e-3)
    assert figures.flicker(grey, grey) == 0.0


def test_an_exported_folder_is_a_model_of_the_engine_with_the_policies_of_the_catalogue(tmp_path: Path, tokenizer_folder: Path) -> None:
    image_model = tmp_path / "image"
    config = CLIPTextConfig(
        vocab_size=2000, hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=32
    )
    CLIPTextModel(config).save_pretrained(image_model / "text_encoder")
    shutil.copytree(tokenizer_folder, image_model / "tokenizer")
    vae = AutoencoderTiny(
        latent_channels=8, encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
    )  # fmt: skip
    transformer = new_transformer(channels=8, width=48, heads=2, layers=1, hidden=64, text=24)
    export_folder(tmp_path / "model", transformer=transformer, vae=vae, image_model=image_model)
    row = next(card for card in VIDEO_CATALOGUE if card.name == EMBEDDED_VIDEO)
    assert policies_from_json((tmp_path / "model" / "video_policies.json").read_text()) == row.video
    assert POLICIES["window"] == drift.TAPS
    clip = drift.clouds(np.random.default_rng(0).standard_normal((4, 8, 8, 8), dtype=np.float32))
    made = Player(tmp_path / "model")(clip, ["neon edges"] * 2 + ["pencil"] * 2, side=64)
    assert made.shape == clip.shape and made.dtype == np.uint8
