"""Drifting clouds that are a function of the latent noise of each frame: what the video model learns to dream without an input.

The field of frame t is a moving average of the last noises, each carried on by the wind since its frame:
    u_t = sum_k a^k shift(n_{t-k}, k wind) / sqrt(sum_k a^2k),   k = 0 .. min(t, TAPS - 1)
with n smooth and of unit variance. So the picture follows from what the model is given (the noise of the frames in its window),
it never stands still, and it cannot drift away: nothing the model has made itself goes into it.
"""

import cv2
import numpy as np
import numpy.typing as npt
from embedded.tones import palette

Field = npt.NDArray[np.float32]

TAPS = 6  # frames: the window of the model
CELL = 8  # pixels a side of a latent cell
SMOOTH = 1.25  # cells: standard deviation of the blur that makes noise a field
WIND = (0.1, 0.5)  # cells a frame, down and right
LASTING = 0.85  # a: what is left of a frame's noise in the next. More would be calmer and leave less to learn from in each frame
SPREAD = 0.3  # of the brightness, in its range of 1
SKY = ((18, 42, 110), (70, 120, 190), (170, 196, 222), (250, 250, 245))


def weights(taps: int) -> Field:
    """How much the noise of each of the last `taps` frames counts, newest first: [taps]."""
    return (LASTING ** np.arange(taps)).astype(np.float32)


def smooth(noise: Field) -> Field:
    """White noise [h, w, C] of unit variance as a field of unit variance away from the border, blurred by SMOOTH cells."""
    reach = int(4 * SMOOTH) + 1
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTH) ** 2)
    line = (line / np.sqrt(np.square(line).sum())).astype(np.float32)  # two passes of unit energy keep the variance
    return np.asarray(cv2.sepFilter2D(noise, cv2.CV_32F, line, line, borderType=cv2.BORDER_REFLECT), dtype=np.float32)


def shifted(field: Field, *, frames: int) -> Field:
    """A field [h, w, C] as the wind has moved it after `frames`; the border is mirrored."""
    down, right = WIND[0] * frames, WIND[1] * frames
    move = np.array([[1, 0, right], [0, 1, down]], dtype=np.float32)
    size = (field.shape[1], field.shape[0])
    return np.asarray(cv2.warpAffine(field, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), dtype=np.float32)


def drifting(noise: Field) -> Field:
    """Fields [T, h, w, C] of the frames whose noise is [T, h, w, C]; frame 0 is the first of the stream."""
    fields = [smooth(frame) for frame in noise]
    made = []
    for t in range(len(fields)):
        shares = weights(min(t + 1, TAPS))
        shares = shares / np.sqrt(np.square(shares).sum())
        made.append(sum(share * shifted(fields[t - k], frames=k) for k, share in enumerate(shares)))
    return np.stack(made).astype(np.float32)


def clouds(noise: Field) -> npt.NDArray[np.uint8]:
    """Clouds in a sky, uint8 [T, 8 h, 8 w, 3], of noise [T, C, h, w]: its first channel is their brightness, so that what the
    model must find is a smooth, almost linear function of what it is given."""
    fields = drifting(np.ascontiguousarray(noise[:, :2].transpose(0, 2, 3, 1), dtype=np.float32))[..., 0]
    size = (CELL * fields.shape[2], CELL * fields.shape[1])
    tones = (0.5 + SPREAD * cv2.resize(field, size, interpolation=cv2.INTER_CUBIC) for field in fields)
    return np.stack([palette(tone.astype(np.float32), SKY) for tone in tones])
