"""Training of the denoiser on a tiny pool: what is compared with what, what learns, and runs that are taken up again."""

import copy
import csv
import itertools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from embedded import denoiser as denoising
from embedded import flow
from embedded.autoencoder import AutoencoderTraining
from embedded.conditioned import quickest_attention
from embedded.denoiser import DenoiserTraining, learning_rate
from embedded.motion import unsteadiness
from embedded.networks import LATENTS
from embedded.pair_pool import PairBatch, PairPool
from embedded.scale import Scale
from embedded.tokenizer import token_ids
from torch import nn
from transformers import CLIPTokenizer

MakePool = Callable[..., PairPool]


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def planted_pairs(scale: Scale, tokenizer: CLIPTokenizer) -> PairBatch:
    """Random pairs, two of them painted."""
    generator = torch.Generator().manual_seed(3)
    count, cells = scale.latents, scale.side // 8
    pictures = torch.randint(0, 256, (2, count, scale.side, scale.side, 3), generator=generator, dtype=torch.uint8)
    latents = torch.randn(3, count, LATENTS, cells, cells, generator=generator)
    painted = torch.tensor([number in (2, 11) for number in range(count)])
    content = torch.where(painted[:, None, None, None], 0.0, latents[0])
    ids = torch.tensor(token_ids(tokenizer, ["neon edges"] * count))
    return PairBatch(pictures[0], pictures[1], content, latents[1], latents[2], ids, torch.full((count,), -1), painted)


def test_the_learning_rate_warms_up_stays_and_declines_to_two_hundredths() -> None:
    highest = denoising.LEARNING_RATE
    assert learning_rate(0, 0.0) == pytest.approx(highest / 200) and learning_rate(99, 0.1) == pytest.approx(highest / 2)
    assert learning_rate(5000, 0.0) == learning_rate(5000, 0.4) == pytest.approx(highest)
    assert learning_rate(5000, 0.7) == pytest.approx(0.51 * highest) and learning_rate(5000, 1.0) == pytest.approx(0.02 * highest)


def test_a_few_steps_of_the_denoiser_lower_a_fixed_loss_and_only_unet_and_decoder_learn(
    begun_denoiser: Callable[[], DenoiserTraining], make_pool: MakePool
) -> None:
    training = begun_denoiser()
    pool = make_pool(training.autoencoder)
    pairs, directions, begun = pool.batch(12), pool.colour_directions(), copy.deepcopy(training.network)
    encoder = copy.deepcopy(training.autoencoder)
    for group in training.optimizer.param_groups:
        group["lr"] = 3e-4
    values = []
    for _ in range(6):
        training.generator.manual_seed(5)  # the same noise again and again
        values.append(training.one_step(pairs, directions, fraction=0.5))
        training.step += 1
    for name in ("latent", "pixels"):
        losses = [float(each[name].detach()) for each in values]
        assert losses[-1] < losses[0] and np.isfinite(losses).all(), (name, losses)
    assert all(np.isfinite(value.item()) for value in values[-1].values())
    assert not same(training.network.unet, begun.unet) and not same(training.network.decoder, begun.decoder)
    assert same(training.network.text_encoder, begun.text_encoder) and same(training.average.text_encoder, begun.text_encoder)
    assert same(training.autoencoder, encoder)
    finished = training.finished_autoencoder()
    assert same(finished.encoder, encoder.encoder) and same(finished.decoder, training.average.decoder)
    assert not same(finished.decoder, encoder.decoder) and not same(training.average.unet, training.network.unet)


def test_a_finished_network_learns_by_smaller_steps_and_from_pictures_at_once(
    begun_denoiser: Callable[[], DenoiserTraining], tokenizer: CLIPTokenizer, tiny_scale: Scale
) -> None:
    training, pairs = begun_denoiser(), planted_pairs(tiny_scale, tokenizer)
    training.finished, training.scale = True, replace(tiny_scale, critics=False)
    critics = copy.deepcopy(training.critics.critics)
    values = training.one_step(pairs, torch.zeros(LATENTS, 3), fraction=0.0)
    assert np.isfinite([values[name].item() for name in ("pixels", "places", "textures", "styles", "steady")]).all()
    training.one_step(pairs, torch.zeros(LATENTS, 3), fraction=0.9)
    assert same(training.critics.critics, critics) and np.isnan(values["critic"].item())


