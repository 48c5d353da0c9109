"""The last polish of the denoiser, with networks of closed form in its place, and runs that are taken up again."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import AutoencoderTiny
from embedded import polish as module
from embedded.conditioned import Conditioned
from embedded.denoiser_batch import UNPROMPTED
from embedded.finishing import signed
from embedded.motion import moved, places_of, unsteadiness
from embedded.networks import LATENTS, TEXT_WIDTH, new_denoiser
from embedded.photos import random_crop
from embedded.polish import EMPTY_HANDED, MovingPhotos, Polish, PolishBatch, moving_photos, photo_latents
from embedded.tokenizer import MAX_TOKENS
from torch import nn

CPU = torch.device("cpu")
AWAY = 0.5


class Away(nn.Module):
    """A denoiser that always paints the photo, `AWAY` brighter in every channel, whatever the strength."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(AWAY))

    def forward(self, both: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> SimpleNamespace:
        x_s, content = both[:, :LATENTS], both[:, LATENTS:]
        return SimpleNamespace(sample=(x_s - content - self.by) / (timestep / 1000)[:, None, None, None])


def polish_of(unet: nn.Module, work: Path) -> Polish:
    return Polish(work, Conditioned(unet, nn.Linear(1, 1), nn.Identity()), device=CPU, seed=1)  # type: ignore[arg-type]


def batch_of(count: int, *, photo: bool = True, plain: bool = False) -> PolishBatch:
    content = torch.randn(count, LATENTS, 2, 2, generator=torch.Generator().manual_seed(2))
    return PolishBatch(photo * content, torch.zeros(count, MAX_TOKENS, TEXT_WIDTH), torch.full((count,), plain))


def kinds(monkeypatch: pytest.MonkeyPatch, *, at_one: float, refined: float) -> None:
    monkeypatch.setattr(module, "AT_ONE", at_one)
    monkeypatch.setattr(module, "REFINED", refined)
    monkeypatch.setattr(module, "JITTER", 0.0)
    monkeypatch.setattr("embedded.conditioned.quick_dtype", lambda device: torch.float32)


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Polish]:
    """Begins the polish of a narrow network in a work folder, or takes it up again."""
    monkeypatch.setattr("embedded.networks.UNET_WIDTHS", (16, 32, 112))

    def made() -> Polish:
        torch.manual_seed(0)
        return polish_of(new_denoiser(), tmp_path)

    return made


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_batch_is_drawn_from_photos_and_texts_with_some_empty_prompts_and_some_empty_hands(tmp_path: Path) -> None:
    contents = torch.arange(1, 6).float()[:, None, None, None].expand(-1, LATENTS, 2, 2)
    texts = torch.arange(10, 17).float()[:, None, None].expand(-1, MAX_TOKENS, TEXT_WIDTH)
    batch = polish_of(Away(), tmp_path).batch(contents, texts, torch.full((1, MAX_TOKENS, TEXT_WIDTH), -1.0), 4000)
    asked, shown = batch.text[:, 3, 5], batch.content[:, 2, 1, 1]
    assert torch.equal(batch.plain, asked == -1) and set(asked.tolist()) == {-1.0, *range(10, 17)} and set(shown.tolist()) == set(range(6))
    assert float((shown == 0).float().mean()) == pytest.approx(EMPTY_HANDED, abs=0.02)
    assert float(batch.plain.float().mean()) == pytest.approx(UNPROMPTED * (1 - EMPTY_HANDED), abs=0.02)
    assert not (batch.plain & (shown == 0)).any()


