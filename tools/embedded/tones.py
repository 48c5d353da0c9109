"""Small picture operations that the procedural looks are composed of; no look is defined here.

Pictures are uint8 [H, W, 3] RGB, tone maps are float32 [H, W] in [0, 1]. Nothing here draws random numbers.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Tone = npt.NDArray[np.float32]
Colour = tuple[int, int, int]

CELL = 8  # pixels: patterns repeat with the autoencoder's 8x grid, so that every latent cell sees the same phase


def luma(picture: Picture) -> Tone:
    """Brightness of each pixel, [H, W] in [0, 1]."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.float32) / np.float32(255)


def stretched(tone: Tone, *, low: float = 2.0, high: float = 98.0) -> Tone:
    """`tone` with the given percentiles moved to 0 and 1: dark and pale photos give equally strong looks."""
    bottom, top = np.percentile(tone, [low, high])
    return np.asarray(np.clip((tone - bottom) / max(float(top - bottom), 0.1), 0.0, 1.0), dtype=np.float32)


def blurred(tone: npt.NDArray[np.float32], *, sigma: float) -> npt.NDArray[np.float32]:
    """Gaussian blur of [H, W] or [H, W, 3] with `sigma` in pixels."""
    return np.asarray(cv2.GaussianBlur(tone, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), dtype=np.float32)


def edges(picture: Picture, *, sigma: float = 1.0, gain: float = 4.0) -> Tone:
    """Strength of brightness edges, [H, W] in [0, 1]."""
    soft = blurred(luma(picture), sigma=sigma)
    across, down = gradients(soft)
    return np.clip(gain * np.hypot(across, down), 0.0, 1.0).astype(np.float32)


def gradients(tone: Tone) -> tuple[Tone, Tone]:
    """Horizontal and vertical slope, per pixel, of [H, W]."""
    across = cv2.Scharr(tone, cv2.CV_32F, 1, 0, scale=1 / 16, borderType=cv2.BORDER_REFLECT)
    down = cv2.Scharr(tone, cv2.CV_32F, 0, 1, scale=1 / 16, borderType=cv2.BORDER_REFLECT)
    return np.asarray(across, dtype=np.float32), np.asarray(down, dtype=np.float32)


def outlines(picture: Picture, *, sigma: float = 1.2, threshold: float = 0.012) -> Tone:
    """Drawn lines by a difference of Gaussians: 1 on a line, 0 elsewhere, with a soft border."""
    tone = luma(picture)
    difference = blurred(tone, sigma=sigma * 1.8) - blurred(tone, sigma=sigma)
    return np.asarray(np.clip((difference - threshold) / threshold, 0.0, 1.0), dtype=np.float32)


def palette(tone: Tone, colours: Sequence[Colour]) -> Picture:
    """Colours of [H, W] tones by linear interpolation between equally spaced `colours`, dark to bright."""
    stops = np.linspace(0.0, 255.0, len(colours))
    grid = np.arange(256)
    channels = [np.interp(grid, stops, [colour[c] for colour in colours]) for c in range(3)]
    table = np.stack(channels, axis=-1).astype(np.uint8)
    return np.asarray(table[(np.clip(tone, 0.0, 1.0) * 255).astype(np.uint8)], dtype=np.uint8)


def steps(tone: Tone, count: int) -> Tone:
    """`tone` rounded to `count` equal levels from 0 to 1."""
    return np.asarray(np.minimum(np.floor(tone * count), count - 1) / (count - 1), dtype=np.float32)


def mixed(below: Picture, above: Picture | Colour, weight: Tone) -> Picture:
    """`above` laid over `below` with [H, W] weights in [0, 1]."""
    over = np.asarray(above, dtype=np.float32)
    share = weight[..., None]
    return np.asarray(np.clip(below * (1.0 - share) + over * share, 0, 255), dtype=np.uint8)


def vivid(picture: Picture, *, saturation: float = 1.0, contrast: float = 1.0) -> Picture:
    """Saturation multiplied around each pixel's brightness, contrast around mid-grey."""
    grey = luma(picture)[..., None] * np.float32(255)
    colour = (grey + saturation * (picture.astype(np.float32) - grey) - 127.5) * contrast + 127.5
    return np.asarray(np.clip(colour, 0, 255), dtype=np.uint8)


def cell_means(picture: Picture, *, cell: int = CELL) -> Picture:
    """Every `cell` x `cell` square filled with its mean colour."""
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // cell, height // cell), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def flattened(picture: Picture, *, rounds: int = 2, strength: float = 45.0) -> Picture:
    """Edge-preserving smoothing: surfaces become flat, outlines stay."""
    for _ in range(rounds):
        picture = np.asarray(cv2.bilateralFilter(picture, 7, strength, 5), dtype=np.uint8)
    return picture


def coordinates(picture: Picture) -> tuple[Tone, Tone]:
    """Row and column numbers in pixels, each [H, W]."""
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return rows.astype(np.float32), columns.astype(np.float32)


def shifted(channel: npt.NDArray[np.uint8], columns: int) -> npt.NDArray[np.uint8]:
    """[H, W] moved right by `columns` pixels, the border repeated."""
    move = np.array([[1, 0, columns], [0, 1, 0]], dtype=np.float32)
    size = (channel.shape[1], channel.shape[0])
    return np.asarray(cv2.warpAffine(channel, move, size, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)
