"""From the names of a checkpoint's policies to the objects that run it: cache, positions, context, rollout, step scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_policies import VideoPolicies
from engine.video.cache_memory import DeepSinks, EmaSinks, TwoMemories
from engine.video.cache_policies import AdaptiveSinks, CachePolicy, RingWithSinks
from engine.video.moving_buffer import MovingBuffer
from engine.video.positions import AbsolutePositions, CacheRelativePositions, PositionPolicy, ResetPositions
from engine.video.recaching import ContextPolicy, KeepContext, RecacheOnSwitch, RecomputeLast, RollingSinkFrame, replay
from engine.video.rollout import Prompt, Rollout
from engine.video.schedulers import Sequential, StepScheduler, StreamBatch

CLEAN = 0.0


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


class Denoising:
    """A rollout and its step scheduler, of one kind."""

    def __init__(
        self, network: VideoDenoiser, policies: VideoPolicies, kind: DenoisingKind, *, first: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.kind = kind
        policy = cache_policy(policies)
        height, width = kind.size
        self._recache = RecacheOnSwitch(frames=policy.window, block=policies.frames)
        self.context = context_policy(policies, first)
        self._block = min(policies.frames, policy.window - policy.sinks)
        self.rollout = Rollout(
            network,
            lambda rows: network.make_cache(height, width, policy=policy, rows=rows, scratch=kind.scratch),
            policy=policy,
            positions=position_policy(policies),
            rope=network.rope(height, width),
            rows=kind.rows,
            scratch=kind.scratch,
            history=max(policy.window, self.context.history),
        )
        self.scheduler = self._scheduler()

    def _scheduler(self) -> StepScheduler:
        match self.kind.scheduler:
            case "stream_batch":
                return StreamBatch(self.rollout)
            case "rolling_window":
                return MovingBuffer(self.rollout, partitions=self.kind.steps, clean_timestep=CLEAN)
            case "clean_rerun":
                return Sequential(self.rollout, clean_timestep=CLEAN)
            case _:
                return Sequential(self.rollout)

    def reset(self) -> None:
        """The next chunk is the first."""
        self.scheduler.reset()
        self.rollout.reset()

    def go_on_from(self, latents: Iterable[Tensor], prompt: Prompt) -> None:
        """Take the clean frames of another rollout of the same size as context."""
        replay(self.rollout, latents, prompt, block=self._block)

    def switch_prompt(self, prompt: Prompt) -> None:
        """Compute the context anew under another prompt; nothing may be in flight."""
        self._recache.on_prompt_switch(self.rollout, prompt)


def first_chunk(policies: VideoPolicies, asked: int) -> int:
    """Latent frames of the first chunk of a stream, if `asked` are wanted for the others."""
    return min(policies.first_frames or largest_chunk(policies, asked), cache_policy(policies).window)


def largest_chunk(policies: VideoPolicies, asked: int) -> int:
    """Latent frames a chunk: those asked for, or the model's own if 0, as many as fit beside the sinks."""
    policy = cache_policy(policies)
    return max(1, min(asked or policies.frames, policy.window - policy.sinks))
