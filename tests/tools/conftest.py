"""Puts the training program's modules on the path and draws pictures for its tests."""

import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))


@pytest.fixture(scope="session")
def scene() -> npt.NDArray[np.uint8]:
    """A drawn scene, uint8 [256, 256, 3]: sky and ground, a sun, a house, a tree."""
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[:150] = np.linspace((70, 120, 210), (190, 210, 240), 150)[:, None].astype(np.uint8)
    picture[150:] = np.linspace((90, 130, 60), (50, 70, 30), 106)[:, None].astype(np.uint8)
    cv2.circle(picture, (200, 50), 26, (250, 230, 130), -1)
    cv2.rectangle(picture, (50, 90), (140, 190), (190, 80, 60), -1)
    cv2.fillPoly(picture, [np.array([(40, 92), (95, 45), (150, 92)])], (90, 50, 45))
    cv2.rectangle(picture, (80, 135), (110, 190), (60, 40, 30), -1)
    cv2.rectangle(picture, (190, 130), (202, 205), (80, 55, 35), -1)
    cv2.circle(picture, (196, 118), 34, (40, 110, 45), -1)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8), dtype=np.uint8)
