"""What is known of one model before it is loaded: its card, and the errors about models. No torch, no loading."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.models.video_policies import VideoPolicies
from engine.settings import SettingsError

STEP_METHODS = ("auto", "consistency", "euler")
GUIDANCES = ("none", "self", "onetime", "full")
NOT_PINNED = "not pinned: newest of the hub"
"""The revision of a model whose commit is not known here, in words."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class UnknownModel(SettingsError):
    """The text names no model. It says what may be named and suggests the nearest catalogue name."""


class ModelError(SettingsError):
    """A named model that cannot be had or cannot be run; one plain sentence says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """One model: where it is and what it is best run with. A card that contradicts itself cannot be made (ValueError).

    source: a hub id, a folder, a single file, or the words embedded and passthrough.
    revision: a branch, tag or commit of the hub; None and NOT_PINNED are the newest. memory_gb: at half precision, while running; of
    a video model as `held_gb` of video_memory reckons it.
    size: (width, height) it was trained at. steps, strength, guidance, guidance_scale: where to start; live values rule.
    step_method: one of STEP_METHODS. lcm_lora: hub id of an LCM-LoRA merged at load, or None.
    video: how a video model is run; None for an image model.
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
    video: VideoPolicies | None = None

    @property
    def family(self) -> str:
        """image or video."""
        return "image" if self.video is None else "video"

    @property
    def hub_revision(self) -> str | None:
        """The revision as the hub wants it."""
        return None if self.revision == NOT_PINNED else self.revision

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
                (self.lcm_lora is not None and not HUB_ID.fullmatch(self.lcm_lora), "names an LCM-LoRA that is no hub id"),
            )
            if wrong
        ]
        if problems:
            raise ValueError(f"the model card {self.name!r} {', '.join(problems)}")
