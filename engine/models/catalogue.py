"""Which models there are by name, what they want by default, and how a name becomes a card. No torch, no loading."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from engine.settings import EMBEDDED, PASSTHROUGH, SettingsError

STEP_METHODS = ("auto", "consistency", "euler")
GUIDANCES = ("none", "self", "onetime", "full")
SINGLE_FILES = (".safetensors", ".ckpt")
MODEL_INDEX = "model_index.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class UnknownModel(SettingsError):
    """The text names no model. It says what may be named and suggests the nearest catalogue name."""


class ModelError(SettingsError):
    """A named model that cannot be had or cannot be run; one plain sentence says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """One model: where it is and what it is best run with. A card that contradicts itself cannot be made (ValueError).

    source: a hub id, a folder, a single file, or the words embedded and passthrough.
    revision: a branch, tag or commit of the hub; None is the newest. memory_gb: at half precision, while running.
    size: (width, height) it was trained at. steps, strength, guidance, guidance_scale: where to start; live values rule.
    step_method: one of STEP_METHODS. lcm_lora: hub id of an LCM-LoRA merged at load, or None.
    """

    name: str
    source: str
    revision: str | None = None
    title: str
    licence: str = ""
    memory_gb: float = 0.0
    size: tuple[int, int] = (512, 512)
    steps: int = 2
    strength: float = 0.6
    guidance: str = "none"
    guidance_scale: float = 1.2
    step_method: str = "auto"
    lcm_lora: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        problems = [
            text
            for wrong, text in (
                (not (self.name and self.source and self.title), "has no name, source or title"),
                (self.step_method not in STEP_METHODS, f"has the step method {self.step_method!r}"),
                (self.guidance not in GUIDANCES, f"has the guidance {self.guidance!r}"),
                (not 1 <= self.steps <= 8, f"has {self.steps} steps"),
                (not 0 <= self.strength <= 1, f"has the strength {self.strength}"),
                (not 0 <= self.guidance_scale <= 20, f"has the guidance scale {self.guidance_scale}"),
                (self.memory_gb < 0, f"needs {self.memory_gb} GB"),
                (any(side % 8 or not 64 <= side <= 2048 for side in self.size), f"has the size {self.size}"),
                (self.lcm_lora is not None and not _HUB_ID.fullmatch(self.lcm_lora), "names an LCM-LoRA that is no hub id"),
            )
            if wrong
        ]
        if problems:
            raise ValueError(f"the model card {self.name!r} {', '.join(problems)}")


_OPENRAIL = "CreativeML OpenRAIL-M"
_STABILITY = "Stability AI Community Licence"

