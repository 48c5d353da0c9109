"""What a causal video checkpoint was made for: its shape and how it wants to be run. Names and numbers only; no torch.

The policies themselves are classes of `engine.video`; the video stream puts them together from these names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

INPUT_LATENTS = ("normalised", "raw")
SCHEDULERS = ("sequential", "clean_rerun", "stream_batch", "rolling_window")
CACHES = ("ring", "adaptive_sinks", "ema_sinks", "rolling_sink", "deep_sinks", "recompute", "two_ema_memory")
POSITIONS = ("absolute", "reset", "cache_relative")
NOISES = ("fixed", "motion_aware", "flow_warped")
ON_PROMPT = ("keep", "recache")
STEP_RULES = ("first", "spread")


@dataclass(frozen=True, kw_only=True, slots=True)
class WanShape:
    """The sizes of a Wan transformer; everything else about its weights follows from them.

    heads x head_dim is the width. A patch is 1x2x2 latent elements. text_dim: width of a prompt token. freq_dim: of a timestep.
    """

    layers: int
    heads: int
    ffn_dim: int
    head_dim: int = 128
    channels: int = 16
    text_dim: int = 4096
    freq_dim: int = 256

    @property
    def width(self) -> int:
        """Numbers a token."""
        return self.heads * self.head_dim


SHAPES: Mapping[str, WanShape] = MappingProxyType(
    {
        "wan-1.3b": WanShape(layers=30, heads=12, ffn_dim=8960),
        "wan-14b": WanShape(layers=40, heads=40, ffn_dim=13824),
    }
)
"""The published configurations of Wan 2.1, text to video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoPolicies:
    """How one checkpoint is run. A record that contradicts itself cannot be made (ValueError).

    shape: a name in SHAPES, or empty if the weights' own sizes are taken. weights: the file with the transformer inside the source,
    empty for a folder in diffusers' layout; entry: the part of that file that is read (generator, generator_ema), empty
    for the best one there; adapter: a file with a LoRA that belongs to the checkpoint. base: hub id or folder that the
    autoencoder, text encoder and tokenizer come from if the source has none; base_revision: its commit on the hub, empty for the newest.
    input_latents: what an encoded input is (see video_codec). timesteps: the denoising steps it was distilled for, largest first;
    warped: they are places on the flow grid, 1000 u, before `shift`. step_rule: which of them fewer steps use: the first
    ones, or some spread over all. first_timesteps: for the first chunk of a stream, if it has its own.
    frames: latent frames a chunk; first_frames: of the first chunk. window: latent frames attention sees, the chunk among them;
    sinks: those of them that stay. sink_threshold: adaptive sinks; ema: share of the past in EMA sinks.
    micro_steps: of a rolling window between one chunk that leaves it and the next; they divide the steps.
    context: clean latent frames that `recompute` runs again. reset_at, restart_at: frame positions of the policy `reset`.
    verified: in a sentence, what has been checked.
    """

    shape: str = ""
    weights: str = ""
    entry: str = ""
    adapter: str = ""
    base: str = ""
    base_revision: str = ""
    input_latents: str = "normalised"
    timesteps: tuple[float, ...] = (1000.0, 750.0, 500.0, 250.0)
    warped: bool = True
    shift: float = 5.0
    step_rule: str = "spread"
    first_timesteps: tuple[float, ...] = ()
    frames: int = 3
    first_frames: int = 0
    window: int = 21
    sinks: int = 0
    scheduler: str = "clean_rerun"
    micro_steps: int = 1
    cache: str = "ring"
    sink_threshold: float = 0.0
    ema: float = 0.0
    context: int = 0
    positions: str = "cache_relative"
    reset_at: int = 0
    restart_at: int = 0
    noise: str = "fixed"
    on_prompt: str = "keep"
    verified: str = ""

    def __post_init__(self) -> None:
        choices = (
            ("input_latents", INPUT_LATENTS), ("scheduler", SCHEDULERS), ("cache", CACHES), ("positions", POSITIONS), ("noise", NOISES),
            ("on_prompt", ON_PROMPT), ("step_rule", STEP_RULES), ("shape", ("", *SHAPES)),
        )  # fmt: skip
        problems = [f"{name} {getattr(self, name)!r}" for name, legal in choices if getattr(self, name) not in legal]
        problems += [text for wrong, text in self._contradictions() if wrong]
        if problems:
            raise ValueError(f"these video policies cannot be: {', '.join(problems)}")

    def _contradictions(self) -> tuple[tuple[bool, str], ...]:
        lists = (self.timesteps, self.first_timesteps)
        falling = all(late < early for steps in lists for early, late in zip(steps, steps[1:], strict=False))
        in_range = all(0 < step <= 1000 for steps in lists for step in steps)
        return (
            (not self.timesteps or len(self.timesteps) > 8 or not falling or not in_range, f"timesteps {self.timesteps}"),
            (not self.shift > 0, f"a shift of {self.shift}"),
            (not self._micro_steps_fit(), f"{len(self.timesteps)} timesteps cannot be shared evenly by micro_steps of {self.micro_steps}"),
            (not 1 <= self.frames <= self.window or self.first_frames < 0, f"{self.frames} frames a chunk in a window of {self.window}"),
            (not 0 <= self.sinks <= self.window - self.frames, f"{self.sinks} sink frames beside {self.frames} in {self.window}"),
            (self.cache in ("adaptive_sinks", "ema_sinks", "deep_sinks") and not self.sinks, f"{self.cache} without sink frames"),
            (self.cache == "ema_sinks" and not 0 < self.ema < 1, f"an EMA of {self.ema}"),
            (self.cache == "recompute" and self.context < 1, "recompute without context frames"),
            (self.positions == "reset" and not 0 <= self.restart_at < self.reset_at, "a reset of positions that goes nowhere"),
        )

    def _micro_steps_fit(self) -> bool:
        return self.micro_steps >= 1 and len(self.timesteps) % self.micro_steps == 0

    def timesteps_for(self, steps: int) -> tuple[float, ...]:
        """The denoising steps if `steps` are asked for, at least one and at most all."""
        count, there = min(max(steps, 1), len(self.timesteps)), len(self.timesteps)
        places = range(count) if self.step_rule == "first" else (i * there // count for i in range(count))
        return tuple(self.timesteps[place] for place in places)


def policies_from_json(text: str, over: VideoPolicies | None = None) -> VideoPolicies:
    """The policies written beside a model's own files; what they leave out is as in `over`, or as Self-Forcing has it.

    Another base drops the revision of the one before. ValueError says what is wrong with them.
    """
    found: Any = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("the policies are not a table of names and values")
    kinds = {field.name: field.type for field in fields(VideoPolicies)}
    unknown = sorted(set(found) - set(kinds))
    if unknown:
        raise ValueError(f"there is no policy {unknown[0]!r}; there are: {', '.join(kinds)}")
    values = {name: _of_kind(name, str(kinds[name]), value) for name, value in found.items()}
    if "base" in values:
        values = {"base_revision": "", **values}
    return replace(over or VideoPolicies(), **values)


def _of_kind(name: str, kind: str, value: Any) -> Any:
    """A JSON value as the field's type; ValueError if it is of another."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "float" and is_number:
        return float(value)
    if kind.startswith("tuple") and isinstance(value, list) and all(isinstance(step, (int, float)) for step in value):
        return tuple(float(step) for step in value)
    if (kind == "int" and isinstance(value, int) and not isinstance(value, bool)) or type(value).__name__ == kind in ("str", "bool"):
        return value
    raise ValueError(f"the policy {name} is a {kind}, not {value!r}")
