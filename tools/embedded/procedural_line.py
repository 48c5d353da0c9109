"""Looks made of lines, dots and cells: drawings, prints and grids; looks made of colour alone are in the file beside.

Every function takes and gives uint8 [H, W, 3] RGB, is deterministic, and draws patterns in phase with the 8-pixel grid.
"""

import cv2
import numpy as np

from .tones import (
    CELL,
    Picture,
    blurred,
    cell_means,
    coordinates,
    edges,
    flattened,
    gradients,
    luma,
    mixed,
    outlines,
    palette,
    steps,
    stretched,
    vivid,
)


def pencil_sketch(picture: Picture) -> Picture:
    """Graphite on white paper: colour dodge of the negative, with diagonal hatching in the shadows."""
    tone = stretched(luma(picture))
    dodge = np.clip(tone / (1.02 - blurred(1.0 - tone, sigma=3.0)), 0.0, 1.0)
    rows, columns = coordinates(picture)
    hatch = 0.5 + 0.5 * np.cos(2 * np.pi * (rows + columns) / 4)
    shade = np.clip(0.55 - tone, 0.0, 0.5) * hatch
    return palette((np.clip(dodge, 0, 1) ** 2 - shade).astype(np.float32), [(40, 40, 45), (250, 250, 246)])


def ink_drawing(picture: Picture) -> Picture:
    """Black brush lines and solid shadows on cream paper."""
    solid = np.clip((0.22 - stretched(luma(picture))) * 12, 0.0, 1.0)
    ink = np.maximum(outlines(picture, sigma=1.4, threshold=0.008), solid)
    return palette((1.0 - ink).astype(np.float32), [(8, 8, 10), (248, 240, 220)])


def neon_edges(picture: Picture) -> Picture:
    """Glowing coloured lines on black; the hue follows the direction of the edge."""
    soft = blurred(stretched(luma(picture)), sigma=1.2)
    across, down = gradients(soft)
    line = np.clip(9.0 * np.hypot(across, down) - 0.15, 0.0, 1.0)
    hue = ((np.arctan2(down, across) / np.pi + 1.0) * 90) % 180
    full = np.full_like(hue, 255)
    colour = cv2.cvtColor(np.stack([hue, full, full], -1).astype(np.uint8), cv2.COLOR_HSV2RGB)
    light = colour.astype(np.float32) * line[..., None]
    glow = blurred(light.astype(np.float32), sigma=3.0)
    return np.asarray(np.clip(light * 1.1 + glow * 1.1, 0, 255), dtype=np.uint8)


def blueprint(picture: Picture) -> Picture:
    """White construction lines on blueprint blue with a faint grid."""
    rows, columns = coordinates(picture)
    grid = (((rows % 16) < 1) | ((columns % 16) < 1)).astype(np.float32) * 0.18
    line = np.maximum(edges(picture, sigma=0.9, gain=7.0), grid)
    return palette(line, [(16, 52, 150), (120, 160, 235), (245, 250, 255)])


def chalkboard(picture: Picture) -> Picture:
    """White chalk lines on a dark green board."""
    line = np.clip(edges(picture, sigma=1.4, gain=8.0) - 0.1, 0.0, 1.0)
    dust = 0.18 * stretched(luma(picture))
    return palette(np.maximum(line, dust).astype(np.float32), [(18, 44, 36), (110, 140, 125), (250, 252, 240)])


def halftone(picture: Picture) -> Picture:
    """Black newspaper dots on white, at 45 degrees, one dot to 8 pixels."""
    rows, columns = coordinates(picture)
    screen = 0.5 + 0.25 * (np.cos(2 * np.pi * (rows + columns) / CELL) + np.cos(2 * np.pi * (rows - columns) / CELL))
    tone = blurred(stretched(luma(picture)), sigma=1.5)
    paper = np.clip((tone * 1.06 - screen) * 8 + 0.5, 0.0, 1.0)
    return palette(paper.astype(np.float32), [(12, 12, 14), (252, 250, 244)])


def comic_book(picture: Picture) -> Picture:
    """Flat printed colours with red-and-blue dots in the half-tones and black outlines."""
    flat = vivid(flattened(picture), saturation=2.2, contrast=1.25)
    tone = stretched(luma(flat))
    colour = (np.round(flat / 85.0) * 85).astype(np.uint8)
    rows, columns = coordinates(picture)
    screen = 0.5 + 0.25 * (np.cos(2 * np.pi * rows / CELL) + np.cos(2 * np.pi * columns / CELL))
    dots = np.clip((0.75 - tone - screen * 0.5) * 6, 0.0, 1.0) * 0.65
    printed = mixed(colour, (235, 40, 90), (dots * (tone > 0.25)).astype(np.float32))
    return mixed(printed, (10, 8, 14), outlines(picture, sigma=1.3, threshold=0.01))


def cartoon(picture: Picture) -> Picture:
    """Flat bright colours with black outlines."""
    flat = vivid(flattened(picture, rounds=4), saturation=1.9, contrast=1.15)
    colour = np.clip(np.round(flat / 51.0) * 51 + 12, 0, 255).astype(np.uint8)
    return mixed(colour, (15, 10, 20), outlines(picture, sigma=1.2, threshold=0.009))


