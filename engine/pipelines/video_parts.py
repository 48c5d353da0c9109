"""From the names of a checkpoint's policies to the objects that run it: cache, positions, context, rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_policies import VideoPolicies
from engine.video.cache_memory import DeepSinks, EmaSinks, TwoMemories
from engine.video.cache_policies import AdaptiveSinks, CachePolicy, RingWithSinks
from engine.video.positions import AbsolutePositions, CacheRelativePositions, PositionPolicy, ResetPositions
from engine.video.recaching import ContextPolicy, KeepContext, RecomputeLast, RollingSinkFrame
from engine.video.rollout import Network, Rollout


def cache_policy(policies: VideoPolicies) -> CachePolicy:
    """The cache policy; `window` frames in all, whatever the parts of it are."""
    window, sinks = policies.window, policies.sinks
    match policies.cache:
        case "adaptive_sinks":
            return AdaptiveSinks(window=window, sinks=sinks, threshold=policies.sink_threshold)
        case "ema_sinks":
            return EmaSinks(window=window, sinks=sinks, decay=policies.ema)
        case "two_ema_memory":
            return TwoMemories(window=window - 2, sinks=sinks)
        case "deep_sinks":
            middle = max(1, (window - sinks - policies.frames) // 2)
            return DeepSinks(window=window - middle, sinks=sinks, middle=middle)
        case _:
            return RingWithSinks(window=window, sinks=sinks)


def position_policy(policies: VideoPolicies) -> PositionPolicy:
    """The position policy."""
    match policies.positions:
        case "absolute":
            return AbsolutePositions()
        case "reset":
            return ResetPositions(limit=policies.reset_at, restart=policies.restart_at)
        case _:
            return CacheRelativePositions()


def context_policy(policies: VideoPolicies, first: Callable[[Tensor], Tensor] | None) -> ContextPolicy:
    """What happens to the context between chunks. first: the latent of a lone picture instead of the oldest context frame."""
    if policies.cache == "recompute":
        return RecomputeLast(frames=policies.context, first=first)
    if policies.cache == "rolling_sink":
        return RollingSinkFrame(frames=policies.sinks + max(policies.frames, policies.first_frames))
    return KeepContext()


def check(policies: VideoPolicies) -> None:
    """ValueError unless the policies go together."""
    policy, positions = cache_policy(policies), position_policy(policies)
    if policy.needs_timeless_keys and positions.baked:
        raise ValueError(f"the cache {policies.cache} mixes frames, which needs the positions cache_relative, not absolute")
    if not runs_with(policies, policies.scheduler):
        raise ValueError(f"the cache {policies.cache} does not go with the scheduler {policies.scheduler}")


def runs_with(policies: VideoPolicies, scheduler: str) -> bool:
    """Whether the step scheduler goes with the cache: a moving buffer needs slots that are the same in every layer, and a context
    that is computed anew needs chunks that do not overlap."""
    if policies.cache == "recompute":
        return scheduler in ("sequential", "clean_rerun")
    return not (policies.cache == "adaptive_sinks" and scheduler == "rolling_window")


@dataclass(frozen=True, slots=True)
class DenoisingKind:
    """What a rollout is built for.

    scheduler: a name of video_policies.SCHEDULERS. frames: latent frames a chunk at most. size: (height, width) of latents.
    """

    scheduler: str
    steps: int
    frames: int
    size: tuple[int, int]

    @property
    def rows(self) -> int:
        """Rows of the cache."""
        return self.steps if self.scheduler == "stream_batch" else 1

    @property
    def scratch(self) -> int:
        """Slots for frames in a moving buffer."""
        return self.steps * self.frames if self.scheduler == "rolling_window" else 0

    def fits(self, other: DenoisingKind) -> bool:
        """Whether what was built for this also runs the other."""
        return (self.scheduler, self.rows, self.size) == (other.scheduler, other.rows, other.size) and self.scratch == other.scratch


def make_rollout(
    network: Network, denoiser: Callable[[], VideoDenoiser], policies: VideoPolicies, kind: DenoisingKind, *, history: int = 0
) -> Rollout:
    """A rollout of that kind. denoiser: the blocks that the cache is for, which may be others later."""
    policy, (height, width) = cache_policy(policies), kind.size
    return Rollout(
        network,
        lambda rows: denoiser().make_cache(height, width, policy=policy, rows=rows, scratch=kind.scratch),
        policy=policy,
        positions=position_policy(policies),
        rope=denoiser().rope(height, width),
        rows=kind.rows,
        scratch=kind.scratch,
        history=history,
    )


def first_chunk(policies: VideoPolicies, asked: int) -> int:
    """Latent frames of the first chunk of a stream, if `asked` are wanted for the others."""
    return min(policies.first_frames or largest_chunk(policies, asked), cache_policy(policies).window)


def largest_chunk(policies: VideoPolicies, asked: int) -> int:
    """Latent frames a chunk: those asked for, or the model's own if 0, as many as fit beside the sinks."""
    policy = cache_policy(policies)
    return max(1, min(asked or policies.frames, policy.window - policy.sinks))
