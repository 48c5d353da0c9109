"""A moving picture made here: soft colours, an edge that turns, and the frame index for people and for machines."""

from __future__ import annotations

import math
import threading
import time

import cv2
import numpy as np

from bridge.sources.index_blocks import draw_index
from bridge.sources.own_thread import OwnThread, Put, next_beat
from engine.frames import PixelFormat, Pixels

# Colours are (blue, green, red).
CORNERS = ((96, 42, 28), (148, 74, 30), (74, 38, 122), (60, 120, 226))
CLOUDS = (((64, 150, 255), 0.30, 0.9, 1.4, 0.0), ((190, 210, 60), 0.36, 0.6, 0.8, 2.1), ((210, 70, 200), 0.26, 1.1, 0.5, 4.0))
"""Colour, radius as a share of the shorter side, two speeds in radians a second, phase."""


class Pattern:
    """Draws the pictures, each from its index alone. What does not move is drawn once."""

    def __init__(self, width: int, height: int, fps: float) -> None:
        if width < 64 or height < 64:
            raise ValueError(f"a test pattern has at least 64 pixels a side, not {width}x{height}")
        self.width, self.height, self.fps = width, height, fps
        self._background = _gradient(width, height)
        self._canvas = np.empty_like(self._background)
        short = min(width, height)
        self._digits = [_digit(value, short / 512 * 1.2) for value in range(10)]
        self._clouds = [_cloud(colour, round(radius * short)) for colour, radius, _, _, _ in CLOUDS]

    def picture(self, index: int) -> Pixels:
        """uint8 [height, width, 4], BGRX, of the frame `index`. The same memory each time: valid until the next call."""
        np.copyto(self._canvas, self._background)
        seconds = index / self.fps
        for (light, shade), (_, _, along, across, phase) in zip(self._clouds, CLOUDS, strict=True):
            x = self.width * (0.5 + 0.38 * math.sin(along * seconds + phase))
            y = self.height * (0.5 + 0.34 * math.cos(across * seconds + phase))
            _lay_over(self._canvas, light, shade, round(x), round(y))
        self._draw_star(seconds)
        self._draw_digits(index)
        draw_index(self._canvas, index)
        return self._canvas

    def _draw_star(self, seconds: float) -> None:
        """A five-pointed star with hard edges that turns and walks around the middle."""
        short = min(self.width, self.height)
        centre_x = self.width * 0.5 + 0.22 * short * math.cos(0.7 * seconds)
        centre_y = self.height * 0.5 + 0.22 * short * math.sin(0.7 * seconds)
        angles = 0.5 * seconds + np.arange(10) * (math.pi / 5)
        radii = np.where(np.arange(10) % 2 == 0, 0.17, 0.075) * short
        points = np.stack((centre_x + radii * np.cos(angles), centre_y + radii * np.sin(angles)), axis=-1)
        fixed = np.round(points * 16).astype(np.int32)
        cv2.fillPoly(self._canvas, [fixed], (226, 244, 250, 255), cv2.LINE_AA, 4)
        cv2.polylines(self._canvas, [fixed], True, (30, 20, 24, 255), max(1, short // 160), cv2.LINE_AA, 4)

    def _draw_digits(self, index: int) -> None:
        """The index in the upper left corner, dark outline around white, legible on anything."""
        for place, digit in enumerate(f"{index:06d}"):
            light, shade = self._digits[int(digit)]
            _lay_over(self._canvas, light, shade, round((place + 1.0) * light.shape[1]), light.shape[0] * 3 // 4)


class TestPattern:
    """The live source: a picture each 1/fps seconds, by the clock; beats that were missed are left out."""

    __test__ = False

    def __init__(self, put: Put, width: int = 512, height: int = 512, fps: float = 30.0) -> None:
        if not 0.0 < fps <= 1000.0:
            raise ValueError(f"a rate lies above 0 and up to 1000 frames a second, not {fps}")
        self._put = put
        self._pattern = Pattern(width, height, fps)
        self._thread = OwnThread("test pattern", self._run)
        self.ended = False

    @property
    def state(self) -> str:
        """playing, stopped or failed."""
        return "failed" if self._thread.error else "playing" if self._thread.running else "stopped"

    @property
    def error(self) -> str:
        """One sentence if it failed, else empty."""
        return self._thread.error

    def start(self) -> None:
        """Start to give frames, from index 0."""
        self._thread.start()

    def stop(self) -> None:
        """Stop within two seconds."""
        self._thread.stop()

    def describe(self) -> str:
        """One line."""
        return f"test pattern {self._pattern.width}x{self._pattern.height} at {self._pattern.fps:g} fps"

    def _run(self, stopping: threading.Event) -> None:
        due, index = time.monotonic(), 0
        while not stopping.wait(max(0.0, due - time.monotonic())):
            pixels = self._pattern.picture(index)
            self._put(PixelFormat.BGRX, pixels, time.monotonic(), index)
            index += 1
            due = next_beat(due, 1.0 / self._pattern.fps, time.monotonic())


def _gradient(width: int, height: int) -> Pixels:
    """uint8 [height, width, 4]: from corner to corner, opaque."""
    top_left, top_right, low_left, low_right = np.array(CORNERS, dtype=np.float32)
    across = np.linspace(0.0, 1.0, width, dtype=np.float32)[None, :, None]
    down = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
    upper, lower = top_left + across * (top_right - top_left), low_left + across * (low_right - low_left)
    colours = (upper + down * (lower - upper)).round().astype(np.uint8)
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_BGR2BGRA), dtype=np.uint8)


def _cloud(colour: tuple[int, int, int], radius: int) -> tuple[Pixels, Pixels]:
    """(light, shade), uint8 [2 radius, 2 radius, 4]: what a soft disc adds, and 255 times the share it lets through."""
    across = (np.arange(2 * radius, dtype=np.float32) + 0.5) / radius - 1.0
    distance = np.sqrt(across[None, :] ** 2 + across[:, None] ** 2)
    fade = np.clip(1.0 - distance, 0.0, 1.0)
    cover = (0.85 * fade * fade * (3.0 - 2.0 * fade))[..., None]
    light = cover * np.array((*colour, 0), dtype=np.float32)
    shade = np.repeat((1.0 - cover) * 255.0, 4, axis=-1)
    shade[..., 3] = 255.0
    return light.round().astype(np.uint8), shade.round().astype(np.uint8)


def _digit(value: int, scale: float) -> tuple[Pixels, Pixels]:
    """(light, shade) of one digit, as of a soft disc. Drawn as masks: OpenCV 5 writes text wrongly into four channels."""
    width, height = max(6, round(23 * scale)), max(8, round(36 * scale))
    masks = np.zeros((2, height, width), dtype=np.uint8)
    for mask, thickness in zip(masks, (6, 2), strict=True):
        start, weight = (round(2 * scale), round(29 * scale)), max(1, round(thickness * scale))
        cv2.putText(mask, str(value), start, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, weight, cv2.LINE_AA)
    outline, inner = masks
    light = np.zeros((height, width, 4), dtype=np.uint8)
    light[..., :3] = (inner[..., None] * 0.96).astype(np.uint8)
    shade = np.full((height, width, 4), 255, dtype=np.uint8)
    shade[..., :3] = 255 - np.maximum(outline, inner)[..., None]
    return light, shade


def _lay_over(canvas: Pixels, light: Pixels, shade: Pixels, x: int, y: int) -> None:
    """Lay a drawn part over the canvas with its middle at (x, y); what falls outside is cut."""
    height, width = light.shape[:2]
    first_x, first_y = x - width // 2, y - height // 2
    left, top = max(0, first_x), max(0, first_y)
    right, bottom = min(canvas.shape[1], first_x + width), min(canvas.shape[0], first_y + height)
    if right <= left or bottom <= top:
        return
    part = (slice(top - first_y, bottom - first_y), slice(left - first_x, right - first_x))
    place = canvas[top:bottom, left:right]
    place[...] = cv2.add(cv2.multiply(place, shade[part], scale=1 / 255), light[part])
