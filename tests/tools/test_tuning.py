"""Tuning of the text encoder: what a denoiser reads from a text, by numpy and by its own attention, and which texts keep what they tell."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedded import tuning as module
from embedded.concepts import Concept
from embedded.free_texts import NEIGHBOURS
from embedded.inversion import plain_ids, plain_texts
from embedded.networks import LATENTS, TEXT_WIDTH, new_denoiser
from embedded.text_examples import Examples
from embedded.tokenizer import MAX_TOKENS, token_ids
from embedded.tuning import Readout, TextTuning, plain_readouts
from transformers import CLIPTextModel, CLIPTokenizer

CPU = torch.device("cpu")
CONCEPTS = [Concept(f"look/{name}", [name, f"{name} style", f"as {name}"]) for name in ("neon", "pencil", "dancer", "sketch")]
SHIFTS = torch.randn(len(CONCEPTS), TEXT_WIDTH, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def unet(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Narrow, with random weights."""
    monkeypatch.setattr("embedded.networks.UNET_WIDTHS", (16, 32, 112))
    torch.manual_seed(0)
    return new_denoiser().eval()


@pytest.fixture
def readout(unet: Any) -> Readout:
    generator = torch.Generator().manual_seed(2)
    content, text = torch.randn(3, LATENTS, 16, 16, generator=generator), texts(3)
    return Readout(unet, content, text, generator=generator)


@pytest.fixture
def begun(tmp_path: Path, encoder: CLIPTextModel, readout: Readout, tokenizer: CLIPTokenizer) -> Callable[..., TextTuning]:
    """`begun(finished=False)` begins the run in a work folder, or takes it up again."""
    ids = plain_ids(tokenizer, CONCEPTS)
    plain = plain_readouts(readout, plain_texts(encoder, ids), SHIFTS)
    given = {"named": [0, 1, 3], "device": CPU}
    return lambda finished=False: TextTuning(tmp_path, encoder, readout, SHIFTS, ids, plain, finished=finished, **given)


def texts(count: int) -> torch.Tensor:
    return torch.randn(count, MAX_TOKENS, TEXT_WIDTH, generator=torch.Generator().manual_seed(3))


def examples_of(tokenizer: CLIPTokenizer) -> Examples:
    """One look; a blend of a free text; one look in a colour; a mixture of two looks."""
    concepts = np.zeros((4, NEIGHBOURS), np.int16)
    shares, rest = np.zeros((4, NEIGHBOURS), np.float16), np.zeros((4, 10), np.float16)
    concepts[:, :2] = [[1, 0], [2, 3], [0, 0], [3, 1]]
    shares[:, :2] = [[1, 0], [0.75, 0.25], [1, 0], [0.5, 0.5]]
    rest[2, 4] = 4
    ids = np.array(token_ids(tokenizer, ["pencil drawing", "a dancer in neon", "neon in red", "sketch and pencil"]), np.int16)
    return Examples(ids, concepts, shares, rest, np.array([-1, 7, -1, -1], np.int32))


def test_what_is_read_is_the_pooled_text_and_what_attention_gives_back_as_numpy_has_it(readout: Readout, unet: Any) -> None:
    text = texts(2)
    with torch.inference_mode():
        made, pooled = readout(text).double().numpy(), unet.add_embedding(text).double().numpy()
    wanted = [readout.scales[0] * pooled / np.sqrt(pooled.shape[1])]
    for layer, query, scale in zip(readout.layers, readout.queries, readout.scales[1:], strict=True):
        states = text.double().numpy()
        key, value = (states @ part.weight.detach().double().numpy().T for part in (layer.to_k, layer.to_v))
        width = query.shape[1] // layer.heads
        heads = []
        for start in range(0, query.shape[1], width):
            part = slice(start, start + width)
            scores = query.detach().double().numpy()[:, part] @ key[:, :, part].transpose(0, 2, 1) / np.sqrt(width)
            weights = np.exp(scores - scores.max(axis=2, keepdims=True))
            heads.append((weights / weights.sum(axis=2, keepdims=True)) @ value[:, :, part])
        found = np.stack(heads, axis=1).reshape(len(text), -1)
        wanted.append(scale * found / np.sqrt(found.shape[1]))
    np.testing.assert_allclose(made, np.concatenate(wanted, axis=1), atol=1e-5)
    assert len(readout.layers) >= 3


def test_what_is_read_is_what_the_denoisers_own_attention_gives_back(readout: Readout) -> None:
    """`QUERIES` places, in the order in which the readout keeps them, through the library's layers."""
    text = texts(2)
    with torch.inference_mode():
        parts = readout._parts(text)[1:]
        for layer, query, part in zip(readout.layers, readout.queries, parts, strict=True):
            own = copy.deepcopy(layer)
            own.to_q, seen = torch.nn.Identity(), []
            own.to_out[0].register_forward_hook(lambda module, given, made, seen=seen: seen.append(given[0]))
            own(query.expand(2, -1, -1), encoder_hidden_states=text)
            assert query.shape[0] == module.QUERIES
            heads = seen[0].unflatten(2, (int(layer.heads), -1)).transpose(1, 2).flatten(1)
            torch.testing.assert_close(part, heads, atol=1e-5, rtol=1e-4)


def test_every_part_that_is_read_is_at_about_unit_spread(unet: Any) -> None:
    text, generator = texts(16), torch.Generator().manual_seed(2)
    readout = Readout(unet, torch.randn(16, LATENTS, 8, 8, generator=generator), text, generator=generator)
    with torch.inference_mode():
        spreads = [scale * float(part.std(dim=0).mean()) for part, scale in zip(readout._parts(text), readout.scales, strict=True)]
        whole = readout(text)
    assert spreads == pytest.approx([1.0] * len(spreads), rel=1e-4)
    assert float(whole.var(dim=0).sum()) == pytest.approx(len(spreads), rel=0.3)  # each part weighs the same
    assert not any(parameter.requires_grad for parameter in readout.parameters())


