"""Moving pictures to learn from: photos under a travelling, zooming, turning camera, things that cross them, recorded clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from embedded.tones import Picture, vivid

Clip = npt.NDArray[np.uint8]

HELD_BACK = 0.2  # of every recorded clip, its end: for judging
CROSSED = 0.45  # of the photos have something moving in front of them


@dataclass(frozen=True)
class Camera:
    """A path over a square photo of `side` pixels. All in pixels and radians, speeds a frame.

    centre: where it looks first. span: side of the square it sees. zoom: factor of the span a frame.
    """

    centre: tuple[float, float]
    speed: tuple[float, float]
    span: float
    zoom: float
    angle: float
    turn: float

    def view(self, frame: int, *, side: int) -> npt.NDArray[np.float32]:
        """The affine map [2, 3] from a picture of `side` pixels to the photo."""
        scale = self.span * self.zoom**frame / side
        angle = self.angle + self.turn * frame
        x, y = (start + speed * frame for start, speed in zip(self.centre, self.speed, strict=True))
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        half = (side - 1) / 2
        return np.array([[cosine, -sine, x - half * (cosine - sine)], [sine, cosine, y - half * (sine + cosine)]], dtype=np.float32)


def random_camera(generator: np.random.Generator, *, photo: int, side: int) -> Camera:
    """A camera over a photo of `photo` pixels: mostly slow, at times still, at times quick."""
    pace = float(generator.choice([0.0, 1.0, 1.0, 2.0]))
    span = float(generator.uniform(side, 0.95 * photo))
    x, y = generator.uniform(0.4 * photo, 0.6 * photo, size=2)
    across, down = pace * generator.normal(0.0, 0.022 * span, size=2)
    return Camera(
        centre=(float(x), float(y)),
        speed=(float(across), float(down)),
        span=span,
        zoom=float(np.exp(pace * generator.normal(0.0, 0.012))),
        angle=float(generator.normal(0.0, 0.1)),
        turn=float(pace * generator.normal(0.0, 0.012)),
    )


def filmed(photo: Picture, camera: Camera, *, frames: int, side: int) -> Clip:
    """What the camera sees, uint8 [frames, side, side, 3]; the photo is mirrored at its border."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack(
        [
            cv2.warpAffine(photo, camera.view(frame, side=side), (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT)
            for frame in range(frames)
        ]
    )


def crossed(background: Clip, foreground: Clip, generator: np.random.Generator) -> Clip:
    """`foreground` seen in a soft ellipse that travels over `background`, both [T, side, side, 3]."""
    side = background.shape[1]
    x, y = generator.uniform(0.1 * side, 0.9 * side, size=2)
    across, down = generator.normal(0.0, 0.045 * side, size=2)
    wide, high = generator.uniform(0.1 * side, 0.28 * side, size=2)
    angle, turn = generator.uniform(0, 180), generator.normal(0, 6)
    out = []
    for frame, (below, above) in enumerate(zip(background, foreground, strict=True)):
        shape = np.zeros((side, side), np.float32)
        place = (round(x + across * frame), round(y + down * frame))
        cv2.ellipse(shape, place, (round(wide), round(high)), angle + turn * frame, 0, 360, 1.0, -1)
        share = cv2.GaussianBlur(shape, (0, 0), 1.0)[..., None]
        out.append((below * (1 - share) + above * share).astype(np.uint8))
    return np.stack(out)


def moving_photo(photos: npt.NDArray[np.uint8], generator: np.random.Generator, *, frames: int, side: int) -> Clip:
    """A random photo of `photos` [N, P, P, 3] under a random camera, at times with a part of another crossing it."""

    def one() -> Clip:
        photo = np.asarray(photos[int(generator.integers(len(photos)))])
        clip = filmed(photo, random_camera(generator, photo=photo.shape[0], side=side), frames=frames, side=side)
        saturation, contrast = generator.uniform(0.7, 1.3), generator.uniform(0.8, 1.2)
        return np.stack([vivid(picture, saturation=float(saturation), contrast=float(contrast)) for picture in clip])

    return crossed(one(), one(), generator) if generator.random() < CROSSED else one()


class Recordings:
    """Recorded clips in memory, at most `height` pixels high; the last fifth of each is held back."""

    def __init__(self, files: Sequence[Path], *, height: int = 360) -> None:
        self.clips = [read_clip(file, height=height) for file in files]

    def random(self, generator: np.random.Generator, *, frames: int, side: int) -> Clip:
        """A random square of a random stretch, uint8 [frames, side, side, 3], every second or third picture, mirrored at times."""
        whole = self.clips[int(generator.integers(len(self.clips)))]
        clip = whole[: int(len(whole) * (1 - HELD_BACK))]
        stride = max(1, min(int(generator.integers(2, 4)), (len(clip) - 1) // frames))
        start = int(generator.integers(0, len(clip) - stride * (frames - 1)))
        made = square_of(clip[start : start + stride * frames : stride][:frames], generator, side=side)
        return np.ascontiguousarray(made[:, :, ::-1] if generator.random() < 0.5 else made)

    def stretch(self, number: int, generator: np.random.Generator, *, frames: int, side: int) -> Clip:
        """A held-back stretch of clip `number`: a random square, every second picture or as many as there are, [frames, side, side, 3]."""
        whole = self.clips[number]
        clip = whole[int(len(whole) * (1 - HELD_BACK)) :]
        places = np.minimum(np.arange(frames) * max(1, min(2, len(clip) // frames)), len(clip) - 1)
        return square_of(clip[places], generator, side=side)


def square_of(part: Clip, generator: np.random.Generator, *, side: int) -> Clip:
    """A random square of pictures [T, H, W, 3], most of their height, as [T, side, side, 3]."""
    height, width = part.shape[1:3]
    span = int(generator.integers(int(0.55 * height), height + 1))
    top, left = int(generator.integers(0, height - span + 1)), int(generator.integers(0, width - span + 1))
    seen = part[:, top : top + span, left : left + span]
    return np.stack([cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) for picture in seen])


def read_clip(file: Path, *, height: int) -> Clip:
    """All pictures of a file, uint8 RGB [T, height, W, 3]."""
    with av.open(str(file)) as opened:
        stream = opened.streams.video[0]
        width = round(stream.width * height / stream.height)
        return np.stack([frame.to_ndarray(format="rgb24", width=width, height=height) for frame in opened.decode(stream)])
