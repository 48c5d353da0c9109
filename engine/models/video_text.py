"""From a prompt to its umT5 embedding, as Wan's models read it: 512 tokens, zero beyond the prompt's length."""

from __future__ import annotations

import html
from typing import Any

import torch

from engine.models.prompt_encoder import PromptEmbedding, PromptEncoder

TOKENS = 512


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
        self._encoder.to(self._resting)

    def _embed(self, text: str) -> PromptEmbedding:
        """As diffusers' WanPipeline does it, for one prompt."""
        cleaned = clean(text)
        inputs = self._tokenizer(cleaned, max_length=self._tokens, truncation=True, return_tensors="pt")
        self._note_cut(cleaned, self._tokenizer, self._tokens)
        try:
            self._encoder.to(self._device)
            hidden = self._encoder(inputs.input_ids.to(self._device)).last_hidden_state[0].to(self._dtype)
        finally:
            self._encoder.to(self._resting)
        padded = hidden.new_zeros(1, self._tokens, hidden.shape[-1])
        padded[0, : hidden.shape[0]] = hidden
        return PromptEmbedding(text=text, tokens=padded.to(self._device), pooled=None)


def clean(text: str) -> str:
    """The prompt with HTML entities resolved and white space joined, as it was in training."""
    return " ".join(html.unescape(html.unescape(text)).split())
