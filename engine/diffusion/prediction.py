"""From what a network predicts to the clean latent and back, for every kind of prediction.

All of them share one line, x = a x0 + b eps: variance-preserving models have a^2 + b^2 = 1 (Ho et al. 2020), flow models
a = 1 - sigma, b = sigma (Lipman et al. 2023). Nothing in here knows which it is.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "flow", "sample"]

SMALLEST_COEFFICIENT = 1e-6
"""Stands in for a or b where they are 0 and would divide; what they divide is 0 there too."""


def denoised(x: Tensor, output: Tensor, a: Tensor, b: Tensor, prediction: Prediction) -> Tensor:
    """The clean latent x0 that `output` stands for at the noisy latent `x`; all [R, C, h, w], a and b [R, 1, 1, 1].

    epsilon: output = eps. v_prediction: output = a eps - b x0 (Salimans & Ho 2022). flow: output = eps - x0. sample: x0.
    """
    match prediction:
        case "epsilon":
            return (x - b * output) / a.clamp_min(SMALLEST_COEFFICIENT)
        case "v_prediction":
            return a * x - b * output
        case "flow":
            return (x - b * output) / (a + b)
        case "sample":
            return output


def noise_in(x: Tensor, clean: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The noise eps for which x = a clean + b eps."""
    return (x - a * clean) / b.clamp_min(SMALLEST_COEFFICIENT)


def network_output(x: Tensor, clean: Tensor, a: Tensor, b: Tensor, prediction: Prediction) -> Tensor:
    """What a perfect network would say at `x` if `clean` were the truth; the inverse of `denoised`."""
    eps = noise_in(x, clean, a, b)
    match prediction:
        case "epsilon":
            return eps
        case "v_prediction":
            return a * eps - b * clean
        case "flow":
            return eps - clean
        case "sample":
            return clean.expand_as(x)