@pytest.mark.parametrize(("at_one", "refined"), [(1.0, 0.0), (0.0, 1.0)])
def test_at_full_noise_and_from_the_finished_picture_nothing_changes(
    at_one: float, refined: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds(monkeypatch, at_one=at_one, refined=refined)
    assert polish_of(Away(), tmp_path).one_step(batch_of(50))["latent"].item() < 1e-8


def test_below_full_noise_as_much_of_the_change_is_wanted_as_the_strength_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much is (1 - share) (1 - s) of the change; shares are 0, two in five spread over (0, 1); s over (0.1, 1)."""
    kinds(monkeypatch, at_one=0.0, refined=0.0)
    loss = polish_of(Away(), tmp_path).one_step(batch_of(40_000))
    assert loss["latent"].item() == pytest.approx(AWAY**2 * (0.6 + 0.4 / 3) * 0.9**2 / 3, rel=0.03)


def test_without_a_photo_the_denoiser_stays_as_it_was_and_an_empty_prompt_wants_the_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds(monkeypatch, at_one=0.0, refined=0.0)
    assert polish_of(Away(), tmp_path).one_step(batch_of(50, photo=False))["latent"].item() < 1e-8
    assert polish_of(Away(), tmp_path).one_step(batch_of(50, plain=True))["latent"].item() == pytest.approx(AWAY**2, rel=1e-4)


def test_a_few_steps_lower_the_loss_and_only_the_unet_learns(begun: Callable[[], Polish], monkeypatch: pytest.MonkeyPatch) -> None:
    kinds(monkeypatch, at_one=0.0, refined=0.0)
    training, batch, losses = begun(), batch_of(16), []
    content = torch.nn.functional.interpolate(batch.content, scale_factor=4)
    frozen = [value.clone() for value in training.frozen.state_dict().values()]
    for step in range(8):
        training.generator.manual_seed(3)  # the same noise again and again
        losses.append(training.one_step(PolishBatch(content, batch.text, batch.plain))["latent"].item())
        training.step = step + 1
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(frozen, training.frozen.state_dict().values(), strict=True))
    assert not same(training.network.unet, training.frozen.unet) and not same(training.average, training.frozen.unet)
    assert same(training.network.text_encoder, training.frozen.text_encoder)


@pytest.mark.usefixtures("counted_time")
def test_a_polish_ends_with_its_time_and_goes_on_from_its_checkpoint_exactly(begun: Callable[[], Polish]) -> None:
    contents, texts = torch.randn(5, LATENTS, 8, 8), torch.randn(4, MAX_TOKENS, TEXT_WIDTH)
    first = begun()
    moving = MovingPhotos(torch.randn(3, 2, LATENTS, 8, 8), torch.eye(2, 3).expand(3, 2, 3))
    first.run(contents, texts, texts[:1], moving, batch=3, pairs=2, minutes=0.3)
    again = begun()
    assert again.step == first.step >= 3 and again.seconds >= 17 and not list(first.work.glob("*.partial"))
    assert same(again.network, first.network) and same(again.average, first.average)
    for each in (first, again):
        each.generator.manual_seed(4)
        each.one_step(each.batch(contents, texts, texts[:1], 3), moving)
    assert same(again.network, first.network) and same(again.average, first.average)


def test_latents_of_photos_are_the_encoders_of_random_crops(scene: npt.NDArray[np.uint8], autoencoder: AutoencoderTiny) -> None:
    photos = np.stack([scene, scene[::-1]])
    made = photo_latents(photos, autoencoder, count=5, side=64, seed=6, device=CPU)
    generator = np.random.default_rng(6)
    crops = [random_crop(photos[number], side=64, generator=generator) for number in generator.integers(2, size=5)]
    with torch.no_grad():
        wanted = autoencoder.encode(signed(torch.from_numpy(np.stack(crops)))).latents
    assert made.shape == (5, LATENTS, 8, 8) and made.dtype == torch.float32
    torch.testing.assert_close(made, wanted, atol=0.03 * float(wanted.abs().max()), rtol=0)  # encoded in bfloat16, on most machines
    assert len(photo_latents(photos, autoencoder, count=19, side=64, seed=6, device=CPU)) == 19


class Shown(nn.Module):
    """A decoder that shows the first three channels, eight times as large."""

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(latents[:, :3].float(), scale_factor=8, mode="bilinear")


@pytest.mark.parametrize("motion", ["none", "half a cell"])
def test_steady_is_what_moves_with_its_photo_and_the_picture_wanted_is_still_that_of_the_photo(
    motion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A denoiser that brightens the photo: of a photo that stands still its picture stands still, of one that has moved it has moved."""
    monkeypatch.setattr("embedded.conditioned.quick_dtype", lambda device: torch.float32)
    training = Polish(tmp_path, Conditioned(Away(), nn.Linear(1, 1), Shown()), device=CPU, seed=1)  # type: ignore[arg-type]
    photo = nn.functional.interpolate(torch.randn(4, LATENTS, 4, 4, generator=torch.Generator().manual_seed(5)), 16, mode="bicubic")
    still = torch.eye(2, 3).expand(4, 2, 3).clone()
    shifted = still.clone()
    shifted[:, 0, 2] = 2 * 4 / 128
    later = moved(photo, places_of(shifted, 16)) if motion == "half a cell" else photo
    latents, texts = torch.stack([photo, later], dim=1), torch.zeros(4, MAX_TOKENS, TEXT_WIDTH)
    found = {name: training._unsteadiness(MovingPhotos(latents, each), texts) for name, each in (("still", still), ("shifted", shifted))}
    told, untold = ("still", "shifted") if motion == "none" else ("shifted", "still")
    assert found[told][0].item() < 0.25 * found[untold][0].item() and found[untold][0].item() > 0.01
    # the picture at s is AWAY from the photo, s of AWAY is wanted, and s is spread over 0.3 to 0.8
    shares = torch.linspace(0.3, 0.8, 1001)
    low, high = (AWAY**2 * float((1 - share) ** 2) for share in (shares[-1], shares[0]))
    assert low < found[told][1].item() < high


def test_moving_photos_are_crops_and_the_same_crops_moved(scene: npt.NDArray[np.uint8], autoencoder: AutoencoderTiny) -> None:
    found = moving_photos(np.stack([scene, scene[::-1]]), autoencoder, count=18, side=64, seed=6, device=CPU)
    assert found.latents.shape == (18, 2, LATENTS, 8, 8) and found.motions.shape == (18, 2, 3)
    few = found.some(5, generator=torch.Generator().manual_seed(1))
    rows = [int(next(i for i in range(18) if torch.equal(found.motions[i], motion))) for motion in few.motions]
    assert torch.equal(few.latents, found.latents[rows])
    with torch.no_grad():
        shown = autoencoder.decode(found.latents.flatten(0, 1)).sample.unflatten(0, (18, 2))
    places = places_of(found.motions, 64)
    along, apart = unsteadiness(shown[:, 0], shown[:, 1], places), unsteadiness(shown[:, 0], shown[:, 1], places.roll(1, dims=0))
    assert along.item() < apart.item(), "each crop goes with its own motion"
