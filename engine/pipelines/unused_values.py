"""Parameters that only image models use: a video stream tells once that somebody turned one in vain."""

from __future__ import annotations

from engine.control.live_values import Snapshot
from engine.control.table import BY_NAME

UNUSED = (
    "guidance", "guidance_scale", "delta", "negative_prompt", "step_method", "add_noise", "stream_batch", "frame_buffer",
    "cross_frame_attention", "feedback", "steadiness", "prompt_fade",
)  # fmt: skip
"""Video models are distilled: no guidance and no other kind of step. Their context is what keeps them steady."""
INSTEAD = {"stream_batch": "step_scheduler", "frame_buffer": "chunk_frames", "prompt_fade": "prompt_chunks"}
"""What does to a video model what the parameter does to an image model."""


class UnusedValues:
    """Remembers what was told."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def notes(self, values: Snapshot) -> list[str]:
        """A sentence if parameters without effect have been turned since; each is named once until it is turned back."""
        turned = {name for name in UNUSED if values.values[name] != BY_NAME[name].default}
        if values.number("steadiness") == 0.0:
            turned.discard("steadiness")  # nothing is averaged away, as asked
        new = [name for name in UNUSED if name in turned - self._told]
        self._told = turned
        if not new:
            return []
        named = ", ".join(f"{name} ({INSTEAD[name]} does)" if name in INSTEAD else name for name in new)
        return [f"without effect on a video model: {named}"]
