"""Loss curves of a training stage as a picture; reads the CSV that the stage appends to."""

import csv
import math
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT, MARGIN = 720, 180, 44
WINDOW = 0.03  # of the rows: the moving average that is drawn over the raw values


def plot_losses(source: Path, target: Path) -> None:
    """Write `target`: one panel per column of `source` over the training time in minutes. Nothing if there is no `source`."""
    if not source.exists():
        return
    with source.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name not in ("step", "seconds")]
    minutes = np.array([float(row["seconds"]) / 60 for row in rows])
    panels = [panel(name, minutes, np.array([float(row[name]) for row in rows])) for name in names]
    if panels:
        cv2.imwrite(str(target), np.vstack(panels))


def panel(name: str, minutes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """One curve as uint8 [HEIGHT, WIDTH, 3]: raw values pale, their moving average dark, the last average in words."""
    picture = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    known = np.isfinite(values)
    minutes, values = minutes[known], values[known]
    if len(values) < 2:
        return picture
    span = max(int(len(values) * WINDOW), 1)
    kernel = np.ones(span) / span
    smooth = np.convolve(np.pad(values, (span - 1, 0), mode="edge"), kernel, mode="valid")
    low, high = np.percentile(values, [1, 99])
    scale = max(float(high - low), 1e-9)
    across = MARGIN + (WIDTH - 2 * MARGIN) * minutes / max(float(minutes[-1]), 1e-9)
    for curve, colour, thickness in ((values, (225, 205, 180), 1), (smooth, (150, 70, 20), 2)):
        down = HEIGHT - MARGIN + (2 * MARGIN - HEIGHT) * np.clip((curve - low) / scale, -0.2, 1.2)
        points = np.stack([across, down], axis=1).round().astype(np.int32)
        cv2.polylines(picture, [points], False, colour, thickness, cv2.LINE_AA)
    digits = max(0, 2 - math.floor(math.log10(max(abs(float(smooth[-1])), 1e-9))))
    texts = ((f"{name}: {smooth[-1]:.{digits}f} at the end", (MARGIN, 22)), (f"0 to {minutes[-1]:.0f} min", (MARGIN, HEIGHT - 14)))
    for text, place in (*texts, (f"{high:.3g}", (2, MARGIN)), (f"{low:.3g}", (2, HEIGHT - MARGIN))):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (60, 60, 60), 1, cv2.LINE_AA)
    return picture
