"""Looks made with ink, paint, chalk and paper.

Every function takes and gives uint8 [H, W, 3] RGB and is deterministic; patterns keep still on the 8- or 16-pixel grid.
"""

import cv2
import numpy as np

from .tones import (
    CELL,
    Picture,
    blurred,
    coordinates,
    edges,
    flattened,
    gradients,
    luma,
    mixed,
    outlines,
    palette,
    shifted,
    steps,
    stretched,
    vivid,
)

TILE = 2 * CELL  # pixels: bricks and wide hatching


def ink_wash(picture: Picture) -> Picture:
    """Wet grey brush washes on rice paper with a few dark strokes."""
    tone = blurred(stretched(luma(flattened(picture))), sigma=2.5)
    wash = 0.25 + 0.75 * blurred(steps(tone, 4), sigma=1.5)
    stroke = blurred(outlines(picture, sigma=2.4, threshold=0.015), sigma=0.8)
    ink = wash * (1.0 - 0.9 * stroke)
    return palette(ink.astype(np.float32), [(16, 18, 24), (88, 92, 98), (178, 178, 172), (244, 238, 220)])


def risograph(picture: Picture) -> Picture:
    """Fluorescent pink and green inks, printed out of register on white paper."""
    soft = cv2.GaussianBlur(vivid(picture, contrast=1.2), (0, 0), 1.0)
    rows, columns = coordinates(picture)
    screen = 0.25 * np.cos(2 * np.pi * (rows + columns) / CELL) * np.cos(2 * np.pi * (rows - columns) / CELL)
    pink = np.clip((0.62 - shifted(soft[..., 1], 4) / 255.0 + screen) * 4, 0.0, 1.0)[..., None]
    green = np.clip((0.5 - shifted(soft[..., 0], -4) / 255.0 - screen) * 4, 0.0, 1.0)[..., None]
    paper = np.array([252, 248, 238], dtype=np.float32)
    inked = paper * (1 - pink * (1 - np.array([1.0, 0.28, 0.69]))) * (1 - green * (1 - np.array([0.0, 0.66, 0.5])))
    return np.asarray(np.clip(inked, 0, 255), dtype=np.uint8)


def woodblock_print(picture: Picture) -> Picture:
    """Flat indigo, sage, ochre and cream with black key lines and level wood grain."""
    flat = flattened(picture, rounds=3)
    tone = steps(blurred(stretched(luma(flat)), sigma=1.0), 5)
    rows, _ = coordinates(picture)
    grain = 0.93 + 0.07 * np.cos(2 * np.pi * (rows + 6.0 * tone) / CELL)
    blocks = palette(tone, [(22, 34, 78), (44, 92, 128), (124, 152, 118), (222, 142, 92), (246, 230, 190)])
    printed = (blocks * grain[..., None]).astype(np.uint8)
    return mixed(printed, (18, 14, 16), outlines(picture, sigma=1.3, threshold=0.008))


def crosshatch(picture: Picture) -> Picture:
    """Blue ballpoint hatching: one direction in the half-tones, a second and third in the shadows."""
    tone = blurred(stretched(luma(picture)), sigma=1.0)
    rows, columns = coordinates(picture)
    ink = outlines(picture, sigma=1.1, threshold=0.01)
    for place, start in ((rows + columns, 0.75), (rows - columns, 0.45), (rows, 0.22)):
        line = np.clip(1.7 - np.abs(place % CELL - CELL / 2), 0.0, 1.0)
        ink = np.maximum(ink, (line * np.clip((start - tone) * 7, 0.0, 1.0)).astype(np.float32))
    return palette(ink, [(252, 252, 255), (60, 80, 210), (16, 24, 140)])


def pastel_chalk(picture: Picture) -> Picture:
    """Crumbly strokes of bright pastel on black paper."""
    tone = stretched(luma(picture))
    colour = vivid(np.asarray(cv2.GaussianBlur(picture, (0, 0), 2.0), dtype=np.uint8), saturation=2.2).astype(np.float32)
    sticks = palette(blurred(tone, sigma=2.0), [(90, 60, 200), (110, 150, 255), (255, 130, 150), (255, 216, 150)])
    chalk = np.clip(colour * 0.45 + sticks * 0.5 + 20.0, 0, 255).astype(np.uint8)
    rows, columns = coordinates(picture)
    stroke = 0.5 + 0.5 * np.cos(2 * np.pi * (rows + columns) / CELL)
    cover = np.clip((blurred(tone, sigma=1.0) * 1.25 - 0.55 * stroke) * 2.5, 0.0, 1.0)
    return mixed(np.full_like(picture, (16, 14, 20)), chalk, cover.astype(np.float32))


