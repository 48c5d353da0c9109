"""Looks made of tone and colour: cameras, films, lights and materials; looks made of lines and cells are in the file beside.

Every function takes and gives uint8 [H, W, 3] RGB and is deterministic.
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


def thermal_camera(picture: Picture) -> Picture:
    """Heat colours: black and blue are cold, yellow and white are hot."""
    tone = blurred(stretched(luma(picture)), sigma=1.5)
    colours = [(4, 2, 30), (50, 10, 130), (180, 20, 120), (240, 80, 30), (255, 190, 20), (255, 255, 220)]
    return palette(tone, colours)


def night_vision(picture: Picture) -> Picture:
    """Bright green phosphor with bloom and scan lines."""
    tone = stretched(luma(picture)) ** np.float32(0.8)
    rows, _ = coordinates(picture)
    lines = 0.8 + 0.2 * np.cos(2 * np.pi * rows / (CELL / 2))
    light = (tone + 0.35 * blurred(tone, sigma=4.0)) * lines * 0.8
    return palette(light.astype(np.float32), [(0, 14, 4), (20, 150, 40), (110, 255, 110), (225, 255, 215)])


def x_ray(picture: Picture) -> Picture:
    """Negative of soft tones in blue-white on black, with bright contours."""
    tone = 1.0 - stretched(luma(picture))
    film = 0.65 * blurred(tone, sigma=1.5) ** np.float32(1.6) + 0.6 * edges(picture, sigma=1.0, gain=4.0)
    return palette(film.astype(np.float32), [(2, 4, 12), (40, 80, 130), (150, 200, 235), (245, 252, 255)])


def sepia(picture: Picture) -> Picture:
    """Brown-toned old photograph with lifted blacks."""
    tone = stretched(luma(picture))
    return palette(tone, [(50, 28, 12), (150, 105, 60), (248, 228, 185)])


def screen_print_poster(picture: Picture) -> Picture:
    """Four flat inks by brightness: navy, red, pale blue, cream."""
    tone = steps(stretched(luma(flattened(picture))), 4)
    return palette(tone, [(0, 40, 80), (215, 30, 40), (115, 160, 175), (252, 232, 170)])


def fire(picture: Picture) -> Picture:
    """Glowing embers: black, red, orange, yellow, white, with light spilling upward."""
    tone = stretched(luma(picture)) ** np.float32(1.5)
    light = np.clip(0.7 * tone + 0.6 * edges(picture, gain=5.0), 0.0, 1.0)
    flames = light.astype(np.float32)
    for rise in (3, 6, 10):
        risen = np.vstack([light[rise:], np.repeat(light[-1:], rise, axis=0)])
        flames = np.maximum(flames, blurred(risen.astype(np.float32), sigma=rise / 3) * np.float32(0.95 - rise / 30))
    return palette(flames, [(8, 0, 0), (130, 10, 0), (240, 80, 0), (255, 190, 30), (255, 255, 210)])


def ice(picture: Picture) -> Picture:
    """Frozen: deep blue shadows, cyan body, white ridges."""
    tone = stretched(luma(picture))
    ridges = np.clip(0.75 * tone + 0.7 * edges(picture, sigma=0.8, gain=5.0), 0.0, 1.0)
    return palette(ridges.astype(np.float32), [(4, 22, 66), (20, 110, 190), (120, 215, 245), (245, 254, 255)])


def gold(picture: Picture) -> Picture:
    """Polished gold: tones folded into reflections."""
    tone = blurred(stretched(luma(picture)), sigma=1.0)
    fold = 0.5 - 0.5 * np.cos(tone * np.pi * 3.0)
    shine = np.clip(0.55 * fold + 0.45 * tone, 0.0, 1.0)
    return palette(shine.astype(np.float32), [(40, 20, 2), (150, 90, 10), (235, 175, 40), (255, 248, 190)])


def chrome(picture: Picture) -> Picture:
    """Liquid metal: tones folded twice into cool grey reflections."""
    tone = blurred(stretched(luma(picture)), sigma=1.3)
    fold = 0.5 - 0.5 * np.cos(tone * np.pi * 5.0)
    return palette(fold.astype(np.float32), [(10, 14, 26), (90, 105, 130), (190, 205, 225), (255, 255, 255)])


def acid_rainbow(picture: Picture) -> Picture:
    """Full-saturation hues that run with brightness."""
    tone = blurred(stretched(luma(picture)), sigma=1.5)
    hue = (tone * 300.0) % 180
    value = np.clip(130 + 160 * tone, 0, 255)
    hsv = np.stack([hue, np.full_like(hue, 245), value], axis=-1).astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), dtype=np.uint8)


def duotone(picture: Picture) -> Picture:
    """Two inks: deep blue shadows, hot pink lights."""
    return palette(stretched(luma(picture)), [(20, 0, 110), (150, 20, 170), (255, 60, 140), (255, 200, 190)])


def negative(picture: Picture) -> Picture:
    """Inverted colours."""
    return vivid((255 - picture).astype(np.uint8), saturation=1.6, contrast=1.15)


def anaglyph(picture: Picture) -> Picture:
    """Red and cyan copies side by side, as for 3D glasses."""
    grey = (stretched(luma(picture)) * 255).astype(np.uint8)
    left, right = shifted(grey, -4), shifted(grey, 4)
    return np.stack([left, right, right], axis=-1)


def vhs_tape(picture: Picture) -> Picture:
    """Worn video: smeared shifted colour, scan lines, washed contrast."""
    colour = vivid(picture, saturation=1.7, contrast=0.9)
    smeared = np.asarray(cv2.blur(colour, (9, 1)), dtype=np.uint8)
    channels = [shifted(smeared[..., 0], 4), smeared[..., 1], shifted(smeared[..., 2], -4)]
    rows, _ = coordinates(picture)
    lines = 0.78 + 0.22 * np.cos(2 * np.pi * rows / (CELL / 2))
    tape = np.stack(channels, axis=-1).astype(np.float32) * lines[..., None].astype(np.float32)
    return np.asarray(np.clip(tape * 0.95 + np.array([28, 12, 38]), 0, 255), dtype=np.uint8)


def sunset_silhouette(picture: Picture) -> Picture:
    """Black shapes before an orange and magenta sky."""
    tone = blurred(stretched(luma(picture)), sigma=1.2)
    sharp = np.clip((tone - 0.35) * 2.2, 0.0, 1.0)
    return palette(sharp.astype(np.float32), [(6, 2, 12), (120, 10, 80), (245, 90, 30), (255, 200, 70)])


def moonlight(picture: Picture) -> Picture:
    """Night: dark, blue, with glowing highlights."""
    tone = stretched(luma(picture)) ** np.float32(1.7)
    glow = np.clip(0.75 * tone + 0.35 * blurred(np.clip(tone - 0.5, 0, 1).astype(np.float32), sigma=5.0), 0, 1)
    return palette(glow.astype(np.float32), [(2, 4, 18), (14, 36, 92), (70, 120, 190), (225, 238, 255)])


def infrared_film(picture: Picture) -> Picture:
    """False colour: greens turn pink and red, skies turn teal."""
    swapped = np.ascontiguousarray(picture[..., [1, 2, 0]])
    tone = stretched(luma(picture))
    pink = palette(tone, [(40, 0, 50), (225, 40, 120), (255, 190, 210)])
    return vivid(mixed(swapped, pink, np.full_like(tone, 0.6)), saturation=1.5, contrast=1.1)


def stone_relief(picture: Picture) -> Picture:
    """Carved grey stone lit from the upper left."""
    across, down = gradients(blurred(stretched(luma(picture)), sigma=1.2))
    light = np.clip(0.52 + 2.6 * (across + down), 0.0, 1.0)
    return palette(light.astype(np.float32), [(40, 38, 36), (150, 145, 136), (240, 236, 226)])


def watercolour(picture: Picture) -> Picture:
    """Transparent washes on white paper with darker rims."""
    wash = vivid(flattened(picture, rounds=5, strength=70), saturation=1.9)
    gain = (0.45 + 0.55 * stretched(luma(wash))) / np.maximum(luma(wash), 0.08)
    pale = np.minimum(wash * np.minimum(gain, 3.0)[..., None] * 0.75 + 70.0, 255.0)
    rim = 0.35 * edges(wash, sigma=1.0, gain=5.0)
    return mixed(np.clip(pale, 0, 255).astype(np.uint8), (60, 50, 90), rim.astype(np.float32))


def hologram(picture: Picture) -> Picture:
    """Cyan and violet projection with scan lines on black."""
    rows, _ = coordinates(picture)
    tone = stretched(luma(picture))
    lines = 0.65 + 0.35 * np.cos(2 * np.pi * rows / (CELL / 2))
    light = np.clip((0.5 * tone + 0.9 * edges(picture, gain=5.0)) * lines, 0.0, 1.0)
    return palette(light.astype(np.float32), [(6, 0, 24), (60, 20, 170), (20, 190, 230), (215, 255, 255)])


def oil_painting(picture: Picture) -> Picture:
    """Thick smooth strokes in deep saturated colour with dark contours."""
    strokes = np.asarray(cv2.medianBlur(picture, 7), dtype=np.uint8)
    rich = vivid(strokes, saturation=1.9, contrast=1.25)
    return mixed(rich, (40, 18, 8), (0.5 * outlines(strokes, sigma=1.6)).astype(np.float32))
