"""Looks made of materials and building blocks: facets, bricks, cloth, stone and metal.

Every function takes and gives uint8 [H, W, 3] RGB and is deterministic; patterns keep still on the 8- or 16-pixel grid.
"""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from .tones import (
    CELL,
    Picture,
    Tone,
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

Labels = npt.NDArray[np.int32]
TILE = 2 * CELL  # pixels: facets, cubes, flutes and tartan need more room than one cell


@lru_cache(maxsize=8)
def _triangles(height: int, width: int) -> Labels:
    """Number of the triangle under each pixel: every tile is cut into four around an off-centre point."""
    labels = np.zeros((height, width), dtype=np.int32)
    rows, columns = -(-height // TILE), -(-width // TILE)
    for place in range(rows * columns):
        top, left = TILE * (place // columns), TILE * (place % columns)
        corners = np.array([(left, top), (left + TILE, top), (left + TILE, top + TILE), (left, top + TILE)], dtype=np.int32)
        # two alternating centres only: a network that sees 16-pixel phases can learn where the facets lie
        centre = (left + (5 if (top + left) % (2 * TILE) else 11), top + (10 if (top + left) % (2 * TILE) else 6))
        for side in range(4):
            triangle = np.array([corners[side], corners[(side + 1) % 4], centre], dtype=np.int32)
            cv2.fillConvexPoly(labels, triangle, 4 * place + side)
    return labels


@lru_cache(maxsize=8)
def _cubes(height: int, width: int) -> tuple[Labels, Tone]:
    """Number of the isometric cube face under each pixel and the light on it; cubes are 16 wide and 16 rows apart, staggered."""
    labels = np.zeros((height, width), dtype=np.int32)
    light = np.zeros((height, width), dtype=np.float32)
    number = 0
    for row in range(-2, height // TILE + 1):
        for column in range(-1, width // TILE + 2):
            x, y = column * TILE + CELL * (row % 2), row * TILE
            top = np.array([(x, y), (x + 8, y + 4), (x, y + 8), (x - 8, y + 4)], dtype=np.int32)
            left = np.array([(x - 8, y + 4), (x, y + 8), (x, y + 20), (x - 8, y + 16)], dtype=np.int32)
            right = np.array([(x + 8, y + 4), (x, y + 8), (x, y + 20), (x + 8, y + 16)], dtype=np.int32)
            for face, shade in ((left, 0.78), (right, 0.5), (top, 1.12)):
                cv2.fillConvexPoly(labels, face, number)
                cv2.fillConvexPoly(light, face, shade)
                number += 1
    return labels, light


def _label_means(picture: Picture, labels: Labels) -> Picture:
    """Every labelled area filled with its mean colour."""
    flat = labels.ravel()
    count = np.maximum(np.bincount(flat), 1)
    means = np.stack([np.bincount(flat, weights=picture[..., c].ravel()) / count for c in range(3)], axis=-1)
    return np.asarray(means.astype(np.uint8)[labels], dtype=np.uint8)


def low_poly(picture: Picture) -> Picture:
    """Flat triangles in sunset colours over the picture's own, each lit as if tilted its own way."""
    labels = _triangles(*picture.shape[:2])
    tilt = np.array([1.1, 1.0, 0.8, 0.94], dtype=np.float32)[labels % 4]
    means = _label_means(picture, labels)
    sunset = palette(stretched(luma(means)), [(26, 16, 86), (150, 30, 140), (255, 96, 84), (255, 206, 96), (255, 250, 214)])
    facets = mixed(vivid(means, saturation=1.7, contrast=1.3), sunset, np.full(labels.shape, 0.6, dtype=np.float32))
    return np.asarray(np.clip(facets * tilt[..., None], 0, 255), dtype=np.uint8)


def voxel_cubes(picture: Picture) -> Picture:
    """Isometric cubes of earth, grass and sky with lit tops and dark right sides."""
    labels, light = _cubes(*picture.shape[:2])
    means = _label_means(picture, labels)
    blocks = palette(stretched(luma(means)), [(52, 34, 24), (120, 84, 50), (84, 160, 54), (120, 200, 240), (240, 248, 255)])
    cubes = mixed(vivid(means, saturation=1.8, contrast=1.2), blocks, np.full(labels.shape, 0.6, dtype=np.float32))
    return np.asarray(np.clip((cubes * 0.85 + 30.0) * light[..., None], 0, 255), dtype=np.uint8)


def brick_toy(picture: Picture) -> Picture:
    """Shiny plastic bricks with one round stud to 8 pixels, in few toy colours."""
    cells = vivid(cell_means(picture), saturation=2.6, contrast=1.3)
    plastic = np.round(cells / 85.0) * 75.0 + 15.0
    rows, columns = coordinates(picture)
    down, across = rows % CELL - 3.5, columns % CELL - 3.5
    stud = np.clip(3.2 - np.hypot(down, across), 0.0, 1.0)
    light = 1.0 + stud * np.clip(-(down + across) / 6.0, -0.6, 0.7) - 0.5 * (np.maximum(down, across) > 3)
    return np.asarray(np.clip(plastic * light[..., None] + 22.0 * stud[..., None], 0, 255), dtype=np.uint8)


def knitted_wool(picture: Picture) -> Picture:
    """Rows of V-shaped stitches in red and cream yarn."""
    tone = luma(cell_means(picture))
    rows, columns = coordinates(picture)
    stitch = 0.5 + 0.5 * np.cos(2 * np.pi * (rows + 1.3 * np.abs(columns % CELL - 3.5)) / CELL)
    yarn = palette(stretched(tone), [(96, 6, 22), (196, 30, 40), (236, 150, 120), (252, 240, 214)])
    return np.asarray(yarn * (0.5 + 0.5 * stitch)[..., None], dtype=np.uint8)


def tartan(picture: Picture) -> Picture:
    """Woven red, green and yellow bands, lighter and darker with the picture."""
    rows, columns = coordinates(picture)
    yarns = np.array([(205, 20, 30)] * 7 + [(8, 70, 44)] * 6 + [(250, 205, 40)] * 2 + [(8, 20, 50)], dtype=np.float32)
    cloth = 0.5 * (yarns[rows.astype(int) % TILE] + yarns[columns.astype(int) % TILE])
    light = 0.15 + 1.25 * stretched(luma(picture))
    return np.asarray(np.clip(cloth * light[..., None], 0, 255), dtype=np.uint8)


def circuit_board(picture: Picture) -> Picture:
    """Copper tracks along the edges and round solder pads in the lights, on a green board."""
    tone = blurred(stretched(luma(picture)), sigma=2.0)
    across, down = gradients(tone)
    rows, columns = coordinates(picture)
    row, column = rows % CELL - 3.5, columns % CELL - 3.5
    upright = np.abs(column) < 1.6
    level = np.abs(row) < 1.6
    slope = cv2.blur(np.stack([np.abs(across), np.abs(down)], axis=-1), (CELL, CELL))
    track = np.maximum(upright * np.clip(slope[..., 0] * 40 - 0.4, 0, 1), level * np.clip(slope[..., 1] * 40 - 0.4, 0, 1))
    pad = np.clip(3.4 - np.hypot(row, column), 0.0, 1.0) * np.clip((tone - 0.6) * 8, 0.0, 1.0)
    board = palette(tone, [(0, 30, 16), (4, 84, 42), (20, 130, 66)])
    return mixed(mixed(board, (226, 160, 66), track.astype(np.float32)), (226, 230, 216), pad.astype(np.float32))


def jade(picture: Picture) -> Picture:
    """Polished milky green stone with soft white sheen."""
    tone = blurred(stretched(luma(picture)), sigma=1.6)
    across, down = gradients(blurred(tone, sigma=1.5))
    sheen = np.clip(-(across + down) * 5.0, 0.0, 1.0)
    stone = palette(tone, [(2, 48, 36), (18, 122, 84), (92, 190, 138), (196, 236, 200)])
    return mixed(stone, (246, 255, 244), sheen.astype(np.float32))


def copper_patina(picture: Picture) -> Picture:
    """Weathered copper: turquoise patina in the hollows, orange metal on the heights, dark rims."""
    tone = blurred(stretched(luma(picture)), sigma=1.0)
    metal = palette(tone, [(14, 70, 74), (70, 178, 160), (112, 72, 46), (206, 98, 36), (255, 206, 150)])
    return mixed(metal, (30, 22, 20), 0.7 * edges(picture, gain=4.0))


def veined_marble(picture: Picture) -> Picture:
    """White stone with dark blue-grey veins that run along equal tones."""
    tone = blurred(stretched(luma(picture)), sigma=2.0)
    rows, columns = coordinates(picture)
    wave = np.sin(np.pi * (3.0 * tone + (rows + columns) / (2 * TILE)))
    vein = np.clip(1.0 - 3.5 * np.abs(wave), 0.0, 1.0) ** 1.5
    stone = palette(tone, [(58, 64, 78), (176, 176, 182), (236, 234, 232), (255, 253, 250)])
    return mixed(stone, (66, 72, 92), (0.85 * vein).astype(np.float32))


def gold_leaf(picture: Picture) -> Picture:
    """Flakes of gold along the contours and in the lights of black lacquer."""
    line = np.clip(edges(picture, sigma=1.6, gain=7.0) * 1.3 - 0.2, 0.0, 1.0)
    rows, columns = coordinates(picture)
    flake = 0.5 + 0.25 * (np.cos(2 * np.pi * (2 * rows + columns) / TILE) + np.cos(2 * np.pi * (rows - 2 * columns) / TILE))
    lights = np.clip((stretched(luma(picture)) - 0.62) * 6, 0.0, 1.0) * np.clip(flake * 3 - 0.7, 0.0, 1.0)
    return palette(np.maximum(line, lights).astype(np.float32), [(6, 5, 8), (150, 96, 14), (240, 184, 50), (255, 238, 170)])


def porcelain(picture: Picture) -> Picture:
    """Cobalt blue brush painting on glazed white china."""
    tone = stretched(luma(picture))
    wash = 0.75 * np.clip(1.0 - steps(blurred(tone, sigma=1.2), 4), 0.0, 1.0) ** 1.6
    paint = np.maximum(wash, outlines(picture, sigma=1.5, threshold=0.008))
    return palette(paint.astype(np.float32), [(246, 250, 255), (126, 168, 232), (26, 66, 186), (10, 20, 110)])


def terrazzo(picture: Picture) -> Picture:
    """Polished chips of coloured stone in cream cement; darker chips where the picture is darker."""
    labels = _triangles(*picture.shape[:2])
    chips = palette(
        steps(stretched(luma(_label_means(picture, labels))), 5),
        [(34, 38, 48), (46, 110, 100), (206, 96, 76), (240, 178, 80), (250, 214, 200)],
    )
    gap = cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    return mixed(chips, (244, 238, 226), blurred(gap.astype(np.float32), sigma=0.6))


def camouflage(picture: Picture) -> Picture:
    """Soft-edged blots of black, brown, olive and sand."""
    tone = blurred(stretched(luma(picture)), sigma=2.0)
    rows, columns = coordinates(picture)
    blots = 0.16 * np.sin(2 * np.pi * (rows + 0.5 * columns) / TILE) * np.cos(2 * np.pi * (columns - 0.5 * rows) / TILE)
    level = steps(np.clip(tone + blots, 0.0, 1.0).astype(np.float32), 4)
    return palette(level, [(26, 26, 20), (78, 60, 34), (96, 108, 52), (190, 176, 122)])


def velvet(picture: Picture) -> Picture:
    """Deep wine-red cloth that shines only at the folds."""
    soft = blurred(stretched(luma(picture)), sigma=1.5)
    fold = np.hypot(*gradients(blurred(soft, sigma=1.5)))
    return palette((0.38 * soft + 7.0 * fold).astype(np.float32), [(22, 0, 14), (110, 4, 52), (206, 40, 110), (255, 176, 206)])


def ribbed_glass(picture: Picture) -> Picture:
    """A cool window of upright 16-pixel glass ribs, each of which bends the view behind it."""
    rows, columns = coordinates(picture)
    across = columns % TILE - 7.5
    soft = np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), dtype=np.uint8)
    bent = cv2.remap(soft, columns + 1.3 * across, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    light = 0.9 - 0.045 * across
    tinted = bent.astype(np.float32) * light[..., None] * np.array([0.72, 0.95, 1.0]) + np.array([30, 50, 62])
    return np.asarray(np.clip(tinted, 0, 255), dtype=np.uint8)


def lava(picture: Picture) -> Picture:
    """Black crust with glowing cracks that run along equal tones and edges."""
    tone = blurred(stretched(luma(flattened(picture, rounds=1))), sigma=2.0)
    crack = np.clip(1.0 - 2.2 * np.abs(np.cos(np.pi * 5.0 * tone)), 0.0, 1.0) * (0.35 + 0.65 * tone)
    heat = np.maximum(crack, edges(picture, sigma=1.6, gain=4.0))
    glow = heat + 0.5 * blurred(heat.astype(np.float32), sigma=3.0)
    return palette(glow.astype(np.float32), [(16, 8, 10), (120, 10, 4), (240, 70, 6), (255, 180, 30), (255, 250, 190)])
