"""How the values of a moment become a chunk: prompt, denoising steps, noise scale and noise that its latent frames enter with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.diffusion.noise import seed_of_frame, seeded
from engine.frames import Pixels
from engine.images.flow import motion
from engine.models.prompt_encoder import PromptEmbedding
from engine.models.video_policies import VideoPolicies
from engine.pipelines.denoising import DenoisingSite
from engine.pipelines.noise_source import NoiseSource
from engine.pipelines.prompt_mix import PromptMix
from engine.video.flow_noise import DRAWS, carried
from engine.video.noise_control import UNDERSTATED, FixedNoise, MotionAwareNoise, NoisePolicy, change, noised
from engine.video.rollout import Prompt
from engine.video.schedule import TRAINED_TIMESTEPS, FlowGrid, Levels

FIRST_TIMESTEPS_WITH = ("sequential", "clean_rerun")
"""Step schedulers under which the first chunk may have more steps than the others."""


@dataclass(frozen=True, eq=False, slots=True)
class Entered:
    """A chunk's latent [1, F, C, h, w] at its first level, its steps, and fresh noise [N - 1, F, C, h, w] for the later ones."""

    latent: Tensor
    levels: Levels
    later_noise: Tensor


class ChunkPrompts:
    """The prompt of each chunk: a changed text blends in over `prompt_chunks` chunks, the first of which already shows it."""

    def __init__(self, mix: PromptMix, site: DenoisingSite) -> None:
        self._mix, self._site = mix, site
        self._chunks = 0
        self._known: tuple[PromptEmbedding, Prompt] | None = None
        self._texts: tuple[str, ...] | None = None

    def tell_again(self) -> None:
        """The denoising is another one: what was told to the last one, it does not know."""
        self._known = None

    def settled(self, values: Snapshot) -> bool:
        """Whether the prompts asked for are those of the last chunk, wholly."""
        return self._mix.shows(values) and self._mix.texts == self._texts

    def next(self, values: Snapshot) -> tuple[Prompt, bool]:
        """(the prompt of the next chunk, whether with it a change of texts is complete)."""
        over = float(max(1, values.whole("prompt_chunks")))
        for moment in (self._chunks, self._chunks + 1):  # a change noticed at the first is one step on its way at the second
            told = replace(values, values={**values.values, "prompt_fade": over}, seconds=float(moment))
            embedding = self._mix.positive(told)
        self._chunks += 1
        if self._known is None or self._known[0] is not embedding:
            self._known = (embedding, self._site.prompt(embedding.tokens))
        switched = self._mix.settled and self._texts is not None and self._mix.texts != self._texts
        if self._mix.settled:
            self._texts = self._mix.texts
        return self._known[1], switched


