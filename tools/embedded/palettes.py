"""Named colours and picture tones that can be added to any look: "in deep red and gold", "very dark"; applied in finishing."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .tones import Colour

Stops = npt.NDArray[np.float32]

COLOURS: dict[str, Colour] = {
    "red": (214, 24, 30), "deep red": (130, 8, 18), "crimson": (170, 10, 48), "orange": (245, 124, 16), "gold": (236, 182, 52),
    "yellow": (250, 224, 40), "lime": (160, 232, 40), "green": (30, 160, 60), "dark green": (10, 76, 40), "emerald": (10, 168, 110),
    "teal": (14, 128, 132), "turquoise": (50, 214, 202), "cyan": (30, 220, 245), "sky blue": (120, 190, 245), "blue": (28, 70, 220),
    "navy": (14, 24, 92), "indigo": (62, 24, 150), "purple": (128, 30, 180), "violet": (150, 80, 235), "magenta": (230, 20, 190),
    "hot pink": (255, 60, 150), "pink": (248, 150, 190), "peach": (255, 190, 150), "brown": (112, 66, 34), "beige": (222, 200, 166),
    "copper": (190, 104, 62), "silver": (196, 202, 210), "grey": (128, 128, 130), "black": (14, 14, 16), "white": (248, 248, 248),
    "cream": (250, 238, 208), "olive": (118, 120, 40),
}  # fmt: skip
COLOUR_NAMES = tuple(COLOURS)
STOPS = (0.0, 0.36, 0.74, 1.0)  # brightnesses at which a palette's four colours stand
PALETTE_SHARE = 0.8  # of a recoloured picture that is the palette; the rest keeps the look's own colours
PALETTE_TEMPLATES = (
    "in {a} and {b}", "{a} and {b}", "in {a} and {b} colours", "{a} and {b} palette", "with {a} and {b} light",
    "{a} and {b} tones", "coloured {a} and {b}", "{b} on {a}",
)  # fmt: skip
SINGLE_TEMPLATES = ("in {a}", "{a} tones", "all {a}", "{a} light", "tinted {a}", "{a} monochrome", "only {a} colours", "{a}")


@dataclass(frozen=True)
class ToneChange:
    """A change of light: exponent of the tone curve, saturation and contrast factors, and the words for it."""

    gamma: float
    saturation: float
    contrast: float
    phrases: tuple[str, ...]


TONES: tuple[ToneChange, ...] = (
    ToneChange(1.6, 1.0, 1.0, ("very dark", "dim light", "in the dark", "underexposed", "low key")),
    ToneChange(0.55, 1.0, 0.95, ("very bright", "brightly lit", "overexposed", "high key", "full of light")),
    ToneChange(1.0, 0.35, 0.95, ("muted colours", "desaturated", "washed out colours", "almost grey", "subdued colours")),
    ToneChange(1.0, 1.9, 1.1, ("vivid colours", "very colourful", "saturated", "intense colours", "bold bright colours")),
    ToneChange(1.0, 1.1, 1.6, ("high contrast", "stark contrast", "hard light", "punchy", "strong shadows")),
    ToneChange(0.9, 0.8, 0.6, ("faded", "low contrast", "soft light", "foggy", "pale")),
)


def palette_stops(first: str, second: str | None) -> Stops:
    """Colours [4, 3] for deep shadow, shadow, light and highlight: the darker of two named colours below, the brighter above.

    One colour serves as both. The stops lie at the brightnesses STOPS.
    """
    colours = [np.array(COLOURS[name], np.float32) for name in (first, second or first)]
    dark, light = sorted(colours, key=lambda colour: (float(colour.sum()), tuple(colour)))
    if second is None:
        dark, light = 0.55 * dark, 0.35 * 255 + 0.65 * light
    return np.stack([0.15 * dark, dark, light, 0.45 * light + 0.55 * 255]).astype(np.float32)