def pixel_art(picture: Picture) -> Picture:
    """Big square pixels in few saturated colours."""
    cells = vivid(cell_means(picture), saturation=1.9, contrast=1.3)
    return np.asarray(np.round(cells / 51.0) * 51, dtype=np.uint8)


def handheld_game(picture: Picture) -> Picture:
    """Small square pixels in the four greens of an old handheld game."""
    tone = stretched(luma(cell_means(picture, cell=4)))
    return palette(steps(tone, 4), [(15, 56, 15), (48, 98, 48), (139, 172, 15), (176, 208, 30)])


def led_wall(picture: Picture) -> Picture:
    """Round glowing lamps, one to 8 pixels, on black."""
    cells = vivid(cell_means(picture), saturation=1.8, contrast=1.3)
    rows, columns = coordinates(picture)
    radius = np.hypot(rows % CELL - 3.5, columns % CELL - 3.5)
    lamp = np.clip(4.2 - radius, 0.0, 1.0)
    return np.asarray(np.clip(cells * lamp[..., None] * 1.2, 0, 255), dtype=np.uint8)


def green_code(picture: Picture) -> Picture:
    """Terminal characters in green on black; denser characters where it is brighter."""
    glyphs = [" ", ".", ":", "+", "o", "X", "8", "@"]
    atlas = np.zeros((len(glyphs), CELL, CELL), dtype=np.float32)
    for number, glyph in enumerate(glyphs):
        large = np.zeros((48, 48), dtype=np.uint8)
        cv2.putText(large, glyph, (6, 38), cv2.FONT_HERSHEY_SIMPLEX, 1.4, 255, 7)
        atlas[number] = cv2.resize(large, (CELL, CELL), interpolation=cv2.INTER_AREA) / 255.0
    tone = stretched(luma(picture)) ** np.float32(0.7)
    height, width = tone.shape[0] // CELL, tone.shape[1] // CELL
    cells = cv2.resize(tone, (width, height), interpolation=cv2.INTER_AREA)
    level = np.clip((cells * len(glyphs)).astype(int), 0, len(glyphs) - 1)
    light = atlas[level].transpose(0, 2, 1, 3).reshape(height * CELL, width * CELL)
    brightness = np.kron(0.7 + 0.3 * cells, np.ones((CELL, CELL)))
    return palette((light * brightness).astype(np.float32), [(0, 8, 2), (0, 190, 50), (190, 255, 190)])


def linocut(picture: Picture) -> Picture:
    """Black block print with carved lines through the half-tones."""
    tone = blurred(stretched(luma(picture)), sigma=1.0)
    rows, columns = coordinates(picture)
    carve = 0.5 + 0.5 * np.cos(2 * np.pi * (rows * 2 + columns) / CELL)
    paper = np.clip((tone - 0.25 - 0.5 * carve) * 10 + 0.5, 0.0, 1.0)
    return palette(paper.astype(np.float32), [(20, 14, 12), (244, 232, 208)])


def engraving(picture: Picture) -> Picture:
    """Banknote lines: horizontal green strokes whose width follows the tone."""
    tone = blurred(stretched(luma(picture)), sigma=0.8)
    rows, _ = coordinates(picture)
    stroke = 0.5 + 0.5 * np.cos(2 * np.pi * rows / 4)
    paper = np.clip((tone * 1.1 - 0.8 * stroke) * 4 + 0.6, 0.0, 1.0)
    return palette(paper.astype(np.float32), [(14, 70, 52), (226, 236, 214)])


def cross_stitch(picture: Picture) -> Picture:
    """Coloured crosses of yarn on linen, one to 8 pixels."""
    cells = vivid(cell_means(picture), saturation=1.6, contrast=1.2)
    rows, columns = coordinates(picture)
    across, down = columns % CELL - 3.5, rows % CELL - 3.5
    yarn = np.clip(2.0 - np.minimum(np.abs(across - down), np.abs(across + down)), 0.0, 1.0)
    return mixed(np.full_like(picture, (226, 214, 190)), cells, yarn.astype(np.float32))


def contour_map(picture: Picture) -> Picture:
    """Brown height lines over green-to-white map colours."""
    tone = blurred(stretched(luma(picture)), sigma=2.5)
    height = tone * 9 + 0.5  # flat black and white areas lie between two lines
    line = np.clip(1.0 - np.abs(height - np.round(height)) / (np.hypot(*gradients(height)) + 0.02), 0.0, 1.0)
    land = palette(steps(tone, 9), [(90, 150, 190), (140, 190, 110), (230, 220, 140), (205, 150, 90), (250, 248, 240)])
    return mixed(land, (110, 60, 25), (0.9 * line).astype(np.float32))


def stained_glass(picture: Picture) -> Picture:
    """Glowing panes of pure colour between thick dark leads."""
    flat = vivid(flattened(picture, rounds=4, strength=60), saturation=3.0, contrast=1.3)
    panes = (np.round(flat / 127.5) * 127.5).astype(np.uint8)
    panes = np.asarray(cv2.medianBlur(panes, 5), dtype=np.uint8)
    border = cv2.morphologyEx(panes, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).max(axis=2)
    lead = np.maximum((border > 40).astype(np.float32), outlines(picture, sigma=1.6))
    jewel = np.maximum(panes, np.array([40, 10, 70], dtype=np.uint8))
    return mixed(jewel, (10, 8, 12), blurred(lead.astype(np.float32), sigma=0.7))
