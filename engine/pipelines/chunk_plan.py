"""What the next chunk of a video stream is made by: step scheduler, steps and size, as the values, the model and a deadline want it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from engine.control.live_values import Snapshot
from engine.models.video_policies import VideoPolicies
from engine.pipelines.deadline import Deadline
from engine.pipelines.denoising import Denoising, DenoisingSite
from engine.pipelines.video_entry import ChunkEntry, ChunkPrompts
from engine.pipelines.video_parts import DenoisingKind, largest_chunk, runs_with
from engine.video.rollout import Prompt
from engine.video.slo_costs import ChunkPlan

NO_RECACHING = "over several ranks the frames remembered stay as they are when the prompt changes: recaching needs all blocks in one place"
FORGOTTEN = "over several ranks another number of steps starts with an empty context"
ONLY_COUNTED = "a rolling window keeps its steps and its size: no deadline changes them, what comes after it is counted"


@dataclass(frozen=True, eq=False, slots=True)
class Ready:
    """All that a chunk is denoised with. timesteps: as the model means them, largest first."""

    denoising: Denoising
    prompt: Prompt
    timesteps: tuple[float, ...]

    @property
    def calls(self) -> int:
        """Denoiser calls a chunk that its steps take."""
        return 1 if self.denoising.kind.scheduler in ("stream_batch", "rolling_window") else len(self.timesteps)

    @property
    def reruns(self) -> int:
        """Further calls a chunk, however many steps it has."""
        return int(self.denoising.kind.scheduler in ("clean_rerun", "rolling_window"))


class ChunkPlans:
    """Chooses, and has the denoising built anew where another kind is asked for. `notes`: what is to be told, once each."""

    def __init__(
        self,
        site: DenoisingSite,
        policies: VideoPolicies,
        prompts: ChunkPrompts,
        entry: ChunkEntry,
        deadline: Deadline,
        *,
        alone: Callable[[Tensor], Tensor],
    ) -> None:
        """alone: the oldest context frame as the first latent of a clip, for policies that look back."""
        self._site, self._policies, self._prompts, self._entry, self._deadline = site, policies, prompts, entry, deadline
        self._alone = alone if policies.context else None
        self._told: set[str] = set()
        self._refused = ""
        self.denoising: Denoising | None = None
        self.notes: list[str] = []

    def plan(self, values: Snapshot, *, painted: bool = False) -> ChunkPlan:
        """How the next chunk is made: as the values say, or as their deadline wants it. painted: out of noise, there is no input."""
        scheduler = self._scheduler(values)
        steps = len(self._entry.steps(values, scheduler))
        natural = ChunkPlan(largest_chunk(self._policies, values.whole("chunk_frames")), steps, scheduler == "stream_batch" and steps > 1)
        if scheduler == "rolling_window":
            if self._deadline.only_count(values):
                self._note(ONLY_COUNTED)
            return natural
        largest = largest_chunk(self._policies, self._policies.window)
        can_batch = scheduler in ("sequential", "stream_batch") and not self._policies.context and not self._site.only_scheduler
        return self._deadline.plan(values, natural, largest=largest, can_batch=can_batch, painted=painted)

    def ready(
        self, values: Snapshot, frames: int, size: tuple[int, int], finish: Callable[[Denoising], None], plan: ChunkPlan | None = None
    ) -> Ready:
        """What denoises the next chunk, of `frames` latent frames of `size` (height, width).

        finish: hands out what is in flight in a denoising whose context is about to change.
        """
        scheduler = self._scheduler(values)
        if plan is not None and scheduler in ("sequential", "stream_batch"):
            scheduler = "stream_batch" if plan.batched else "sequential"
        timesteps = self._entry.steps(values, scheduler, None if plan is None else plan.steps)
        largest = max(frames, largest_chunk(self._policies, values.whole("chunk_frames")))
        wanted = DenoisingKind(self._site.only_scheduler or scheduler, len(timesteps), largest, size)
        before = self.denoising
        if before is not None and before.kind.fits(self._site.kind(wanted)):
            told, switched = self._prompts.next(values)
            if switched and self._recaches(values):
                self._recache(before, told, finish)
            return Ready(before, told, timesteps)
        if before is not None:
            finish(before)
        self.denoising = self._site.begin(self._site.kind(wanted), self._alone)
        self._prompts.tell_again()
        told, _ = self._prompts.next(values)
        if before is not None and self.denoising.looks_back:
            self.denoising.go_on_from(before.rollout.history, told)
        elif before is not None:
            self._note(FORGOTTEN)
        return Ready(self.denoising, told, timesteps)

    def forget(self) -> None:
        """The next chunk begins with another denoising and nothing before it."""
        self.denoising = None

    def _scheduler(self, values: Snapshot) -> str:
        asked, only = values.text("step_scheduler"), self._site.only_scheduler
        refused, self._refused = self._refused, ""
        if asked in ("auto", only) or (not only and runs_with(self._policies, asked)):
            return only or (self._policies.scheduler if asked == "auto" else asked)
        self._refused = asked
        runs = only or self._policies.scheduler
        if refused != asked:
            reason = "several ranks do not go" if only else "this model's cache does not go"
            self.notes.append(f"{reason} with the step scheduler {asked}; it runs {runs}")
        return runs

    def _recaches(self, values: Snapshot) -> bool:
        asked = values.text("prompt_recache")
        return (self._policies.on_prompt if asked == "auto" else asked) == "recache"

    def _recache(self, denoising: Denoising, told: Prompt, finish: Callable[[Denoising], None]) -> None:
        if denoising.looks_back:
            finish(denoising)
            denoising.switch_prompt(told)
        else:
            self._note(NO_RECACHING)

    def _note(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.notes.append(text)
