"""With which settings and values a run opens: the model's own defaults, then a preset, then what was said by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge.mistake import Mistake
from bridge.preset_folder import PresetFolder
from engine.control.live_values import LiveValues
from engine.control.parameter import NUMERIC
from engine.control.presets import PresetError
from engine.control.table import find
from engine.models.catalogue import BY_NAME, ModelCard, resolve
from engine.settings import Settings, parse_size

OWN_PRESETS = Path.home() / ".phosphene" / "presets"

SIDE_STEP = 8
"""Pixels: what models halve three times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What the command line asked for, as it was written; None is what it did not mention."""

    model: str
    preset: str | None = None
    assignments: tuple[str, ...] = ()
    size: str | None = None
    output_size: str | None = None
    seed: int | None = None
    fps: float | None = None
    device: str = "auto"
    dtype: str = "auto"
    accelerate: str = "auto"
    linears: str = "native"
    autoencoder: str = "auto"
    loras: tuple[str, ...] = ()
    ranks: int = 1
    parallel: str = "layers"
    codec_rank: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """Settings and values that a run starts with, and notes on what was taken otherwise than written."""

    settings: Settings
    values: LiveValues
    notes: tuple[str, ...]


def open_with(wishes: Wishes) -> Opening:
    """Check and combine all wishes. Raises one of mistake.PLAIN."""
    card = resolve(wishes.model)
    output_size = None if wishes.output_size is None else parse_size(wishes.output_size, least=16, most=8192)
    settings = Settings(
        model=card.name if card.name in BY_NAME else wishes.model,
        lora=tuple(_lora(text) for text in wishes.loras),
        device=wishes.device,
        dtype=wishes.dtype,
        accelerate=wishes.accelerate,
        linears=wishes.linears,
        autoencoder=wishes.autoencoder,
        output_size=output_size,
        ranks=wishes.ranks,
        parallel=wishes.parallel,
        codec_rank=wishes.codec_rank,
    )
    values = LiveValues()
    values.set_many(card_values(card), origin="model")
    if wishes.preset is not None:
        values.set_many(_preset_values(wishes.preset), origin="preset")
    by_hand, notes = _by_hand(wishes)
    legal = values.set_many(by_hand, origin="command line")
    notes += [_clamped(name, by_hand[name], legal[find(name).name]) for name in by_hand]
    values.jump()
    return Opening(settings=settings, values=values, notes=tuple(note for note in notes if note))


def card_values(card: ModelCard) -> dict[str, object]:
    """What a model is best run with, as values."""
    return {
        "steps": card.steps,
        "strength": card.strength,
        "guidance": card.guidance,
        "guidance_scale": card.guidance_scale,
        "width": card.size[0],
        "height": card.size[1],
    } | _video_values(card)


def _video_values(card: ModelCard) -> dict[str, object]:
    """Video models were trained on noise that is new for every chunk; with the same again and again their pictures stick to it."""
    return {} if card.video is None else {"seed_mode": "random"}


def rounded_size(text: str) -> tuple[tuple[int, int], str]:
    """`WxH` as (width, height) in multiples of 8, and a note if it was another size. Raises SettingsError."""
    asked = parse_size(text)
    width, height = (round(side / SIDE_STEP) * SIDE_STEP for side in asked)
    note = "" if (width, height) == asked else f"the size {text} is taken as {width}x{height}: sides are multiples of 8"
    return (width, height), note


def _by_hand(wishes: Wishes) -> tuple[dict[str, object], list[str]]:
    """The values of --set, then those of the options that have their own name, which win."""
    by_hand: dict[str, object] = {}
    notes: list[str] = []
    for text in wishes.assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise Mistake(f"--set takes name=value, not {text!r}")
        by_hand[find(name.strip()).name] = value.strip()
    if wishes.seed is not None:
        by_hand["seed"] = wishes.seed
    if wishes.fps is not None:
        by_hand["output_fps"] = wishes.fps
    if wishes.size is not None:
        (by_hand["width"], by_hand["height"]), note = rounded_size(wishes.size)
        notes.append(note)
    return by_hand, notes


def _clamped(name: str, asked: object, legal: object) -> str:
    """A note if a number lay out of its range."""
    row = find(name)
    if row.range is None or row.kind not in NUMERIC or float(str(asked)) == float(str(legal)):
        return ""
    low, high = row.range
    inside = low <= float(str(asked)) <= high
    return "" if inside else f"{row.name} {asked} is taken as {legal}: it lies between {low:g} and {high:g}"


def _lora(text: str) -> tuple[str, float]:
    path, equals, scale = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        return path, float(scale)
    except ValueError:
        raise Mistake(f"--lora takes PATH=SCALE with a number as scale, not {text!r}") from None


def preset_folder() -> PresetFolder:
    """The presets that ship with the package and the user's own."""
    return PresetFolder(OWN_PRESETS)


def _preset_values(name: str) -> Mapping[str, object]:
    try:
        return preset_folder().load(name).values
    except PresetError as error:
        raise Mistake(str(error)) from error
