"""The training photos: tar shards decoded once into one memory-mapped array, and random crops of them."""

import json
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from .tones import Picture, vivid

SIDE = 256  # pixels: every stored photo is square
ENLARGED = 160  # pixels: the smallest part of a photo that is enlarged


def decoded_photos(data: Path, work: Path, *, limit: int | None = None) -> npt.NDArray[np.uint8]:
    """All photos as uint8 [N, 256, 256, 3] RGB, memory-mapped from `work` and decoded there at the first call."""
    path = work / "photos.npy"
    if not path.exists():
        rows = json.loads((data / "photos.json").read_text(encoding="utf-8"))[:limit]
        partial = path.with_suffix(".partial.npy")
        shape = (len(rows), SIDE, SIDE, 3)
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        for shard in sorted({int(row["shard"]) for row in rows}):
            _decode_shard(data / f"photos_256_{shard}.tar", rows, array)
        array.flush()
        partial.rename(path)
    return np.asarray(np.load(path, mmap_mode="r"))


def _decode_shard(tar: Path, rows: Sequence[dict[str, str]], array: npt.NDArray[np.uint8]) -> None:
    place = {row["file"]: number for number, row in enumerate(rows)}

    def decode(found: tuple[int, bytes]) -> None:
        number, encoded = found
        picture = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_COLOR)
        array[number] = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    with tarfile.open(tar) as archive, ThreadPoolExecutor() as threads:
        files = ((member.name, archive.extractfile(member)) for member in archive if member.name in place)
        list(threads.map(decode, [(place[name], file.read()) for name, file in files if file is not None]))


def random_crop(photo: Picture, *, side: int, generator: np.random.Generator) -> Picture:
    """A square of `side` pixels: cut out and scaled, at times enlarged and so a little soft, mirrored at times, in varied light."""
    span = int(generator.integers(min(side, ENLARGED), SIDE + 1))
    if generator.random() < 0.5:
        span = side
    top, left = generator.integers(0, SIDE - span + 1, size=2)
    crop = photo[top : top + span, left : left + span]
    if span != side:
        crop = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA if span > side else cv2.INTER_CUBIC)
    if generator.random() < 0.5:
        crop = crop[:, ::-1]
    return relit(np.ascontiguousarray(crop, dtype=np.uint8), generator=generator)


def relit(picture: Picture, *, generator: np.random.Generator) -> Picture:
    """`picture` with a random gamma, contrast and saturation, as from different cameras and rooms."""
    gamma = float(np.exp(generator.uniform(-0.4, 0.4)))
    table = (255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    saturation, contrast = generator.uniform(0.6, 1.3), generator.uniform(0.75, 1.2)
    return vivid(table[picture], saturation=float(saturation), contrast=float(contrast))
