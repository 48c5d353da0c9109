"""Figures of a model folder: how it follows its input, finds its look, flickers, moves without an input, and how fast it is."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .looks import Look
from .motion import Clip
from .playing import Player
from .pool import drawn

FULL = 6  # frames until the window is full; figures are of those after


@dataclass(frozen=True)
class LookFigures:
    """Means over clips. psnr: dB, to the look as it is drawn. by_codec: of the drawn look through the autoencoder alone. other: of this
    output to the drawn look of another clip. found: share of the pictures whose nearest look is the right one."""

    psnr: float
    by_codec: float
    other: float
    found: float
    flicker: float
    flicker_drawn: float


def psnr(one: Clip, other: Clip) -> float:
    """Peak signal to noise ratio in dB of uint8 pictures, over all of them."""
    error = np.square(one.astype(np.float64) - other.astype(np.float64)).mean()
    return float(10 * np.log10(255.0**2 / max(error, 1e-9)))


def nearest(picture: np.ndarray, choices: Sequence[np.ndarray]) -> int:
    """Which of `choices` has the least squared error to `picture`."""
    errors = [np.square(picture.astype(np.float64) - choice.astype(np.float64)).mean() for choice in choices]
    return int(np.argmin(errors))


def flicker(made: Clip, source: Clip) -> float:
    """Mean absolute difference, 0 to 1, of neighbouring pictures after motion of the source is taken out."""
    from judging.flicker import optical_flow, visible, warp_error

    errors = []
    for i in range(1, len(source)):
        backward, forward = optical_flow(source[i], source[i - 1]), optical_flow(source[i - 1], source[i])
        errors.append(warp_error(made[i - 1], made[i], backward, visible(backward, forward)))
    return float(np.mean(errors))


def of_look(player: Player, look: Look, clips: Sequence[Clip], looks: Sequence[Look]) -> LookFigures:
    """Figures of one look over clips."""
    rows = []
    targets = [drawn(clip, look) for clip in clips]
    for number, (clip, target) in enumerate(zip(clips, targets, strict=True)):
        made = player(clip, look.name)
        strange = targets[(number + 1) % len(targets)]
        found = [nearest(made[i], [other.draw(clip[i]) for other in looks]) == looks.index(look) for i in range(FULL, len(clip), 4)]
        through = player.through_codec(target)
        part = slice(FULL, None)
        rows.append(
            (psnr(made[part], target[part]), psnr(through[part], target[part]), psnr(made[part], strange[part]), float(np.mean(found)),
             flicker(made[part], clip[part]), flicker(through[part], clip[part]))
        )  # fmt: skip
    return LookFigures(*(float(value) for value in np.mean(rows, axis=0)))


def dream_figures(player: Player, prompt: str, *, frames: int) -> Mapping[str, float]:
    """change: mean absolute difference of neighbouring pictures, 0 to 1; early and late: brightness and contrast (standard deviation)
    of the first and last tenth, which tell whether a long dream fades or burns out."""
    made = player(None, prompt, frames=frames).astype(np.float32) / 255
    tenth = frames // 10
    early, late = made[FULL : FULL + tenth], made[-tenth:]
    return {
        "change": float(np.abs(np.diff(made[FULL:], axis=0)).mean()),
        "early_mean": float(early.mean()), "late_mean": float(late.mean()),
        "early_contrast": float(early.std()), "late_contrast": float(late.std()),
    }  # fmt: skip


def rate(player: Player, clip: Clip, *, side: int, steps: int, threads: int) -> float:
    """Pictures a second from host to host on `threads` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    player(clip[:4], "fire", side=side, steps=steps)
    started = time.perf_counter()
    player(clip, "fire", side=side, steps=steps)
    taken = time.perf_counter() - started
    torch.set_num_threads(before)
    return len(clip) / taken
