"""How much a look flickers on moving pictures: what optical flow of the input does not explain between two output frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from engine.control.table import find
from engine.images.flow import motion
from engine.images.warp import blend_moved
from engine.pipelines.steadying import STRONGEST

from .painter import Painter
from .pictures import Picture, clip_frames, clip_paths
from .report import Cell, Figures

DEFAULT_STEADINESS = float(str(find("steadiness").default))

Flow = npt.NDArray[np.float32]
"""[H, W, 2] pixels: where a place of the later frame was in the earlier one, as an offset (x, y)."""


def grey(frame: Picture) -> Picture:
    """Luminance of an RGB frame, uint8."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def optical_flow(frm: Picture, to: Picture) -> Flow:
    """Dense flow between two RGB frames (Kroeger et al. 2016, "Fast optical flow using dense inverse search")."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(grey(frm), grey(to), None), dtype=np.float32)


def sampled(values: npt.NDArray[np.float32], flow: Flow) -> npt.NDArray[np.float32]:
    """`values` [H, W, C] at every place displaced by `flow`, linearly between pixels; the border goes on outside."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.asarray(cv2.remap(values, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def visible(backward: Flow, forward: Flow) -> npt.NDArray[np.bool_]:
    """Places [H, W] of the later frame that were visible in the earlier one and inside the picture.

    There and back must lead to the same place (Sundaram et al. 2010, "Dense point trajectories", equation 5).
    """
    height, width = backward.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    then_x, then_y = x + backward[..., 0], y + backward[..., 1]
    inside = (then_x >= 0) & (then_x <= width - 1) & (then_y >= 0) & (then_y <= height - 1)
    back = sampled(forward, backward)
    allowed = 0.01 * ((backward**2).sum(-1) + (back**2).sum(-1)) + 0.5
    return np.asarray(inside & (((backward + back) ** 2).sum(-1) < allowed))


def warp_error(earlier: Picture, later: Picture, backward: Flow, mask: npt.NDArray[np.bool_]) -> float:
    """Mean absolute difference, 0 to 1, of `later` and `earlier` moved by the flow, where `mask` is set; 0 where it never is."""
    if not mask.any():
        return 0.0
    moved = sampled(earlier.astype(np.float32), backward)
    return float(np.abs(later.astype(np.float32) - moved)[mask].mean() / 255)


@dataclass(frozen=True)
class MovingClip:
    """Neighbouring frames [T, 256, 256, 3] of one clip, with flow and mask for every frame but the first."""

    name: str
    frames: Picture
    flows: Sequence[tuple[Flow, npt.NDArray[np.bool_]]]

    @staticmethod
    def read(path: Path, *, count: int) -> "MovingClip":
        """The first `count` frames of a clip."""
        frames = clip_frames(path, count=count)
        flows = []
        for before, after in zip(frames, frames[1:], strict=False):
            backward, forward = optical_flow(after, before), optical_flow(before, after)
            flows.append((backward, visible(backward, forward)))
        return MovingClip(path.stem, frames, flows)

    def error(self, pictures: Picture) -> float:
        """Mean warp error of pictures [T, H, W, 3] made of the frames."""
        pairs = zip(pictures, pictures[1:], self.flows, strict=False)
        return float(np.mean([warp_error(before, after, flow, mask) for before, after, (flow, mask) in pairs]))


def steadied(pictures: Picture, frames: Picture) -> Picture:
    """Pictures [T, H, W, 3] of `frames` as a live stream shows them with its default steadiness (engine.pipelines.steadying)."""
    share = STRONGEST * DEFAULT_STEADINESS
    shown = [torch.from_numpy(pictures[0]).permute(2, 0, 1)[None].float()]
    for number in range(1, len(pictures)):
        new = torch.from_numpy(pictures[number]).permute(2, 0, 1)[None].float()
        found = motion(grey(frames[number]), grey(frames[number - 1]))
        if found is not None:
            found[2] *= share
            new = blend_moved(new, shown[-1], torch.from_numpy(found[None]))
        shown.append(new)
    return np.asarray(torch.cat(shown).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())


def contrast(pictures: Picture) -> float:
    """Mean over frames of the standard deviation of their values, of 255."""
    return float(pictures.reshape(len(pictures), -1).std(axis=1).mean())


def unrest(clip: MovingClip, pictures: Picture, base: float) -> tuple[float, float, float]:
    """(warp error of the pictures, over `base`, over that and the gain in contrast)."""
    error = clip.error(pictures)
    return error, error / base, error / base / (contrast(pictures) / contrast(clip.frames))


def flicker(painter: Painter, clips: Path, prompts: Sequence[str], *, frames: int, strength: float) -> Figures:
    """Warp error of every prompt on every clip over the input's own, fixed seed, one step.

    The first row is the mean of the model alone, the second that of the pictures as a live stream shows them, steadied along the
    motion of the input. The last is the autoencoder alone: what it adds, no denoiser can take away. `per contrast` divides the
    mean ratio by how much more contrast the output has than the input: a stark look shows the same unrest more strongly.
    """
    moving = [MovingClip.read(path, count=frames) for path in clip_paths(clips)]
    own = [max(clip.error(clip.frames), 1e-6) for clip in moving]
    content = [painter.encoded(clip.frames) for clip in moving]
    found: dict[str, list[tuple[float, float, float]]] = {prompt: [] for prompt in [*prompts, "autoencoder alone"]}
    calmed: list[list[tuple[float, float, float]]] = []
    for clip, latents, base in zip(moving, content, own, strict=True):
        calm: list[tuple[float, float, float]] = []
        for prompt in found:
            made = latents
            if prompt in prompts:
                made = painter.latents(latents, [prompt] * len(latents), strength=strength)
            pictures = painter.decoded(made)
            found[prompt].append(unrest(clip, pictures, base))
            if prompt in prompts:
                calm.append(unrest(clip, steadied(pictures, clip.frames), base))
        calmed.append(calm)
    rows: list[list[Cell]] = []
    for prompt, values in found.items():
        errors, ratios, per_contrast = np.array(values).T
        rows.append([prompt, *map(float, ratios), float(ratios.mean()), float(per_contrast.mean()), 1000 * float(errors.mean())])
    looks = np.array([[float(cell or 0) for cell in row[1:]] for row in rows[:-1]])
    live = np.array(calmed).mean(axis=1)  # [clips, 3]
    shown = [*map(float, live[:, 1]), *map(float, live[:, 1:].mean(axis=0)), 1000 * float(live[:, 0].mean())]
    rows.insert(0, ["mean over the looks, as a live stream shows them", *shown])
    rows.insert(0, ["mean over the looks, the model alone", *map(float, looks.mean(axis=0))])
    rows.append(["the input's own warp error x 1000", *(1000 * error for error in own), None, None, 1000 * float(np.mean(own))])
    heads = ("prompt", *(clip.name for clip in moving), "mean ratio", "per contrast", "warp error x 1000")
    return Figures(f"Flicker at strength {strength}: warp error over the input's own, {frames} frames a clip", heads, rows)