class ChunkEntry:
    """Makes chunks for one model. Counts them, so that the same seed gives the same noise again after `reset`."""

    def __init__(self, policies: VideoPolicies, device: torch.device) -> None:
        self._policies, self._device = policies, device
        self._grid = FlowGrid(policies.shift)
        self._noises = NoiseSource(device)
        self.reset()

    def reset(self) -> None:
        """The next chunk is the first."""
        self.count = 0
        self._scale: Tensor | None = None
        self._last_picture: Tensor | None = None
        self._grey: Pixels | None = None
        self._carried: Tensor | None = None

    def steps(self, values: Snapshot, scheduler: str, most: int | None = None) -> tuple[float, ...]:
        """Timesteps of the next chunk as the model means them, largest first. most: instead of the `steps` asked for; a list that is
        longer is thinned out to as many, by the model's own rule.
        """
        policies = self._policies
        listed = _listed(values)
        if not listed and self.count == 0 and scheduler in FIRST_TIMESTEPS_WITH:
            listed = policies.first_timesteps
        if listed:
            return _thinned(listed, most or len(listed), policies.step_rule)
        return policies.timesteps_for(most or values.whole("steps"))

    def from_noise(self, values: Snapshot, timesteps: Sequence[float], shape: tuple[int, ...]) -> Entered:
        """A chunk out of nothing: noise of `shape` (F, C, h, w), whose first level is 1000 also where the steps begin lower."""
        noise = self._noise(values, (len(timesteps), *shape))
        self.count += 1
        self._scale = self._last_picture = None
        warped = self._policies.warped and not _listed(values)
        levels = self._grid.levels((float(TRAINED_TIMESTEPS), *timesteps[1:]), self._device, warped=warped)
        return Entered(noise[:1], levels, noise[1:])

    def from_pictures(
        self, values: Snapshot, timesteps: Sequence[float], clean: Tensor, pictures: Tensor, greys: Sequence[Pixels | None]
    ) -> Entered:
        """A chunk that re-imagines clean latents [1, F, C, h, w] of pictures [1, T, 3, H, W]. greys: luminance at the end of each
        latent frame, None where it is not asked for."""
        strength = values.number("strength")
        asked = torch.tensor(strength, dtype=torch.float32).to(self._device, non_blocking=True)
        kind = self.noise_kind(values)
        before, seen = self._last_picture, pictures
        if before is not None:
            seen = torch.cat((before, pictures), dim=1)
        self._last_picture = pictures[:, -1:]
        policy: NoisePolicy = MotionAwareNoise() if kind == "motion_aware" and before is not None else FixedNoise()
        moved = change(seen.float()) if seen.shape[1] > 1 else torch.zeros_like(asked)
        level = policy.level(asked, moved, asked if self._scale is None else self._scale)
        self._scale = level.noise_scale
        noise = self._noise(values, (len(timesteps), *clean.shape[1:]))
        if kind == "flow_warped":
            first = self._warped(values, noise[0], greys)
        else:
            first, self._carried = noise[0], None
        self.count += 1
        levels = self._levels(values, timesteps, level.timestep, strength)
        scale = levels.sigmas[0] if _listed(values) else level.noise_scale  # a list of steps replaces the strength
        return Entered(noised(clean, first[None], scale), levels, noise[1:])

    def noise_kind(self, values: Snapshot) -> str:
        """The noise policy by name: the one asked for, or the model's."""
        asked = values.text("noise_control")
        return self._policies.noise if asked == "auto" else asked

    def _levels(self, values: Snapshot, timesteps: Sequence[float], first: Tensor, strength: float) -> Levels:
        """Steps from `first` down. A list made for more noise is drawn together to what the strength leaves; the model's own stays."""
        if _listed(values):
            return self._grid.levels(timesteps, self._device)
        trained = self._grid.levels(timesteps, self._device, warped=self._policies.warped).timesteps
        top = self._grid.warped(timesteps[0]) if self._policies.warped else timesteps[0]
        share = min(1.0, max(1.0, TRAINED_TIMESTEPS * strength - UNDERSTATED) / top)
        told = torch.cat((first.to(trained.dtype).view(1), share * trained[1:]))
        return self._grid.of(told.cummin(0).values)

    def _noise(self, values: Snapshot, shape: tuple[int, ...]) -> Tensor:
        """Noise for every latent frame of every step, as seed and seed_mode ask for it; the chunk is what a frame is to them."""
        return self._noises.of_frame(values, count=self.count, shape=shape)

    def _warped(self, values: Snapshot, fresh: Tensor, greys: Sequence[Pixels | None]) -> Tensor:
        """Noise [F, C, h, w] that moves with the input, drawn and carried on the host; only the seed counts, not its mode."""
        frames = []
        for place, grey in enumerate(greys):
            seed = seed_of_frame(values.whole("seed") ^ 0x5EED, self.count * len(greys) + place)
            draws = seeded(seed, (DRAWS, 1, *fresh.shape[1:]))
            if self._carried is None or self._grey is None or grey is None:
                self._carried = draws[0]
            else:
                there, back = motion(grey, self._grey), motion(self._grey, grey)
                self._carried = carried(
                    self._carried,
                    draws,
                    None if there is None else torch.from_numpy(there),
                    forward=None if back is None else torch.from_numpy(back),
                )
            self._grey = grey
            frames.append(self._carried)
        return torch.cat(frames).to(self._device, non_blocking=True)


def _listed(values: Snapshot) -> tuple[float, ...]:
    """The steps of `step_list`, largest first; none if it is empty."""
    return tuple(float(t) for t in sorted(set(values.whole_numbers("step_list")), reverse=True) if t > 0)


def _thinned(timesteps: tuple[float, ...], most: int, rule: str) -> tuple[float, ...]:
    """At most so many of them, as VideoPolicies.timesteps_for chooses: the first ones, or some spread over all."""
    there, count = len(timesteps), min(most, len(timesteps))
    return timesteps[:count] if rule == "first" else tuple(timesteps[i * there // count] for i in range(count))
