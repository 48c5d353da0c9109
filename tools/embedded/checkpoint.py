"""Checkpoints that are whole at any moment: written beside the old one, then put in its place."""

from collections.abc import Mapping
from pathlib import Path

import torch


def replace_checkpoint(path: Path, state: Mapping[str, object]) -> None:
    """`state` at `path`; a run that ends in the middle leaves the old one."""
    partial = path.with_suffix(".partial")
    torch.save(dict(state), partial)
    partial.replace(path)
