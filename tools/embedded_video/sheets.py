"""Filmstrips: what the model makes of held-back clips, and what it dreams, one row a prompt."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from embedded.sheet import labelled
from embedded.tones import Picture

from .motion import Clip
from .playing import Player

SHOWN = 7  # pictures of a row
QUALITY = {".jpg": (cv2.IMWRITE_JPEG_QUALITY, 82)}


def strip(clip: Clip, text: str, *, first: int, every: int) -> list[Picture]:
    """A row of pictures of a clip from `first` on, the first of them labelled."""
    chosen = clip[first :: every][:SHOWN]
    return [labelled(chosen[0], text), *chosen[1:]]


def write(path: Path, rows: Sequence[Sequence[Picture]]) -> None:
    """Save rows as one picture, PNG or JPEG by name."""
    grid = np.vstack([np.hstack(list(row)) for row in rows])
    cv2.imwrite(str(path), cv2.cvtColor(grid, cv2.COLOR_RGB2BGR), list(QUALITY.get(path.suffix, ())))


def follow_sheet(path: Path, player: Player, clip: Clip, prompts: Sequence[str], *, first: int = 7, every: int = 1) -> None:
    """The input on top, then the clip under each prompt; pictures from `first` on, once the window is full."""
    rows = [strip(clip, "input", first=first, every=every)]
    rows += [strip(player(clip, prompt), prompt or "(empty prompt)", first=first, every=every) for prompt in prompts]
    write(path, rows)


def dream_sheet(path: Path, player: Player, prompts: Sequence[str], *, first: int = 20, every: int = 1) -> None:
    """Text to video under each prompt, neighbouring pictures."""
    frames = first + every * SHOWN
    write(path, [strip(player(None, prompt, frames=frames), prompt, first=first, every=every) for prompt in prompts])
