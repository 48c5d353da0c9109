"""From the slots of one network call to what an image step asks for: its key and its tensors. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.diffusion.stream_batch import Layout
from engine.models.attention import joinable
from engine.pipelines.image_step import StepKey
from engine.pipelines.slots import Slot


def key_of(
    slots: Sequence[Slot],
    values: Snapshot,
    *,
    entering: int,
    finishing: tuple[int, ...],
    size: tuple[int, int],
    output_size: tuple[int, int] | None,
    last: Tensor | None,
) -> StepKey:
    """What the call branches on, the slots being its rows; as StepKey. last: the newest finished picture, [1, 3, H, W]."""
    layout = Layout.of([slot.plan for slot in slots])
    groups = tuple(n for n in (len(layout.negative), layout.rows) if n)
    return StepKey(
        layout=layout,
        entering=entering,
        painting=entering > 0 and slots[0].dry is None,
        size=size,
        output_size=output_size or size,
        fit=values.text("fit"),
        finishing=finishing,
        mixing=values.number("mix") < 1.0 and all(slots[i].dry is not None for i in finishing),
        feeding=values.number("feedback") > 0.0 and last is not None,
        steadying=values.number("steadiness") > 0.0 and any(slots[i].trace is not None for i in finishing),
        opaque=not finishing or any(slots[i].alpha is None for i in finishing),
        frame_groups=groups if values.toggle("cross_frame_attention") and joinable(groups) else None,
    )


def inputs_of(key: StepKey, slots: Sequence[Slot], coefficients: Tensor, *, last: Tensor | None) -> dict[str, Tensor]:
    """The inputs of ImageStep by name."""
    new, old = slots[: key.entering], slots[key.entering :]
    inputs = {"coefficients": coefficients, "next_noise": torch.cat([slot.next_noise for slot in slots])}
    for name, tensors in (
        ("noise", [slot.noise[:1] for slot in new]),
        ("rgb", [slot.dry for slot in new]),
        ("x", [slot.latent for slot in old]),
        ("reference", [slot.reference for slot in old]),
        ("image", [slot.image for slot in old]),
        ("dry", [slots[i].dry for i in key.finishing if key.mixing]),
        ("alpha", [slots[i].alpha for i in key.finishing if not key.opaque]),
        ("last", [last] if key.feeding else []),
    ):
        present = [tensor for tensor in tensors if tensor is not None]
        if present:
            inputs[name] = torch.cat(present)
    return inputs