def test_plain_readouts_are_those_of_the_first_two_phrases_with_the_shift(
    readout: Readout, encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> None:
    made = plain_readouts(readout, plain_texts(encoder, plain_ids(tokenizer, CONCEPTS)), SHIFTS)
    with torch.inference_mode():
        for number, (concept, rows) in enumerate(zip(CONCEPTS, made, strict=True)):
            for phrase, row in zip(concept.phrases[:2], rows, strict=True):
                told = encoder(torch.tensor(token_ids(tokenizer, [phrase]))).last_hidden_state + SHIFTS[number]
                torch.testing.assert_close(row, readout(told)[0], atol=1e-5, rtol=1e-4)


def test_one_look_and_free_blends_are_to_tell_the_plain_prompts_and_the_others_what_they_told(
    begun: Callable[..., TextTuning], encoder: CLIPTextModel, readout: Readout, tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, examples = begun(), examples_of(tokenizer)
    seen: list[torch.Tensor] = []
    wanted = training.wanted
    monkeypatch.setattr(training, "wanted", lambda *given: (seen.append(wanted(*given)), seen[-1])[1])
    training.one_step(examples, np.arange(4))
    with torch.inference_mode():
        told = encoder(torch.from_numpy(examples.ids).long()).last_hidden_state
        before = readout(told)
        kept = readout(told[2:] + torch.stack([SHIFTS[0], (SHIFTS[3] + SHIFTS[1]) / 2])[:, None])  # one in a colour, and a mixture
    near = 0.03 * float(before.abs().max())  # told in bfloat16, on most machines
    torch.testing.assert_close(seen[0][0].float(), training.plain[1], atol=near, rtol=0)
    torch.testing.assert_close(seen[0][1].float(), 0.75 * training.plain[2] + 0.25 * training.plain[3], atol=near, rtol=0)
    torch.testing.assert_close(seen[0][2:].float(), kept, atol=near, rtol=0)
    assert float((before[2:] - kept).abs().max()) > 3 * near, "the shifts say nothing"
    assert float((before[:2] - seen[0][:2]).abs().max()) > 3 * near


def test_after_an_earlier_tuning_every_text_is_to_tell_what_it_told_with_the_shifts(
    begun: Callable[..., TextTuning], encoder: CLIPTextModel, readout: Readout, tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, examples = begun(finished=True), examples_of(tokenizer)
    seen: list[torch.Tensor] = []
    wanted = training.wanted
    monkeypatch.setattr(training, "wanted", lambda *given: (seen.append(wanted(*given)), seen[-1])[1])
    training.one_step(examples, np.arange(4))
    blends = torch.stack([SHIFTS[1], 0.75 * SHIFTS[2] + 0.25 * SHIFTS[3], SHIFTS[0], (SHIFTS[3] + SHIFTS[1]) / 2])
    with torch.inference_mode():
        kept = readout(encoder(torch.from_numpy(examples.ids).long()).last_hidden_state + blends[:, None])
    torch.testing.assert_close(seen[0].float(), kept, atol=0.03 * float(kept.abs().max()), rtol=0)  # told in bfloat16, on most machines


def test_plain_prompts_come_along_and_only_those_of_named_concepts(begun: Callable[..., TextTuning], tokenizer: CLIPTokenizer) -> None:
    training, examples = begun(), examples_of(tokenizer)
    assert torch.equal(training.ids, plain_ids(tokenizer, CONCEPTS)[[0, 1, 3]].flatten(0, 1))
    training.told = training.readout(training.before(training.ids).last_hidden_state).detach()
    assert training.one_step(examples, np.arange(4))["plain"] < 1e-2, "they tell already what they shall"


def test_a_few_steps_bring_texts_nearer_to_the_plain_prompts_and_only_the_encoder_learns(
    begun: Callable[..., TextTuning], tokenizer: CLIPTokenizer
) -> None:
    training, examples = begun(), examples_of(tokenizer)
    still = [copy.deepcopy(part.state_dict()) for part in (training.readout, training.before)]
    for group in training.optimizer.param_groups:
        group["lr"] = 3e-5
    losses = [training.one_step(examples, np.arange(4)) for _ in range(12)]
    assert all(losses[-1][name] < 0.7 * losses[0][name] for name in ("general", "plain")), (losses[0], losses[-1])
    for part, state in zip((training.readout, training.before), still, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())


def test_tuning_goes_on_from_its_checkpoint_exactly(begun: Callable[..., TextTuning], tokenizer: CLIPTokenizer) -> None:
    first, examples = begun(), examples_of(tokenizer)
    first.one_step(examples, np.arange(4))
    first.step = 1
    first.save(12.0)
    again = begun()
    assert (again.step, again.seconds) == (1, 12.0)
    for each in (first, again):
        each.one_step(examples, np.arange(3))
    assert all(torch.equal(a, b) for a, b in zip(first.encoder.parameters(), again.encoder.parameters(), strict=True))


@pytest.mark.usefixtures("counted_time")
def test_a_tuning_run_ends_with_its_time_and_leaves_a_checkpoint(begun: Callable[..., TextTuning], tokenizer: CLIPTokenizer) -> None:
    training = begun()
    training.run(examples_of(tokenizer), batch=3, minutes=0.3, seed=1)
    assert training.step >= 3 and begun().step == training.step and not list(training.work.glob("*.partial"))
