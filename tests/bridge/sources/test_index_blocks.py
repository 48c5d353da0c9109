"""The frame index in the picture: read back through scaling, real compression and a 4:2:2 round trip."""

import io

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sources.index_blocks import INDEX_LIMIT, draw_index, read_index
from bridge.sources.test_pattern import Pattern
from engine.frames import Pixels

INDICES = (0, 1, 2, 255, 4096, 0xAAAAAA, 0x555555, INDEX_LIMIT - 1)


@given(st.integers(0, 2**26), st.integers(64, 700), st.integers(64, 400))
@settings(max_examples=150, deadline=None)
def test_every_index_is_read_at_every_size(index: int, width: int, height: int) -> None:
    pixels = np.full((height, width, 4), 90, np.uint8)
    draw_index(pixels, index)
    assert read_index(pixels) == index % INDEX_LIMIT


@pytest.mark.parametrize("size", [(1920, 1080), (640, 360), (333, 251), (128, 128), (96, 64)])
@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC])
def test_it_survives_scaling(size: tuple[int, int], interpolation: int) -> None:
    pattern = Pattern(512, 512, 30)
    for index in INDICES:
        assert read_index(np.asarray(cv2.resize(pattern.picture(index), size, interpolation=interpolation))) == index


@pytest.mark.parametrize("size", [(512, 512), (320, 180)])
def test_it_survives_h264_at_low_quality(size: tuple[int, int]) -> None:
    pattern, memory = Pattern(*size, 30), io.BytesIO()
    with av.open(memory, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "38", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in (*INDICES, *range(1000, 1030)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pattern.picture(index), format="bgra")))
        container.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory) as container:
        read = [read_index(frame.to_ndarray(format="bgra")) for frame in container.decode(video=0)]
    assert read == [*INDICES, *range(1000, 1030)]


def test_it_survives_noise_and_lifted_blacks() -> None:
    pattern, random = Pattern(512, 288, 30), np.random.default_rng(5)
    for index in INDICES:
        dim = 60 + 0.4 * pattern.picture(index).astype(np.float32) + random.normal(0, 15, (288, 512, 4))
        assert read_index(np.clip(dim, 0, 255).astype(np.uint8)) == index


@pytest.mark.parametrize("level", [0, 90, 255])
def test_an_even_picture_has_no_index(level: int) -> None:
    assert read_index(np.full((100, 200, 4), level, np.uint8)) is None


def test_noise_has_no_index() -> None:
    random = np.random.default_rng(2)
    found = [read_index(random.integers(0, 256, (64, 64, 4), dtype=np.uint8)) for _ in range(300)]
    assert found.count(None) >= 299


def test_a_turned_over_block_is_noticed() -> None:
    def flipped(position: int) -> Pixels:
        pixels = np.zeros((64, 320, 4), np.uint8)
        draw_index(pixels, 0x0F1234)
        block = pixels[-6:, position * 10 : position * 10 + 10, :3]
        block[...] = 255 - block
        return pixels

    assert [read_index(flipped(position)) for position in range(32)] == [None] * 32


def test_a_picture_too_small_has_no_index() -> None:
    assert read_index(np.zeros((8, 31, 4), np.uint8)) is None
