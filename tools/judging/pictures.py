"""Pictures to judge with: frames of clips, pictures of a folder; reading and cutting only."""

from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
"""uint8 RGB, [H, W, 3] or [B, H, W, 3]."""

SIDE = 256
TRAINED_ON = ("webcam_person", "pedestrians")
"""Starts of the names of clips of which frames lie among the training photos."""


class NothingToJudge(ValueError):
    """A folder holds none of what is needed; the text says which and what."""


def square(picture: Picture, side: int = SIDE) -> Picture:
    """The middle square of `picture` at `side` pixels."""
    height, width = picture.shape[:2]
    span = min(height, width)
    top, left = (height - span) // 2, (width - span) // 2
    cut = picture[top : top + span, left : left + span]
    shrinking = span >= side
    return np.asarray(cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC), dtype=np.uint8)


def clip_paths(folder: Path) -> list[Path]:
    """The clips in `folder`, those that were never trained on first."""
    found = sorted(folder.glob("*.mp4"), key=lambda path: (path.name.startswith(TRAINED_ON), path.name))
    if not found:
        raise NothingToJudge(f"--clips {folder} holds no .mp4 file")
    return found


def clip_frames(path: Path, *, count: int, start: int = 0) -> Picture:
    """`count` neighbouring frames from number `start` on, [N, 256, 256, 3]; fewer where the clip ends."""
    frames: list[Picture] = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= start + count:
                break
            if number >= start:
                frames.append(square(frame.to_ndarray(format="rgb24")))
    return np.stack(frames)


def spread_frames(path: Path, *, count: int) -> Picture:
    """`count` frames spread evenly over a clip, [N, 256, 256, 3]: the middles of equally long parts."""
    with av.open(str(path)) as container:
        length = sum(1 for packet in container.demux(video=0) if packet.size)
    wanted = {int((i + 0.5) / count * length) for i in range(count)}
    with av.open(str(path)) as container:
        frames = [square(f.to_ndarray(format="rgb24")) for i, f in enumerate(container.decode(video=0)) if i in wanted]
    return np.stack(frames)


def held_out_photos(clips: Path, folder: Path | None, *, count: int) -> Picture:
    """`count` photos [N, 256, 256, 3]: of `folder` if given, else frames of clips that were never trained on, taking turns."""
    if folder is not None:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
        if len(paths) < count:
            raise NothingToJudge(f"--held-out {folder} holds {len(paths)} pictures; --photos asks for {count}")
        read = [cv2.imread(str(path), cv2.IMREAD_COLOR) for path in paths[:count]]
        return np.stack([square(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)) for picture in read])
    all_clips = clip_paths(clips)
    unseen = [path for path in all_clips if not path.name.startswith(TRAINED_ON)] or all_clips
    each = -(-count // len(unseen))
    frames = [spread_frames(path, count=each) for path in unseen]
    return np.stack([frames[i % len(unseen)][i // len(unseen)] for i in range(count)])
