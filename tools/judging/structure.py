"""How much of the input's structure is kept, by strength, and how strongly prompt and guidance act."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .pictures import Picture
from .references import References
from .report import Cell, Figures
from .studio import Studio
from .style_space import style_features

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
GUIDANCES = (1.0, 1.5, 2.0, 3.0)
GUIDED_STYLES = 12
CANNY = (60, 150)
TOLERANCE = 2  # pixels
Grey = npt.NDArray[np.float64]


def luminance(picture: Picture) -> Grey:
    """Luma of an RGB picture, float64 [H, W], 0 to 255 (Rec. 601)."""
    return np.asarray(picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114]))


def ssim(one: Grey, other: Grey) -> float:
    """Mean structural similarity of two grey pictures of 0 to 255, at most 1 (Wang et al. 2004: Gaussian window, sigma 1.5)."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def blurred(grey: Grey) -> Grey:
        return np.asarray(cv2.GaussianBlur(grey, (11, 11), 1.5))

    mean_a, mean_b = blurred(one), blurred(other)
    var_a, var_b = blurred(one * one) - mean_a**2, blurred(other * other) - mean_b**2
    both = blurred(one * other) - mean_a * mean_b
    found = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(found.mean())


def edges(picture: Picture) -> npt.NDArray[np.bool_]:
    """Canny edges of the slightly blurred luminance, [H, W]."""
    grey = cv2.GaussianBlur(luminance(picture).round().astype(np.uint8), (0, 0), 1.2)
    return np.asarray(cv2.Canny(grey, *CANNY, L2gradient=True) > 0)


def edge_f1(wanted: npt.NDArray[np.bool_], found: npt.NDArray[np.bool_], *, tolerance: int = TOLERANCE) -> float:
    """F1 of two edge maps [H, W]: an edge counts as found within `tolerance` pixels. Two maps without edges agree: 1."""
    if not wanted.any() and not found.any():
        return 1.0
    if not wanted.any() or not found.any():
        return 0.0
    size = 2 * tolerance + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    near_wanted, near_found = (cv2.dilate(mask.astype(np.uint8), disc) > 0 for mask in (wanted, found))
    precision, recall = float(near_wanted[found].mean()), float(near_found[wanted].mean())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def mean_pairwise(rows: Tensor) -> float:
    """Mean over all pairs of rows [N, ...] of the root mean square difference."""
    flat = rows.flatten(1).float()
    apart = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    count = len(flat)
    return float(apart.sum() / (count * (count - 1)))


def direction(values: Sequence[float]) -> str:
    """Whether `values` only fall, only rise, or neither."""
    if all(a >= b for a, b in zip(values, values[1:], strict=False)):
        return "falls throughout"
    return "rises throughout" if all(a <= b for a, b in zip(values, values[1:], strict=False)) else "is not monotone"


def kept_structure(studio: Studio, prompts: Sequence[str]) -> Figures:
    """Edge F1, SSIM and change against the photo, and the distance between prompts, for each strength."""
    wanted = [edges(photo) for photo in studio.photos]
    grey = [luminance(photo) for photo in studio.photos]
    rows: list[list[Cell]] = []
    for strength in STRENGTHS:
        made = studio.pictures(prompts, strength=strength)
        pairs = [(p, picture) for row in made for p, picture in enumerate(row)]
        f1 = float(np.mean([edge_f1(wanted[p], edges(picture)) for p, picture in pairs]))
        likeness = float(np.mean([ssim(grey[p], luminance(picture)) for p, picture in pairs]))
        change = float(np.abs(made.astype(np.float32) - studio.photos[None]).mean() / 255)
        pixels = torch.from_numpy(made).float() / 255
        apart = float(np.mean([mean_pairwise(pixels[:, p]) for p in range(made.shape[1])]))
        latents = studio.painter.encoded(made.reshape(-1, *made.shape[2:])).unflatten(0, made.shape[:2])
        apart_latent = float(np.mean([mean_pairwise(latents[:, p]) for p in range(made.shape[1])]))
        rows.append([strength, f1, likeness, change, apart, apart_latent])
    heads = ("strength", "edge F1", "SSIM", "mean change", "between prompts, pixels RMS", "between prompts, latents RMS")
    notes = [f"{head} {direction([float(row[i] or 0) for row in rows])} with the strength" for i, head in enumerate(heads) if i]
    title = f"Structure kept and prompt response, {len(prompts)} looks x {len(studio.photos)} photos, 1 step"
    return Figures(title, heads, rows, notes)


def guidance_response(studio: Studio, known: References) -> Figures:
    """Likeness to the style for each guidance scale at strengths 0.5 and 1, over the first styles."""
    styles = range(min(GUIDED_STYLES, len(known.styles)))
    examples = known.space.example(known.examples)[: len(styles), None]
    own = np.stack([known.centroids(photo)[: len(styles)] for photo in range(len(studio.photos))], axis=1)
    wanted = [edges(photo) for photo in studio.photos]
    rows: list[list[Cell]] = []
    for strength in (0.5, 1.0):
        for guidance in GUIDANCES:
            made = studio.pictures([known.styles[i].prompt for i in styles], strength=strength, guidance=guidance)
            raw, _ = style_features(studio.network, made.reshape(-1, *made.shape[2:]))
            queries = known.space.picture(raw.reshape(*made.shape[:2], -1))
            f1 = float(np.mean([edge_f1(wanted[p], edges(picture)) for row in made for p, picture in enumerate(row)]))
            rows.append([strength, guidance, float((queries * examples).sum(-1).mean()), float((queries * own).sum(-1).mean()), f1])
    heads = ("strength", "guidance", "likeness to example", "likeness to teacher", "edge F1")
    return Figures(f"Guidance, {len(styles)} styles, 1 step", heads, rows)
