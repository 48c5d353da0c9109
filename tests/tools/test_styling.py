"""The styling, with networks of closed form in the denoiser's place: what is compared, what stays, and runs that are taken up again."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from embedded import flow
from embedded import styling as module
from embedded.conditioned import Conditioned
from embedded.denoiser import DenoiserTraining
from embedded.networks import LATENTS
from embedded.pair_pool import PairBatch, PairPool
from embedded.perceptual import PerceptualLoss
from embedded.style_contrast import StyleContrast, joined_statistics
from embedded.styling import Styling
from embedded.tokenizer import token_ids
from embedded.trained import polished_unet, styled_unet
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from tests.tools.standing_networks import Shown

CPU = torch.device("cpu")
SIDE, COUNT, FEW = 64, 10, 2


class Tinted(nn.Module):
    """A denoiser that paints a share of the photo in one colour, the same for every text, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.colour, self.share = nn.Parameter(torch.zeros(LATENTS)), nn.Parameter(torch.tensor(1 / 3))
        self.given: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self.made: list[torch.Tensor] = []

    def forward(self, both: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> SimpleNamespace:
        x_s, content = both[:, :LATENTS], both[:, LATENTS:]
        velocity = (x_s - self.share * content - self.colour[:, None, None]) / (timestep / 1000)[:, None, None, None]
        self.given.append((both.detach(), timestep, text))
        self.made.append(velocity.detach())
        return SimpleNamespace(sample=velocity)


def contrasts_of(eye: PerceptualLoss) -> tuple[StyleContrast, StyleContrast]:
    """Red pictures and blue ones by their means; red, blue and grey ones by examples."""
    colours = torch.tensor([[0.8, -0.76, -0.76], [-0.76, -0.76, 0.8], [0.2, 0.2, 0.2]])
    pictures = colours[:, :, None, None] + 0.05 * torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    lengths = [length for count in eye.channels for length in (2 * count, count * (count + 1) // 2)]
    with torch.no_grad():
        known = joined_statistics(eye.features(pictures))
    made = []
    for part in (known[:2], known):
        form = {"usual": part.mean(dim=0), "pictures": part, "lengths": lengths, "concepts": 500}
        made.append(StyleContrast(part, torch.arange(len(part)), **form))
    return made[0], made[1]


@pytest.fixture
def begun(tmp_path: Path, encoder: CLIPTextModel, tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Styling]:
    """Begins the run in a work folder, or takes it up again; all in float32."""
    monkeypatch.setattr("embedded.conditioned.quick_dtype", lambda device: torch.float32)
    monkeypatch.setattr(module, "JITTER", 0.0)
    empty = torch.tensor(token_ids(tokenizer, [""])[0])

    def made() -> Styling:
        network = Conditioned(Tinted(), encoder, Shown())  # type: ignore[arg-type]
        eye = PerceptualLoss()
        return Styling(tmp_path, network, *contrasts_of(eye), eye, empty=empty, device=CPU, seed=1)

    return made


def planted(tokenizer: CLIPTokenizer, *, painted: bool = False) -> PairBatch:
    """Photos of noise; all are wanted to be red."""
    generator = torch.Generator().manual_seed(3)
    content, noise = torch.tensor([0.1, 1.0])[:, None, None, None, None] * torch.randn(
        2, COUNT, LATENTS, SIDE // 8, SIDE // 8, generator=generator
    )
    targets = torch.tensor([230, 30, 30], dtype=torch.uint8).expand(COUNT, SIDE, SIDE, 3)
    ids = torch.tensor(token_ids(tokenizer, ["neon edges"] * COUNT))
    return PairBatch(
        targets, targets, content * (not painted), content, noise, ids, torch.zeros(COUNT, dtype=torch.long), torch.full((COUNT,), painted)
    )


def test_the_pictures_come_to_what_is_wanted_and_only_the_denoiser_learns(begun: Callable[[], Styling], tokenizer: CLIPTokenizer) -> None:
    training, pairs = begun(), planted(tokenizer)
    parts = (training.network.text_encoder, training.network.decoder, training.frozen, training.eye)
    still = [copy.deepcopy(part.state_dict()) for part in parts]
    for group in training.optimizer.param_groups:
        group["lr"] = 0.05
    values = [training.one_step(pairs, torch.zeros(LATENTS, 3)) for _ in range(20)]
    assert values[0]["kept"] == 0 < values[-1]["kept"], "at first nothing has changed"
    assert values[-1]["pixels"] < 0.6 * values[0]["pixels"]
    assert all(values[-1][name] < values[0][name] for name in ("contrast", "example", "style", "places"))
    assert values[-1]["told"] == 1 == values[-1]["matched"]
    red, green, blue = training.network.unet.colour.detach()[:3]  # type: ignore[union-attr]
    assert red > 0.3 and green < -0.3 and blue < -0.3
    for part, state in zip(parts, still, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())


def test_pictures_are_told_by_the_means_and_by_the_examples(begun: Callable[[], Styling], tokenizer: CLIPTokenizer) -> None:
    training, pairs = begun(), planted(tokenizer)
    values = training.one_step(pairs, torch.zeros(LATENTS, 3))
    made = training.network.decoder(torch.cat([pairs.content, pairs.content[:FEW]]) / 3)
    with torch.no_grad():
        statistics = joined_statistics(training.eye.features(made))
    looks = torch.zeros(COUNT + FEW, dtype=torch.long)
    for contrast, loss, share in ((training.means, "contrast", "told"), (training.examples, "example", "matched")):
        found = contrast(statistics, looks)
        assert float(values[loss]) == pytest.approx(float(found[0]), rel=0.03) and float(values[share]) == float(found[1])
    assert abs(float(values["contrast"]) - float(values["example"])) > 0.1


@pytest.mark.parametrize("weight", ["MEANS", "EXAMPLES", "STYLE", "PLACES", "PIXELS", "MESH", "none"])
def test_each_loss_is_learned_from_by_its_weight(
    begun: Callable[[], Styling], tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch, weight: str
) -> None:
    for other in {"MEANS", "EXAMPLES", "STYLE", "PLACES", "PIXELS", "MESH", "KEPT"} - {weight}:
        monkeypatch.setattr(module, other, 0.0)
    training, pairs = begun(), planted(tokenizer)
    training.one_step(pairs, torch.zeros(LATENTS, 3))
    unet: Any = training.network.unet
    slopes = [float(parameter.grad.abs().max()) for parameter in (unet.colour, unet.share)]
    assert (max(slopes) > 0) == (weight != "none")


def test_what_shall_stay_holds_the_denoiser_back(
    begun: Callable[[], Styling], tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = []
    for weight in (0.0, 1e5):
        monkeypatch.setattr(module, "KEPT", weight)
        training = begun()
        for group in training.optimizer.param_groups:
            group["lr"] = 0.05
        for _ in range(20):
            training.one_step(planted(tokenizer), torch.zeros(LATENTS, 3))
        moved.append(float(training.network.unet.colour.detach()[:3].norm()))  # type: ignore[union-attr]
    assert moved[1] < 0.5 * moved[0]


def test_a_second_step_is_euler_s_and_what_stays_begins_at_the_photo(
    begun: Callable[[], Styling], tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNPROMPTED", 0.5)
    training, pairs = begun(), planted(tokenizer)
    training.one_step(pairs, torch.zeros(LATENTS, 3))
    unet: Any = training.network.unet
    (start, level, text), (later, levels, texts) = unet.given
    assert torch.equal(level, torch.full((COUNT,), 1000.0)) and torch.equal(start[:, LATENTS:], pairs.content)
    s = (levels / 1000)[:, None, None, None]
    euler = start[:FEW, :LATENTS] + (s[:FEW] - 1) * unet.made[0][:FEW]
    torch.testing.assert_close(later[:FEW, :LATENTS], euler, atol=1e-5, rtol=1e-4)
    photo = flow.noisy(pairs.content[FEW : 2 * FEW], start[FEW : 2 * FEW, :LATENTS], s[FEW:, 0, 0, 0])
    torch.testing.assert_close(later[FEW:, :LATENTS], photo, atol=1e-5, rtol=1e-4)
    frozen: Any = training.frozen.unet
    assert torch.equal(frozen.given[0][0], later[FEW:]) and torch.equal(frozen.given[0][2], texts[FEW:])
    assert torch.equal(texts[:FEW], text[:FEW]) and bool((s <= 1).all()) and bool((s[:FEW] <= 0.8).all())
    empty = training.network.texts(training.empty[None])[0]
    told = []
    for _ in range(20):
        training.one_step(pairs, torch.zeros(LATENTS, 3))
        told += [bool(torch.allclose(each, empty, atol=1e-5)) for each in frozen.given[-1][2]]
    assert 0.2 < np.mean(told) < 0.8, "some of what stays has the empty prompt"


@pytest.mark.parametrize("painted", [False, True])
def test_the_light_of_the_seed_is_wanted_beside_the_picture_but_not_without_a_photo(
    begun: Callable[[], Styling], tokenizer: CLIPTokenizer, painted: bool
) -> None:
    """Directions that make the light strong: pictures are compared without it, so a network that paints none is far off."""
    pairs, found = planted(tokenizer, painted=painted), []
    for strong in (0.0, 20.0):
        training = begun()
        directions = torch.zeros(LATENTS, 3)
        directions[:3] = strong * torch.eye(3)
        found.append(float(training.one_step(pairs, directions)["pixels"]))
    assert (found[0] == found[1]) if painted else (found[1] > 1.2 * found[0])


def test_a_texture_without_a_photo_begins_with_the_noise_it_was_made_from(begun: Callable[[], Styling], tokenizer: CLIPTokenizer) -> None:
    training, pairs = begun(), planted(tokenizer, painted=True)
    training.one_step(pairs, torch.zeros(LATENTS, 3))
    given = training.network.unet.given[0][0]  # type: ignore[index, union-attr]
    assert torch.equal(given[:, :LATENTS], pairs.noise) and not given[:, LATENTS:].any()


@pytest.fixture
def narrow(tmp_path: Path, begun_denoiser: Callable[[], DenoiserTraining]) -> Callable[[], Styling]:
    """Begins the run of a narrow network in a work folder, or takes it up again."""

    def made() -> Styling:
        training = begun_denoiser()
        eye = PerceptualLoss()
        return Styling(tmp_path, training.average, *contrasts_of(eye), eye, empty=training.empty, device=CPU, seed=1)

    return made


def test_a_styling_goes_on_from_its_checkpoint_exactly(
    narrow: Callable[[], Styling], make_pool: Callable[..., PairPool], autoencoder: AutoencoderTiny, tmp_path: Path
) -> None:
    pool = make_pool(autoencoder)
    pairs, directions = pool.batch(COUNT), pool.colour_directions()
    first = narrow()
    first.one_step(pairs, directions)
    first.step = 1
    first.save(12.0)
    again = narrow()
    assert (again.step, again.seconds) == (1, 12.0)
    for each in (first, again):
        each.generator.manual_seed(5)
        values = each.one_step(pairs, directions)
        assert all(np.isfinite(value.item()) for value in values.values())
    for one, other in ((first.network.unet, again.network.unet), (first.average, again.average), (first.distance, again.distance)):
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    again.save(20.0)
    shipped = polished_unet(tmp_path, copy.deepcopy(again.frozen.unet))
    assert all(torch.equal(a, b) for a, b in zip(shipped.parameters(), again.average.parameters(), strict=True))
    assert not torch.equal(next(iter(shipped.parameters())), next(iter(again.frozen.unet.parameters())))
    torch.save({"average": again.frozen.unet.state_dict()}, tmp_path / "polished.pt")
    polished, styled = polished_unet(tmp_path, copy.deepcopy(shipped)), styled_unet(tmp_path, copy.deepcopy(again.frozen.unet))
    assert torch.equal(next(iter(polished.parameters())), next(iter(again.frozen.unet.parameters()))), "the polish comes last"
    assert torch.equal(next(iter(styled.parameters())), next(iter(again.average.parameters())))


@pytest.mark.usefixtures("counted_time")
def test_a_styling_ends_with_its_time_and_leaves_a_checkpoint(
    narrow: Callable[[], Styling], make_pool: Callable[..., PairPool], autoencoder: AutoencoderTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NOTE_STEPS", 1)
    training, pool = narrow(), make_pool(autoencoder)
    before = pool.added
    training.run(pool, batch=COUNT, minutes=0.2)
    assert training.step >= 2 and narrow().step == training.step and not list(training.work.glob("*.partial"))
    assert pool.added > before, "new pairs come in"
    assert (
        (training.work / "styling.csv")
        .read_text(encoding="utf-8")
        .startswith("step,seconds,contrast,told,example,matched,style,places,pixels,mesh,kept,slope")
    )