def sand_drawing(picture: Picture) -> Picture:
    """Grooves raked into beach sand, lit from the upper left."""
    tone = blurred(stretched(luma(picture)), sigma=1.5)
    rows, _ = coordinates(picture)
    rake = 0.045 * np.cos(2 * np.pi * (rows + 16.0 * tone) / CELL)
    across, down = gradients((tone * 0.8 + rake - 0.25 * outlines(picture, sigma=2.0)).astype(np.float32))
    light = 0.35 + 0.3 * tone + 2.8 * (across + down)
    return palette(light.astype(np.float32), [(92, 62, 34), (190, 146, 94), (236, 206, 150), (255, 244, 212)])


def candy_pastel(picture: Picture) -> Picture:
    """Milky sweets: pink, lilac, sky blue, mint and lemon instead of dark to bright."""
    tone = blurred(stretched(luma(picture)), sigma=1.0)
    sweets = [(255, 120, 180), (206, 150, 255), (140, 200, 255), (170, 250, 214), (255, 248, 190)]
    return mixed(palette(tone, sweets), (255, 255, 255), 0.7 * edges(picture, gain=4.0))


def op_art(picture: Picture) -> Picture:
    """Hard black and white stripes, 8 pixels apart, that bend with the tone."""
    tone = blurred(stretched(luma(picture)), sigma=3.0)
    rows, _ = coordinates(picture)
    wave = np.cos(2 * np.pi * (rows / CELL + 3.0 * tone)) + 1.2 * (tone - 0.5)
    return palette(np.clip(0.5 + 2.0 * wave, 0.0, 1.0).astype(np.float32), [(4, 4, 6), (255, 255, 255)])


def polaroid(picture: Picture) -> Picture:
    """A faded instant photo, milky shadows and greenish lights, in a white frame."""
    faded = vivid(picture, saturation=0.7, contrast=0.8).astype(np.float32)
    tinted = (faded * np.array([0.82, 0.84, 0.62]) + np.array([52, 50, 66])).astype(np.uint8)
    height, width = picture.shape[:2]
    frame = np.ones((height, width), dtype=np.float32)
    frame[height // 16 : height - height // 6, width // 16 : width - width // 16] = 0.0
    return mixed(tinted, (250, 248, 240), frame)


def bleached_desert(picture: Picture) -> Picture:
    """Overexposed noon heat: nearly white sand, dusty orange shadows, hardly any other colour."""
    tone = stretched(luma(picture)) ** np.float32(0.6)
    bright = tone + 0.25 * blurred(tone, sigma=5.0)
    return palette(bright.astype(np.float32), [(150, 76, 40), (220, 160, 104), (248, 224, 178), (255, 252, 240)])


def paper_cut(picture: Picture) -> Picture:
    """Five layers of coloured card, dark plum to coral to cream, each with a soft shadow on the one below."""
    tone = blurred(stretched(luma(flattened(picture))), sigma=2.5)
    layer = steps(tone, 5)
    move = np.array([[1, 0, 3], [0, 1, 4]], dtype=np.float32)
    above = cv2.warpAffine(layer, move, (layer.shape[1], layer.shape[0]), borderMode=cv2.BORDER_REPLICATE)
    shadow = np.clip(blurred(np.asarray(above, dtype=np.float32), sigma=1.5) - layer, 0.0, 0.3) * 2.4
    card = palette(layer, [(44, 16, 70), (140, 30, 100), (238, 80, 90), (255, 164, 96), (255, 236, 196)])
    return mixed(card, (16, 4, 30), np.clip(shadow, 0.0, 1.0).astype(np.float32))


def graffiti(picture: Picture) -> Picture:
    """Loud spray colours with white halos and fat black outlines on a brick wall."""
    soft = np.asarray(cv2.GaussianBlur(picture, (0, 0), 2.0), dtype=np.uint8)
    tone = stretched(luma(soft))
    spray = palette(steps(tone, 5), [(60, 0, 140), (255, 0, 120), (0, 190, 220), (255, 225, 0), (214, 200, 190)])
    rows, columns = coordinates(picture)
    joint = (rows % CELL < 1.5) | ((columns + CELL * (rows // CELL % 2)) % TILE < 1.5)
    wall = mixed(spray, (96, 60, 54), (0.5 * joint * np.clip(tone * 2.0 - 0.5, 0.2, 1.0)).astype(np.float32))
    line = outlines(soft, sigma=2.2, threshold=0.01)
    halo = np.asarray(cv2.dilate(line, np.ones((7, 7), np.uint8)), dtype=np.float32)
    return mixed(mixed(wall, (255, 255, 255), 0.85 * halo), (8, 6, 12), line)
