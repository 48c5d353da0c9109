"""A picture like a photograph, drawn: soft light, a texture, and objects with edges."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """uint8 [240, 320, 3], blue green red, levels well inside the range of every format."""
    random = np.random.default_rng(7)
    noise = random.normal(size=(240, 320, 3)).astype(np.float32)
    light = cv2.GaussianBlur(noise, (0, 0), 30) * 1500 + cv2.GaussianBlur(noise, (0, 0), 3) * 60
    picture = np.clip(120 + light, 30, 220).astype(np.uint8)
    cv2.circle(picture, (90, 100), 40, (60, 90, 170), -1, cv2.LINE_AA)
    cv2.rectangle(picture, (200, 60), (280, 180), (110, 120, 80), -1)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8))
