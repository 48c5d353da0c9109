"""Which models there are by name, what they want by default, and how a name becomes a card. No torch, no loading."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from engine.models.model_card import GUIDANCES, HUB_ID, STEP_METHODS, ModelCard, ModelError, UnknownModel
from engine.models.video_catalogue import VIDEO_CATALOGUE
from engine.models.video_policies import VideoPolicies
from engine.models.video_sources import VIDEO_FILES, is_video_file, policies_beside, policies_of_folder, sounds_like_video
from engine.settings import EMBEDDED, PASSTHROUGH

__all__ = [
    "BY_NAME", "CATALOGUE", "GUIDANCES", "MODEL_INDEX", "SINGLE_FILES", "STEP_METHODS", "ModelCard", "ModelError", "UnknownModel",
    "resolve",
]  # fmt: skip

SINGLE_FILES = (".safetensors", ".ckpt")
MODEL_INDEX = "model_index.json"

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
    *VIDEO_CATALOGUE,
)  # fmt: skip

BY_NAME: Mapping[str, ModelCard] = MappingProxyType({card.name: card for card in CATALOGUE})
if len(BY_NAME) != len(CATALOGUE):
    raise ValueError("the model catalogue names something twice")


def resolve(text: str) -> ModelCard:
    """The card that `text` names: a catalogue name or its hub id, a folder, a single file, any other hub id, or
    `NAME@PATH` for a video model of the catalogue whose weights are in a file or folder here.

    A hub id that several rows share is the first of them without an LCM-LoRA. UnknownModel if it can be none of these, or if
    the folder or file it points to is missing or is no model.
    """
    text = text.strip()
    by_source = {card.source: card for card in reversed(CATALOGUE) if card.lcm_lora is None}
    known = BY_NAME.get(text.lower()) or by_source.get(text)
    if known is not None:
        return known
    name, at, place = text.partition("@")
    row = BY_NAME.get(name.lower())
    if at and row is not None and row.video is not None:
        return _with_own_weights(row, row.video, Path(place).expanduser())
    path = Path(text).expanduser()
    if text and path.is_dir():
        if not (path / MODEL_INDEX).is_file():
            raise UnknownModel(f"the folder {text} is no model: it holds no {MODEL_INDEX}")
        return _adhoc(path.name, str(path), policies_of_folder(path, MODEL_INDEX))
    if path.suffix.lower() in (*SINGLE_FILES, *VIDEO_FILES):
        if not path.is_file():
            raise UnknownModel(f"there is no model file {text}; check the path")
        return _adhoc(path.stem, str(path), policies_beside(path.parent) if is_video_file(path) else None)
    if HUB_ID.fullmatch(text):
        return _adhoc(text.split("/")[1], text, VideoPolicies() if sounds_like_video(text) else None)
    near = difflib.get_close_matches(text.lower(), list(BY_NAME), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "check the spelling."
    raise UnknownModel(
        f"there is no model {text!r}; {hint} A model is one of {', '.join(BY_NAME)}, a hub id owner/name, "
        f"a folder with {MODEL_INDEX}, or a {', '.join(SINGLE_FILES)} or {' or '.join(VIDEO_FILES)} file"
    )


def _with_own_weights(row: ModelCard, policies: VideoPolicies, path: Path) -> ModelCard:
    """A video row whose transformer is read from a file or a folder of this machine. What video_policies.json beside it says goes over
    the row's; all else is as the row has it."""
    is_file = path.suffix.lower() in (*SINGLE_FILES, *VIDEO_FILES) and path.is_file()
    if not is_file and not path.is_dir():
        raise UnknownModel(f"there is no file or folder {path} with the weights of {row.name}; check the path after the @")
    policies = policies_beside(path if path.is_dir() else path.parent, policies)
    steps = row.steps if row.video is not None and policies.timesteps == row.video.timesteps else len(policies.timesteps)
    if path.is_dir() and not (path / policies.weights).is_file():
        if not (path / MODEL_INDEX).is_file():
            raise UnknownModel(f"the folder {path} holds neither {policies.weights} nor {MODEL_INDEX}; is it the one of {row.name}?")
        policies = replace(policies, weights="", adapter="")
    elif is_file:
        policies = replace(policies, weights="", adapter=_beside(path, policies.adapter))
    return replace(row, name=f"{row.name}@{path.name}", source=str(path), revision=None, steps=steps, video=policies)


def _beside(path: Path, adapter: str) -> str:
    """The adapter of a row, expected beside the file that stands for the row's own."""
    return str(path.parent.absolute() / Path(adapter).name) if adapter else ""


def _adhoc(name: str, source: str, video: VideoPolicies | None) -> ModelCard:
    """A card for a model that is not in the catalogue; a turbo or lightning name suggests one step."""
    card = ModelCard(name=name or source, source=source, title=name or source, video=video)
    if video is not None:
        return replace(card, size=(832, 480), steps=len(video.timesteps), strength=0.8)
    if "turbo" in name.lower():
        return replace(card, steps=1, strength=0.5)
    return replace(card, step_method="consistency") if "lcm" in name.lower() else card
