"""From a prompt to its umT5 embedding, as Wan's models read it: 512 tokens, zero beyond the prompt's length."""

from __future__ import annotations

import html
from typing import Any

import torch
from torch import Tensor

from engine.models.loading_errors import is_out_of_memory
from engine.models.prompt_encoder import PromptEmbedding, PromptEncoder

TOKENS = 512
ROOM = 1_000_000_000
"""Bytes that have to be free on a GPU beside the weights before a prompt is encoded there: its work, and some for the picture."""


class VideoTextEncoder(PromptEncoder):
    """The text encoder of one video model: umT5, or for small models a CLIP text model.

    encoder, tokenizer: transformers' own objects. tokens: length of every embedding [1, tokens, D]. offload: the weights (11 GB for
    umT5-xxl) are on `device` only while a prompt is being encoded, and in the machine's memory otherwise; the picture
    goes on meanwhile, for embeddings are remembered and made on a thread of their own.

    The encoder sees nothing of the padding and its outputs there are replaced by zeros, so that only the prompt's own tokens are run:
    the same numbers up to rounding for a fraction of the work.
    """

    def __init__(
        self, encoder: Any, tokenizer: Any, *, device: torch.device, dtype: torch.dtype, tokens: int = TOKENS, offload: bool = False
    ) -> None:
        super().__init__(device)
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._dtype = dtype
        self._tokens = tokens
        self._resting = torch.device("cpu") if offload else device
        self._place = device
        self._bytes = sum(weight.numel() * weight.element_size() for weight in encoder.parameters())
        self._left = 0
        self._told = False
        self._encoder.to(self._resting)

    def _embed(self, text: str) -> PromptEmbedding:
        """As diffusers' WanPipeline does it, for one prompt."""
        cleaned = clean(text)
        inputs = self._tokenizer(cleaned, max_length=self._tokens, truncation=True, return_tensors="pt")
        self._note_cut(cleaned, self._tokenizer, self._tokens)
        hidden = self._hidden(inputs.input_ids)
        padded = hidden.new_zeros(1, self._tokens, hidden.shape[-1])
        padded[0, : hidden.shape[0]] = hidden
        return PromptEmbedding(text=text, tokens=padded.to(self._device), pooled=None)

    def _hidden(self, ids: Tensor) -> Tensor:
        """The prompt's own tokens [L, D], computed where there is room."""
        if self._place == self._resting:
            return self._run_on(self._resting, ids)
        free = free_bytes(self._device, self._left)
        if free is not None and free < self._bytes + ROOM:
            self._tell(f"{free / 1e9:.1f} GB are free")
            return self._run_on(self._resting, ids)
        try:
            hidden = self._run_on(self._place, ids)
            self._left = self._bytes
            return hidden
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside of `except`, where the error would still hold what it could not finish.
        self._place = self._resting
        self._tell("it ran out")
        return self._run_on(self._resting, ids)

    def _run_on(self, place: torch.device, ids: Tensor) -> Tensor:
        try:
            self._encoder.to(place)
            hidden: Tensor = self._encoder(ids.to(place)).last_hidden_state[0].to(self._dtype)
        finally:
            self._encoder.to(self._resting)
        return hidden

    def _tell(self, why: str) -> None:
        if self._told:
            return
        self._told = True
        with self._changed:
            self._problems.append(
                f"prompts are encoded on the CPU, so a new one shows later: the text encoder wants {(self._bytes + ROOM) / 1e9:.1f} GB "
                f"of the memory of {self._device}, and {why}"
            )


def free_bytes(device: torch.device, left: int) -> int | None:
    """What may still be put on a CUDA device; None where that is not known.

    left: bytes that weights left behind when they went away. torch keeps them for what comes next, so they are free but do not look it.
    """
    if device.type != "cuda":
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + min(left, kept)


def clean(text: str) -> str:
    """The prompt with HTML entities resolved and white space joined, as it was in training."""
    return " ".join(html.unescape(html.unescape(text)).split())
