"""Prompts of a stream that runs on several ranks: told once, known everywhere by a number, each rank with its own keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.models.video_denoiser import PromptKeysValues, VideoDenoiser
from engine.video.kv_cache import CacheAccess
from engine.video.rollout import Prompt

PROMPTS_KEPT = 16
"""Chunks in flight still use older prompts."""


@dataclass(frozen=True, slots=True)
class RankPrompt:
    """A prompt that every rank has under this number."""

    number: int


class RankPrompts:
    """The newest prompts as keys and values of this rank's blocks."""

    def __init__(self, denoiser: VideoDenoiser) -> None:
        self._denoiser = denoiser
        self._tokens: dict[int, Tensor] = {}
        self._known: dict[int, PromptKeysValues] = {}

    def keep(self, number: int, tokens: Tensor) -> RankPrompt:
        """A prompt [1, L, width] as the text encoder gave it."""
        self._tokens[number], self._known[number] = tokens, self._denoiser.prompt(tokens)
        for old in sorted(self._tokens)[:-PROMPTS_KEPT]:
            del self._tokens[old], self._known[old]
        return RankPrompt(number)

    def of(self, prompts: Sequence[Prompt]) -> list[PromptKeysValues]:
        """What the numbers stand for. KeyError for one that is not known any more."""
        return [self._known[prompt.number] for prompt in prompts if isinstance(prompt, RankPrompt)]

    def work_for(self, denoiser: VideoDenoiser) -> None:
        """The same prompts for other blocks."""
        self._denoiser = denoiser
        self._known = {number: denoiser.prompt(tokens) for number, tokens in self._tokens.items()}


class PromptedNetwork:
    """An engine.video.rollout.Network that knows prompts by their numbers."""

    def __init__(self, denoiser: VideoDenoiser, prompts: RankPrompts) -> None:
        self._denoiser, self._prompts = denoiser, prompts

    def __call__(self, x: Tensor, timesteps: Tensor, prompts: Sequence[Prompt], access: CacheAccess) -> Tensor:
        """As Network."""
        return self._denoiser(x, timesteps, self._prompts.of(prompts), access)
