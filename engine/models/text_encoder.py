"""From a prompt to its embedding by the text encoders of an image model, as diffusers' pipelines do it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.models.prompt_encoder import PromptEmbedding, PromptEncoder
from engine.models.weights import LoadedModel

__all__ = ["PromptEmbedding", "TextEncoder", "sdxl_time_ids"]


def sdxl_time_ids(height: int, width: int) -> Tensor:
    """SDXL's size condition for an uncropped picture (Podell et al. 2023, 2.2): float32 [1, 6] of original size (height,
    width), crop corner (0, 0) and target size, in pixels."""
    return torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32)


class TextEncoder(PromptEncoder):
    """The CLIP text encoders of one image model."""

    def __init__(self, loaded: LoadedModel, *, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(device)
        self._encoders = tuple(zip(loaded.tokenizers, loaded.text_encoders, strict=True))
        self._is_sdxl = loaded.is_sdxl
        self._dtype = dtype

    def _embed(self, text: str) -> PromptEmbedding:
        """SD 1.x and 2.x: the last hidden state. SDXL: both encoders' last but one, side by side, and the second's pooled."""
        outputs = [self._encoder_output(text, tokenizer, encoder) for tokenizer, encoder in self._encoders]
        if not self._is_sdxl:
            return PromptEmbedding(text=text, tokens=outputs[0][0].to(self._device, self._dtype), pooled=None)
        tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        pooled = outputs[-1][0]
        return PromptEmbedding(
            text=text, tokens=tokens.to(self._device, self._dtype), pooled=pooled.to(self._device, self._dtype)
        )

    def _encoder_output(self, text: str, tokenizer: Any, encoder: Any) -> Any:
        length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
        inputs = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        self._note_cut(text, tokenizer, length)
        masked = getattr(encoder.config, "use_attention_mask", False)
        return encoder(
            inputs.input_ids.to(self._device),
            attention_mask=inputs.attention_mask.to(self._device) if masked else None,
            output_hidden_states=self._is_sdxl,
        )