def test_plain_attention_is_the_fused_one() -> None:
    query, key, value = torch.randn(3, 2, 4, 10, 8, generator=torch.Generator().manual_seed(1))
    with quickest_attention(torch.device("cpu")):
        made = nn.functional.scaled_dot_product_attention(query, key, value)
        assert not torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.math_sdp_enabled()
    weights = (query @ key.transpose(2, 3) / 8**0.5).softmax(dim=3)
    torch.testing.assert_close(made, weights @ value)


def test_pictures_are_compared_only_after_the_first_part_of_the_time(
    begun_denoiser: Callable[[], DenoiserTraining], tokenizer: CLIPTokenizer, tiny_scale: Scale
) -> None:
    training, pairs = begun_denoiser(), planted_pairs(tiny_scale, tokenizer)
    decoder = copy.deepcopy(training.network.decoder)
    values = training.one_step(pairs, torch.zeros(LATENTS, 3), fraction=0.01)
    assert np.isnan([values[name].item() for name in ("pixels", "places", "textures", "styles", "steady", "critic")]).all()
    assert np.isfinite([values["latent"].item(), values["one_step"].item()]).all() and same(training.network.decoder, decoder)


class Answer(nn.Module):
    """A denoiser that knows what is wanted: its one-step pictures are the wanted latents, in place of the network's."""

    def __init__(self, wanted: dict[int, torch.Tensor]) -> None:
        super().__init__()
        self.wanted, self.factor = wanted, nn.Parameter(torch.ones(()))

    def forward(self, both: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> SimpleNamespace:
        x_s, s = both[:, :LATENTS].float(), (timestep / 1000)[:, None, None, None].float()
        wanted = self.wanted.get(len(both), torch.zeros_like(x_s))
        return SimpleNamespace(sample=self.factor * (x_s - wanted) / s)


def test_a_denoiser_that_knows_the_answer_loses_nothing_and_its_pictures_are_compared_with_the_right_ones(
    begun_denoiser: Callable[[], DenoiserTraining], tokenizer: CLIPTokenizer, tiny_scale: Scale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder shows a latent's first three channels; pictures are made that their latents show just so."""
    training, pairs = begun_denoiser(), planted_pairs(tiny_scale, tokenizer)

    def shown(latents: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(latents[:, :3].float(), scale_factor=8)

    def pictures(latents: torch.Tensor) -> torch.Tensor:
        return ((shown(latents) + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)

    content, target = pairs.content.clamp(-1, 1), pairs.target.clamp(-1, 1)
    pairs = replace(pairs, contents=pictures(content), targets=pictures(target), content=content, target=target)
    kept: dict[str, torch.Tensor] = {}
    known: dict[int, torch.Tensor] = {}
    real = denoising.Batch

    def batch(*arguments: object) -> object:
        made = real(*arguments)  # type: ignore[arg-type]
        known[len(made.wanted)] = made.wanted
        return made

    class Decoder(nn.Module):
        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return shown(latents)

    compare = training.critics.compare

    def noted(made: torch.Tensor, wanted: torch.Tensor, *, adversarial: bool) -> object:
        kept["made"], kept["wanted"] = made.detach(), wanted
        return compare(made, wanted, adversarial=adversarial)

    monkeypatch.setattr(denoising, "Batch", batch)
    monkeypatch.setattr("embedded.conditioned.quick_dtype", lambda device: torch.float32)
    monkeypatch.setattr(training.critics, "compare", noted)
    monkeypatch.setattr(denoising, "update_average", lambda *_, **__: None)
    training.network.unet, training.network.decoder = Answer(known), Decoder()  # type: ignore[assignment]
    for group, part in zip(training.optimizer.param_groups, (training.network.unet, nn.Linear(1, 1)), strict=True):
        group["params"] = list(part.parameters())
    directions = torch.randn(LATENTS, 3, generator=torch.Generator().manual_seed(4))
    values = training.one_step(pairs, directions, fraction=0.2)
    assert values["latent"].item() < 1e-9 and values["one_step"].item() < 1e-9
    assert len(kept["made"]) == tiny_scale.decoded + tiny_scale.rebuilt
    torch.testing.assert_close(kept["made"], kept["wanted"], atol=0.01, rtol=0)


def test_a_texture_without_a_photo_is_steady_as_it_is(
    begun_denoiser: Callable[[], DenoiserTraining], tokenizer: CLIPTokenizer, tiny_scale: Scale
) -> None:
    """It has no photo that could move: from the same noise comes the same picture."""
    training, pairs = begun_denoiser(), planted_pairs(tiny_scale, tokenizer)
    painted = replace(pairs, content=0 * pairs.content, painted=torch.ones_like(pairs.painted))
    texts, directions = training.network.texts(pairs.ids), torch.zeros(LATENTS, 3)
    assert float(training._unsteadiness(painted, texts, directions)[0].detach()) == pytest.approx(0, abs=1e-5)
    assert training._unsteadiness(painted, texts, directions)[1].item() == 0, "nothing is wanted from a photo that is not there"
    assert float(training._unsteadiness(pairs, texts, directions)[0].detach()) > 0.01


def test_what_is_held_against_each_other_is_the_picture_of_the_moved_photo_and_the_moved_picture_of_the_photo(
    begun_denoiser: Callable[[], DenoiserTraining], tokenizer: CLIPTokenizer, tiny_scale: Scale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the photo itself in place of what the networks make, by whole pixels and without grain, nothing is unsteady."""
    training, pairs = begun_denoiser(), planted_pairs(tiny_scale, tokenizer)
    monkeypatch.setattr(denoising, "GRAIN", 0.0)
    motions = torch.tensor([[[1.0, 0.0, 2 * 3 / tiny_scale.side], [0.0, 1.0, 0.0]]]).expand(tiny_scale.moved, 2, 3)
    monkeypatch.setattr(denoising, "small_motions", lambda count, generator: motions)
    smooth = nn.functional.interpolate(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)), scale_factor=8, mode="bicubic")
    contents = ((smooth.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1)
    content = smooth.new_zeros(2, LATENTS, 64, 64)
    content[:, :3] = contents.permute(0, 3, 1, 2) / 127.5 - 1
    moving = PairBatch(contents, contents, content, content, content, pairs.ids[:2], pairs.alone[:2], torch.zeros(2, dtype=torch.bool))

    def encoded(_: object, pictures: torch.Tensor) -> torch.Tensor:
        return torch.cat([pictures, torch.zeros(len(pictures), LATENTS - 3, 64, 64)], dim=1)

    class Lit(nn.Module):
        """The photo, and as much of the light that its noise means as a start from a photo wants at this strength."""

        gain = 1.0

        def forward(self, both: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> SimpleNamespace:
            x_s, content, s = both[:, :LATENTS], both[:, LATENTS:], timestep / 1000
            with torch.autocast("cpu", enabled=False):
                noise = (x_s - (1 - s)[:, None, None, None] * content) / s[:, None, None, None]
                light = flow.seed_light(noise, lamp)
                wanted = self.gain * flow.goal(content, content + light, torch.zeros(len(s)), s)
                return SimpleNamespace(sample=flow.velocity(x_s, wanted, s))

    class Shown(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return self.factor * latents[:, :3]

    monkeypatch.setattr(denoising, "encoded", encoded)
    monkeypatch.setattr("embedded.conditioned.quick_dtype", lambda device: torch.float32)
    training.network.unet, training.network.decoder = Lit(), Shown(1.0)  # type: ignore[assignment]
    texts = training.network.texts(moving.ids)
    lamp = torch.randn(LATENTS, 3, generator=torch.Generator().manual_seed(6))
    steady, astray = training._unsteadiness(moving, texts, lamp)
    assert steady.item() == pytest.approx(0, abs=1e-4) and astray.item() == pytest.approx(0, abs=1e-6)
    values = []
    for factor in (1.0, 0.5):  # less contrast is not steadier
        training.network.decoder = Shown(factor)
        training.generator.manual_seed(5)
        values.append(training._unsteadiness(moving, texts, 0 * lamp)[0].item())  # the light stays where it is while the photo moves
    assert values[0] > 1e-3 and values[1] == pytest.approx(values[0], rel=1e-3)
    training.network.unet.gain = 3.0  # type: ignore[assignment]
    training.generator.manual_seed(5)
    loud = training._unsteadiness(moving, texts, 0 * lamp)[0].item()
    assert loud == pytest.approx(3 * values[0], rel=0.01), "a picture that shouts is not steadier for it"
    training.network.unet.gain = 1.0  # type: ignore[assignment]
    elsewhere = replace(moving, target=content + 0.5)
    monkeypatch.setattr(torch, "rand", lambda *size, **given: torch.zeros(*size))  # the second stands at 0.3, the first at 1
    astray = (0.5**2 + 0.15**2) / 2 + 0.5 * (0.5 + 0.15) / 2  # of latents, and of pictures, which show half of it
    assert training._unsteadiness(elsewhere, texts, lamp)[1].item() == pytest.approx(astray, rel=1e-4)
    places = denoising.places_of(motions, 64)
    assert float(unsteadiness(content[:, :3], content[:, :3], places)) > 0.01, "the photo shows nothing that moves"


@pytest.mark.usefixtures("counted_time")
def test_the_denoiser_goes_on_from_its_checkpoint_exactly(
    begun_denoiser: Callable[[], DenoiserTraining], make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoising, "NOTE_STEPS", 1)
    first, saved = begun_denoiser(), list[int]()
    pool = make_pool(first.autoencoder)
    first.run(pool, minutes=0.4, on_checkpoint=lambda: saved.append(first.step))
    assert saved == [first.step] and first.step >= 3
    again = begun_denoiser()
    assert again.step == first.step and again.seconds >= 23
    pairs, directions = pool.batch(12), pool.colour_directions()
    assert same(again.network, first.network) and same(again.average, first.average)
    for each in (first, again):
        each.generator.manual_seed(9)
        for group in each.optimizer.param_groups:
            group["lr"] = 1e-4 * group["share"]
        each.one_step(pairs, directions, fraction=0.9)
    assert same(first.network, again.network) and same(first.average, again.average)
    assert same(first.critics.critics, again.critics.critics)
    rows = list(csv.DictReader((first.work / "denoiser.csv").open(encoding="utf-8")))
    assert [int(row["step"]) for row in rows] == list(range(1, first.step + 1))
    assert np.isfinite(float(rows[-1]["places"])), "the compared pictures did not join"
    assert not list(first.work.glob("*.partial"))


def test_a_fresh_denoiser_takes_the_critics_that_the_autoencoder_left(
    begun_autoencoder: Callable[[], AutoencoderTraining], begun_denoiser: Callable[[], DenoiserTraining], make_pool: MakePool
) -> None:
    rebuilt = begun_autoencoder()
    rebuilt.one_step(make_pool(None).pictures(4), adversarial=True)
    rebuilt.save(1.0)
    training = begun_denoiser()
    assert same(training.critics.critics, rebuilt.critics.critics)
    count = itertools.chain.from_iterable(group["params"] for group in training.optimizer.param_groups)
    trained = {id(parameter) for parameter in count}
    assert not trained & {id(parameter) for parameter in training.network.text_encoder.parameters()}
