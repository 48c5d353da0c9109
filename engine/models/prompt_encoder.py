"""Prompts to embeddings, remembered by their text: at once, or on a worker thread for the live picture. Which network does
it is a subclass's matter."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.models.loading_errors import first_words

_KEPT = 64
"""Embeddings remembered by text, and requests that may wait."""


@dataclass(frozen=True, eq=False, slots=True)
class PromptEmbedding:
    """One encoded prompt. tokens: [1, L, D]. pooled: [1, P] for SDXL, None otherwise."""

    text: str
    tokens: Tensor
    pooled: Tensor | None


class PromptEncoder(ABC):
    """The text encoders of one model, with a memory of the last prompts.

    Safe from any thread. `encode` waits; `fetch` does not. Problems that do not stop the picture (a prompt cut short,
    a prompt that could not be encoded) are told once each by `take_problems`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known: OrderedDict[str, PromptEmbedding] = OrderedDict()
        self._failed: OrderedDict[str, None] = OrderedDict()
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._problems: deque[str] = deque(maxlen=_KEPT)
        self._changed = threading.Condition()
        self._running_model = threading.Lock()
        self._worker: threading.Thread | None = None
        self._closed = False

    @abstractmethod
    def _embed(self, text: str) -> PromptEmbedding:
        """Encode a prompt; never called by two threads at once."""

    def encode(self, text: str) -> PromptEmbedding:
        """The embedding of a prompt, encoded now if it is not remembered. Raises what the encoder raises."""
        known = self._remembered(text)
        if known is None:
            with self._running_model:
                known = self._remembered(text) or self._run(text)
            with self._changed:
                self._known[text] = known
                self._failed.pop(text, None)
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
        return known

    def fetch(self, text: str, *, wait: bool = False) -> PromptEmbedding | None:
        """The embedding if it is remembered; otherwise None, and a worker thread encodes it, the newest request first.

        Ask again at the next frame. A prompt that cannot be encoded stays None and is reported once. wait: as `encode`.
        """
        if wait:
            return self.encode(text)
        known = self._remembered(text)
        if known is None:
            with self._changed:
                if not self._closed and text not in self._failed:
                    self._want(text)
        return known

    def failed(self, text: str) -> bool:
        """Whether the worker tried to encode it and could not."""
        with self._changed:
            return text in self._failed

    def take_problems(self) -> list[str]:
        """Plain sentences about prompts since the last call, oldest first."""
        with self._changed:
            problems = list(self._problems)
            self._problems.clear()
        return problems

    def close(self) -> None:
        """End the worker thread, after the prompt it is at. `encode` still works."""
        with self._changed:
            self._closed = True
            self._wanted.clear()
            self._changed.notify_all()
            worker = self._worker
        if worker is not None:
            worker.join()

    def _remembered(self, text: str) -> PromptEmbedding | None:
        with self._changed:
            known = self._known.get(text)
            if known is not None:
                self._known.move_to_end(text)
            return known

    def _want(self, text: str) -> None:
        """Put a request in front of the others; the lock is held."""
        self._wanted[text] = None
        self._wanted.move_to_end(text)
        while len(self._wanted) > _KEPT:
            self._wanted.popitem(last=False)
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="text encoder", daemon=True)
            self._worker.start()
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._wanted)
                if self._closed:
                    return
                text = next(reversed(self._wanted))
            try:
                self.encode(text)
            except Exception as error:
                self._fail(text, error)
            with self._changed:
                self._wanted.pop(text, None)

    def _fail(self, text: str, error: Exception) -> None:
        with self._changed:
            self._failed[text] = None
            while len(self._failed) > _KEPT:
                self._failed.popitem(last=False)
            self._problems.append(f"the prompt {_short(text)} could not be encoded ({first_words(error)}); the last one stays")

    @torch.inference_mode(False)
    @torch.no_grad()
    def _run(self, text: str) -> PromptEmbedding:
        """Encode; on CUDA on a stream of this call, waited for, so that any stream may use the result."""
        if self._device.type != "cuda":
            return self._embed(text)
        stream = torch.cuda.Stream(self._device)
        with torch.cuda.stream(stream):
            embedding = self._embed(text)
        stream.synchronize()
        return embedding

    def _note_cut(self, text: str, tokenizer: Any, length: int) -> None:
        """Say what the model does not read of a prompt that is too long."""
        ids = tokenizer(text, verbose=False).input_ids
        if len(ids) > length:
            unread = tokenizer.decode(ids[length - 1 : -1]).strip()
            told = f"the prompt is longer than the {length} tokens this model reads; it does not see {_short(unread)}"
            with self._changed:
                if told not in self._problems:
                    self._problems.append(told)


def _short(text: str, longest: int = 60) -> str:
    return repr(text if len(text) <= longest else text[: longest - 1] + "…")