CATALOGUE: tuple[ModelCard, ...] = (
    ModelCard(
        name=EMBEDDED, source=EMBEDDED, title="Embedded", licence="Apache-2.0", memory_gb=0.5, size=(256, 256), steps=1,
        strength=0.8, step_method="euler", note="Ships with the package: small, works on a laptop CPU, no download.",
    ),
    ModelCard(
        name=PASSTHROUGH, source=PASSTHROUGH, title="Passthrough", licence="Apache-2.0", steps=1,
        note="No model: frames go through unchanged, to try the wiring.",
    ),
    ModelCard(
        name="sd-turbo", source="stabilityai/sd-turbo", title="SD-Turbo", licence=_STABILITY, memory_gb=3.5, steps=1,
        strength=0.5, note="One step at 512 px: the fastest of the large models.",
    ),
    ModelCard(
        name="sdxl-turbo", source="stabilityai/sdxl-turbo", title="SDXL-Turbo", licence=_STABILITY, memory_gb=9.0, steps=1,
        strength=0.5, note="One step at 512 px, finer and slower than SD-Turbo.",
    ),
    ModelCard(
        name="sd15", source="stable-diffusion-v1-5/stable-diffusion-v1-5", title="Stable Diffusion 1.5", licence=_OPENRAIL,
        memory_gb=3.5, steps=8, guidance="self", guidance_scale=1.4, step_method="euler",
        note="Not distilled: needs many steps; sd15+lcm-lora is the live one.",
    ),
    ModelCard(
        name="sd21", source="stabilityai/stable-diffusion-2-1", title="Stable Diffusion 2.1", licence="CreativeML OpenRAIL++-M",
        memory_gb=4.5, size=(768, 768), steps=8, guidance="self", guidance_scale=1.4, step_method="euler",
        note="v-prediction at 768 px, not distilled.",
    ),
    ModelCard(
        name="lcm-dreamshaper", source="SimianLuo/LCM_Dreamshaper_v7", title="LCM Dreamshaper 7", licence="MIT",
        memory_gb=3.5, steps=2, step_method="consistency", note="A latent consistency model; its guidance is built in.",
    ),
    ModelCard(
        name="sd15+lcm-lora", source="stable-diffusion-v1-5/stable-diffusion-v1-5", title="Stable Diffusion 1.5 with LCM-LoRA",
        licence=_OPENRAIL, memory_gb=3.5, steps=2, step_method="consistency",
        lcm_lora="latent-consistency/lcm-lora-sdv1-5", note="Few steps, and takes the LoRAs made for Stable Diffusion 1.5.",
    ),
    ModelCard(
        name="sdxl+lcm-lora", source="stabilityai/stable-diffusion-xl-base-1.0", title="SDXL with LCM-LoRA",
        licence="CreativeML OpenRAIL++-M", memory_gb=10.0, size=(1024, 1024), steps=2, step_method="consistency",
        lcm_lora="latent-consistency/lcm-lora-sdxl", note="Few steps at 1024 px; wants a large GPU.",
    ),
    ModelCard(
        name="instruct-pix2pix", source="timbrooks/instruct-pix2pix", title="InstructPix2Pix", licence="MIT", memory_gb=3.5,
        steps=8, strength=1.0, guidance="full", guidance_scale=7.5, step_method="euler",
        note="Follows instructions such as 'make it winter'; the input is a condition of its own.",
    ),
)  # fmt: skip

BY_NAME: Mapping[str, ModelCard] = MappingProxyType({card.name: card for card in CATALOGUE})
if len(BY_NAME) != len(CATALOGUE):
    raise ValueError("the model catalogue names something twice")


def resolve(text: str) -> ModelCard:
    """The card that `text` names: a catalogue name or its hub id, a folder, a single file, or any other hub id.

    A hub id that several rows share is the row without an LCM-LoRA. UnknownModel if it can be none of these, or if
    the folder or file it points to is missing or is no model.
    """
    text = text.strip()
    by_source = {card.source: card for card in CATALOGUE if card.lcm_lora is None}
    known = BY_NAME.get(text.lower()) or by_source.get(text)
    if known is not None:
        return known
    path = Path(text).expanduser()
    if text and path.is_dir():
        if not (path / MODEL_INDEX).is_file():
            raise UnknownModel(f"the folder {text} is no model: it holds no {MODEL_INDEX}")
        return _adhoc(path.name, str(path))
    if path.suffix.lower() in SINGLE_FILES:
        if not path.is_file():
            raise UnknownModel(f"there is no model file {text}; check the path")
        return _adhoc(path.stem, str(path))
    if _HUB_ID.fullmatch(text):
        return _adhoc(text.split("/")[1], text)
    near = difflib.get_close_matches(text.lower(), list(BY_NAME), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "check the spelling."
    raise UnknownModel(
        f"there is no model {text!r}; {hint} A model is one of {', '.join(BY_NAME)}, a hub id owner/name, "
        f"a folder with {MODEL_INDEX}, or a {' or '.join(SINGLE_FILES)} file"
    )


def _adhoc(name: str, source: str) -> ModelCard:
    """A card for a model that is not in the catalogue; a turbo or lightning name suggests one step."""
    card = ModelCard(name=name or source, source=source, title=name or source)
    if "turbo" in name.lower():
        return replace(card, steps=1, strength=0.5)
    return replace(card, step_method="consistency") if "lcm" in name.lower() else card
