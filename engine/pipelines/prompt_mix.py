"""From prompt parameters to one embedding a frame: weighted blend of the prompts, cross-faded when their texts change."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.control.table import PROMPT_SLOTS
from engine.diffusion.prompt_blend import Blend, blend, fade_share
from engine.models.prompt_encoder import PromptEmbedding, PromptEncoder

PROMPTS = tuple("prompt" if slot == 1 else f"prompt_{slot}" for slot in range(1, PROMPT_SLOTS + 1))


class PromptMix:
    """Holds what is shown and fades to what is asked for. The same embedding object comes back while nothing changes.

    wait: encode on the spot (offline); otherwise a text is encoded beside the stream and the old prompt stays until it is ready.
    zero_negative: an empty negative prompt is an embedding of zeros (SDXL).
    """

    def __init__(self, encoder: PromptEncoder, *, wait: bool, zero_negative: bool = False) -> None:
        self._encoder = encoder
        self._wait = wait
        self._zero_negative = zero_negative
        self._texts: tuple[str, ...] | None = None
        self._shown: PromptEmbedding | None = None
        self._fade_from: PromptEmbedding | None = None
        self._fade_since = 0.0
        self._target: tuple[tuple[object, ...], list[PromptEmbedding], PromptEmbedding] | None = None
        self._negative: PromptEmbedding | None = None

    @property
    def texts(self) -> tuple[str, ...] | None:
        """The prompts that are shown or faded to; None before the first."""
        return self._texts

    @property
    def settled(self) -> bool:
        """Whether no fade is going on."""
        return self._fade_from is None

    def shows(self, values: Snapshot) -> bool:
        """Whether the texts asked for are shown, and no fade is going on."""
        wanted = tuple(text for text, _ in _wanted(values) if not self._encoder.failed(text))
        return self.settled and wanted == self._texts

    def positive(self, values: Snapshot) -> PromptEmbedding:
        """The embedding of the prompts at this moment."""
        wanted = [(text, weight) for text, weight in _wanted(values) if not self._encoder.failed(text)]
        if self._shown is not None and not any(weight > 0 for _, weight in wanted):
            return self._shown  # nothing to go by: all weights are 0, or no text can be encoded
        wanted = wanted or [("", 1.0)]
        texts = tuple(text for text, _ in wanted)
        parts = [self._encoder.fetch(text, wait=self._wait or self._shown is None) for text in texts]
        ready = [part for part in parts if part is not None]
        if len(ready) < len(parts) and self._shown is not None:
            return self._shown
        method: Blend = "slerp" if values.text("prompt_blend") == "slerp" else "linear"
        target = self._blend_of(ready, [weight for _, weight in wanted], method)
        if texts != self._texts:
            self._fade_from, self._fade_since = self._shown, values.seconds
            self._texts = texts
        self._shown = self._faded(target, values, method)
        return self._shown

    def negative(self, values: Snapshot) -> PromptEmbedding:
        """The embedding of the negative prompt; the one before while a new one is being encoded."""
        text = values.text("negative_prompt").strip()
        if self._negative is None or self._negative.text != text:
            found = self._encoder.fetch(text, wait=self._wait or self._negative is None)
            if found is not None:
                self._negative = _zeros_like(found) if self._zero_negative and not text else found
        assert self._negative is not None
        return self._negative

    def _blend_of(self, parts: list[PromptEmbedding], weights: list[float], method: Blend) -> PromptEmbedding:
        if len(parts) == 1:
            return parts[0]
        key = (*map(id, parts), *weights, method)
        if self._target is None or self._target[0] != key:
            # The parts are kept with the key: an id is only somebody's as long as he lives.
            self._target = (key, parts, _mixed(parts, weights, method))
        return self._target[2]

    def _faded(self, target: PromptEmbedding, values: Snapshot, method: Blend) -> PromptEmbedding:
        if self._fade_from is None:
            return target
        share = fade_share(values.seconds - self._fade_since, values.number("prompt_fade"))
        if share >= 1.0:
            self._fade_from = None
            return target
        return _mixed([self._fade_from, target], [1.0 - share, share], method)


def _wanted(values: Snapshot) -> list[tuple[str, float]]:
    """(text, weight) of the prompts that are there, whatever their weight, so that turning a weight is no change of texts;
    the empty prompt if there is none."""
    found = [(values.text(name).strip(), values.number(f"{name}_weight")) for name in PROMPTS]
    return [(text, weight) for text, weight in found if text] or [("", 1.0)]


def _zeros_like(embedding: PromptEmbedding) -> PromptEmbedding:
    pooled = None if embedding.pooled is None else torch.zeros_like(embedding.pooled)
    return PromptEmbedding(text=embedding.text, tokens=torch.zeros_like(embedding.tokens), pooled=pooled)


def _mixed(parts: list[PromptEmbedding], weights: list[float], method: Blend) -> PromptEmbedding:
    pooled: list[Tensor] = [part.pooled for part in parts if part.pooled is not None]
    return PromptEmbedding(
        tokens=blend([part.tokens for part in parts], weights, method),
        pooled=blend(pooled, weights, method) if pooled else None,
        text=" + ".join(part.text for part in parts),
    )
