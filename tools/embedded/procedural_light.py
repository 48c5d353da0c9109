"""Looks made of light: screens, beams, nights, films and colour grades.

Every function takes and gives uint8 [H, W, 3] RGB and is deterministic; patterns keep still on the 8- or 16-pixel grid.
"""

import cv2
import numpy as np

from .tones import (
    CELL,
    Picture,
    Tone,
    blurred,
    cell_means,
    coordinates,
    edges,
    gradients,
    luma,
    mixed,
    palette,
    shifted,
    steps,
    stretched,
    vivid,
)

TILE = 2 * CELL  # pixels: spots, stars, blinds and scratches


def _vignette(picture: Picture, *, reach: float) -> Tone:
    """1 in the middle falling to 0 at `reach` half diagonals from it, [H, W]."""
    rows, columns = coordinates(picture)
    height, width = picture.shape[:2]
    distance = np.hypot(rows / max(height - 1, 1) - 0.5, columns / max(width - 1, 1) - 0.5) / np.sqrt(0.5)
    return np.asarray(np.clip(1.6 * (1.0 - distance / reach), 0.0, 1.0), dtype=np.float32)


def glitch(picture: Picture) -> Picture:
    """Torn 8-pixel bands pushed sideways, with red and cyan split apart."""
    rows, columns = coordinates(picture)
    push = np.array([0, 16, -12, 4], dtype=np.float32)[(rows // CELL).astype(int) % 4]
    torn = cv2.remap(picture, columns + push, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
    split = np.stack([shifted(torn[..., 0], 5), torn[..., 1], shifted(torn[..., 2], -5)], axis=-1)
    strong = vivid(split, saturation=2.2, contrast=1.4)
    return mixed(strong, (255, 0, 150), (0.35 * (push > 10)).astype(np.float32))


def crt_screen(picture: Picture) -> Picture:
    """Upright red, green and blue phosphor stripes, one triple to 8 pixels, with bloom and dark corners."""
    rows, columns = coordinates(picture)
    stripes = np.stack([0.5 + 0.5 * np.cos(2 * np.pi * (columns / CELL - c / 3)) for c in range(3)], axis=-1)
    colour = vivid(picture, saturation=1.5, contrast=1.2).astype(np.float32)
    lines = 0.7 + 0.3 * np.cos(2 * np.pi * rows / CELL)
    light = (colour * 1.9 * stripes + 0.25 * blurred(colour, sigma=3.0)) * lines[..., None]
    return np.asarray(np.clip(light * _vignette(picture, reach=1.3)[..., None], 0, 255), dtype=np.uint8)


def laser_show(picture: Picture) -> Picture:
    """Thin green and magenta beams along the edges, drawn out sideways through black haze."""
    soft = blurred(stretched(luma(picture)), sigma=1.2)
    across, down = gradients(soft)
    upright = np.clip(9.0 * np.abs(across) - 0.3, 0.0, 1.0)
    level = np.clip(9.0 * np.abs(down) - 0.3, 0.0, 1.0)
    haze = cv2.blur(upright, (61, 1), borderType=cv2.BORDER_REFLECT) * 0.9
    light = level[..., None] * np.array([40, 255, 60]) + upright[..., None] * np.array([255, 10, 200])
    return np.asarray(np.clip(light + haze[..., None] * np.array([90, 10, 255]), 0, 255), dtype=np.uint8)


def aurora(picture: Picture) -> Picture:
    """Green and violet curtains that hang down from the lights of a polar night."""
    tone = stretched(luma(picture))
    curtain = cv2.blur(tone, (3, 49), borderType=cv2.BORDER_REFLECT)
    _, columns = coordinates(picture)
    ray = 0.75 + 0.25 * np.cos(2 * np.pi * columns / CELL)
    sky = palette((curtain * ray).astype(np.float32), [(4, 6, 40), (70, 20, 130), (20, 200, 120), (150, 255, 170)])
    return np.asarray(np.clip(sky * (0.2 + 1.0 * tone)[..., None], 0, 255), dtype=np.uint8)


def smoke(picture: Picture) -> Picture:
    """Pale veils of smoke that curl along equal tones over soft grey."""
    tone = blurred(stretched(luma(picture)), sigma=2.5)
    curl = 0.5 + 0.5 * np.sin(2 * np.pi * 3.5 * tone)
    veil = 0.25 + 0.45 * tone + 0.3 * blurred((curl**2).astype(np.float32), sigma=1.5) * (0.3 + tone)
    return palette(veil.astype(np.float32), [(24, 26, 32), (96, 100, 108), (178, 182, 188), (240, 242, 246)])


def wireframe(picture: Picture) -> Picture:
    """A cyan lattice on black that the tones push out of shape."""
    tone = blurred(stretched(luma(picture)), sigma=2.0)
    rows, columns = coordinates(picture)
    bars = [np.abs((place + 10.0 * tone) % CELL - CELL / 2) for place in (rows, columns)]
    wire = np.clip(1.6 - np.minimum(*bars), 0.0, 1.0) * (0.25 + 0.75 * tone)
    return palette(wire.astype(np.float32), [(0, 6, 12), (0, 150, 150), (90, 255, 230)])


def oscilloscope(picture: Picture) -> Picture:
    """Level green beams every 8 pixels, lifted where the picture is bright."""
    tone = blurred(stretched(luma(picture)), sigma=2.5)
    rows, _ = coordinates(picture)
    beam = np.clip(1.7 - np.abs((rows + 20.0 * tone) % CELL - CELL / 2), 0.0, 1.0)
    light = beam * (0.35 + 0.65 * tone) + 0.12 * tone
    return palette(light.astype(np.float32), [(2, 14, 4), (20, 150, 10), (120, 255, 60), (235, 255, 200)])


def film_noir(picture: Picture) -> Picture:
    """Hard black-and-white light through slanted window blinds."""
    tone = blurred(stretched(luma(picture)), sigma=0.8)
    rows, columns = coordinates(picture)
    blind = np.clip(0.5 + 2.0 * np.cos(2 * np.pi * (rows + 0.5 * columns) / TILE), 0.0, 1.0)
    hard = np.clip((tone - 0.3) * 2.4, 0.0, 1.0) * (0.3 + 0.7 * blind)
    return palette(hard.astype(np.float32), [(2, 2, 4), (120, 122, 126), (255, 255, 250)])


def silent_film(picture: Picture) -> Picture:
    """Soft flickering-grey stock seen through a round iris, with upright scratches."""
    tone = blurred(stretched(luma(picture)), sigma=1.2)
    _, columns = coordinates(picture)
    scratch = np.clip(1.3 - np.abs(columns % (2 * TILE) - 11.0), 0.0, 1.0)
    light = (0.1 + 0.9 * tone + 0.35 * scratch) * _vignette(picture, reach=0.95)
    return palette(light.astype(np.float32), [(10, 10, 8), (126, 126, 116), (244, 244, 226)])


def golden_hour(picture: Picture) -> Picture:
    """Low honey-coloured sun: warm lights, brown shadows and a wide glow."""
    warm = vivid(picture, saturation=1.3).astype(np.float32) * np.array([1.25, 0.92, 0.45], dtype=np.float32)
    glow = blurred(stretched(luma(picture)) ** 2, sigma=8.0)[..., None] * np.array([150, 86, 10])
    return np.asarray(np.clip(warm + glow + np.array([24, 8, 0]), 0, 255), dtype=np.uint8)


def teal_and_orange(picture: Picture) -> Picture:
    """Blockbuster grade: teal shadows, orange lights."""
    tone = stretched(luma(picture))
    grade = palette(tone, [(0, 26, 38), (0, 104, 118), (232, 128, 60), (255, 222, 176)])
    return mixed(grade, vivid(picture, saturation=1.5, contrast=1.2), np.full_like(tone, 0.25))


def toxic_green(picture: Picture) -> Picture:
    """Poisonous acid green and yellow over dark violet."""
    tone = stretched(luma(picture))
    return palette(blurred(tone, sigma=0.8), [(36, 0, 60), (30, 60, 20), (110, 230, 0), (200, 255, 0), (250, 255, 150)])


def blood_red(picture: Picture) -> Picture:
    """Two colours only: black and deep red, hard between them."""
    tone = blurred(stretched(luma(picture)), sigma=1.0)
    return palette(np.clip((tone - 0.3) * 2.2, 0.0, 1.0).astype(np.float32), [(8, 0, 0), (120, 0, 4), (232, 6, 16)])


def ultraviolet(picture: Picture) -> Picture:
    """Electric violet light with white-hot lights."""
    tone = stretched(luma(picture)) ** np.float32(1.2)
    light = tone + 0.3 * blurred(tone, sigma=4.0)
    return palette(light.astype(np.float32) / 1.2, [(8, 0, 30), (66, 0, 190), (150, 30, 255), (250, 220, 255)])


def disco(picture: Picture) -> Picture:
    """Round spots of coloured light, 16 pixels apart and staggered, over a dark purple room."""
    rows, columns = coordinates(picture)
    row, column = (rows // TILE).astype(int), ((columns + CELL * (rows // TILE % 2)) // TILE).astype(int)
    away = np.hypot(rows % TILE - 7.5, (columns + CELL * (row % 2)) % TILE - 7.5)
    lamps = np.array([(255, 40, 150), (40, 170, 255), (255, 220, 30), (60, 255, 120)], dtype=np.float32)[(row + 2 * column) % 4]
    tone = stretched(luma(picture))
    spot = np.clip((6.8 - away) / 2.0, 0.0, 1.0) * (0.12 + 0.88 * tone)
    room = palette(tone, [(8, 0, 22), (52, 12, 92), (130, 60, 160)])
    return mixed(room, np.clip(lamps * (0.6 + 0.5 * tone[..., None]), 0, 255).astype(np.uint8), spot.astype(np.float32))


def galaxy(picture: Picture) -> Picture:
    """Purple and blue nebula clouds, with white stars where the picture is dark."""
    tone = blurred(stretched(luma(picture)), sigma=2.0)
    rows, columns = coordinates(picture)
    cloud = palette(tone, [(4, 2, 20), (40, 14, 96), (110, 30, 150), (220, 80, 170), (255, 190, 190)])
    star = np.zeros_like(tone)
    for top, left, size in ((3.0, 4.0, 1.9), (12.0, 11.0, 1.5)):
        star = np.maximum(star, np.clip(size - np.hypot(rows % TILE - top, columns % TILE - left), 0.0, 1.0))
    return mixed(cloud, (236, 244, 255), (star * np.clip(1.2 - 2.0 * tone, 0.0, 1.0)).astype(np.float32))


def bioluminescence(picture: Picture) -> Picture:
    """Ink-black deep water where contours and lights glow blue-green."""
    tone = blurred(stretched(luma(picture)), sigma=1.5)
    line = edges(picture, sigma=1.4, gain=4.0)
    light = 0.3 * tone**2 + 0.8 * line + 0.8 * blurred(line, sigma=4.0)
    return palette(light.astype(np.float32), [(0, 4, 18), (0, 44, 110), (0, 170, 200), (130, 255, 220)])


def solarized(picture: Picture) -> Picture:
    """Half-inverted darkroom colours: every channel folds back at mid-tone, as in the Sabattier effect."""
    channels = vivid(picture, saturation=1.5, contrast=1.1).astype(np.float32) / np.float32(255)
    folded = np.sin(np.pi * 1.5 * channels) ** 2
    return np.asarray(np.clip(folded * 255, 0, 255), dtype=np.uint8)


def radar(picture: Picture) -> Picture:
    """Amber blips, one to 8 pixels, on a dark scope; brighter and wider where the picture is bright."""
    tone = steps(stretched(luma(cell_means(picture))), 5)
    rows, columns = coordinates(picture)
    away = np.hypot(rows % CELL - 3.5, columns % CELL - 3.5)
    blip = np.clip(1.2 + 3.4 * tone - away, 0.0, 1.0) * (0.25 + 0.75 * tone)
    return palette(blip.astype(np.float32), [(20, 8, 0), (190, 84, 0), (255, 190, 40)])
