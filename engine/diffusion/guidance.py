"""Classifier-free guidance, plain and residual, as two weights a row.

Every kind is guided = w_c c + w_r r, with c the network's answer to the prompt and r another answer to the same latent:
full: the answer to the negative prompt (Ho & Salimans 2022); self: what the network would say if the input picture were the
truth; onetime: what it would say if the negative prompt's first guess were (residual CFG, Kodaira et al. 2023, section 3.2).
"""

from __future__ import annotations

from typing import Literal

Guidance = Literal["none", "self", "onetime", "full"]


def weights(kind: Guidance, scale: float, delta: float) -> tuple[float, float]:
    """(w_c, w_r) of a row: full is r + g (c - r); self and onetime are delta r + g (c - delta r), eq. 6 and 8."""
    match kind:
        case "none":
            return 1.0, 0.0
        case "full":
            return scale, 1.0 - scale
        case "self" | "onetime":
            return scale, delta * (1.0 - scale)


def effective(kind: Guidance, scale: float) -> Guidance:
    """The kind that is worth computing: at scale 1 guidance changes nothing."""
    return "none" if scale == 1.0 else kind


def asks_negative(kind: Guidance, *, first_step: bool) -> bool:
    """Whether the row needs the network's answer to the negative prompt as well."""
    return kind == "full" or (kind == "onetime" and first_step)
