"""The ranks of one engine: who does what, the start of them all, and what cannot be shared out, in plain words.

Rank 0 starts the others itself, or torchrun has started all of them. The last rank has the codec if it is to have one of its own.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable

import torch

from engine.gpu.devices import choose_device, set_threads
from engine.gpu.host_memory import keep_freed_memory
from engine.gpu.ranks import Place, Ranks, end_process, place_from_environment
from engine.models.catalogue import resolve
from engine.models.model_card import ModelCard
from engine.models.video_policies import VideoPolicies
from engine.models.video_weights import LoadedVideoModel
from engine.pipelines.codec_rank import CodecOnRank, serve_codec
from engine.pipelines.rank_denoising import RING, SeveralRanks, Share, serve_denoising
from engine.pipelines.rank_group import RankGroup
from engine.settings import Settings, SettingsError

log = logging.getLogger(__name__)

MISTAKE_EXIT = 2
LOOKING_BACK = ("recompute", "rolling_sink")
"""Caches that are computed anew from clean latents while the stream runs."""
OWN_NOISE_LEVEL = "over several ranks no chunk is run once more when it is clean, as this model was made for: it remembers noisier frames"


def line_of(settings: Settings) -> int:
    """How many ranks denoise."""
    return settings.ranks - settings.codec_rank


def check_policies(policies: VideoPolicies, settings: Settings, title: str) -> list[str]:
    """SettingsError for a model that cannot be shared out so; what is to be told of one that can."""
    line = line_of(settings)
    if line == 1:
        return []
    if policies.cache in LOOKING_BACK:
        raise SettingsError(f"{title} computes its context anew while it runs ({policies.cache}), which needs all blocks in one place: "
                            "leave --ranks out, or take --ranks 2 --codec-rank")  # fmt: skip
    if policies.scheduler == "rolling_window":
        raise SettingsError(f"the moving window of {title} does not go over ranks: leave --ranks out, or take --ranks 2 --codec-rank")
    if settings.parallel != RING and line > len(policies.timesteps):
        raise SettingsError(f"{title} has {len(policies.timesteps)} denoising steps, which {line} ranks cannot share; take fewer ranks")
    return [OWN_NOISE_LEVEL] if policies.scheduler == "clean_rerun" else []


def check_blocks(loaded: LoadedVideoModel, settings: Settings) -> None:
    """SettingsError if there are more ranks than blocks to share out."""
    blocks, line = len(loaded.transformer.blocks), line_of(settings)
    if settings.parallel == RING and line > blocks:
        raise SettingsError(f"{loaded.card.title} has {blocks} blocks, which {line} ranks cannot share; take fewer ranks")


def rank_device(device: torch.device, settings: Settings, rank: int) -> torch.device:
    """The device of a rank, if `device` is the first one's: GPUs in turn, or the CPU for all. SettingsError if there are too few."""
    if settings.ranks == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise SettingsError(f"several ranks run on CUDA GPUs or on the CPU, not on {device.type}; leave --ranks out")
    first, there = device.index or 0, torch.cuda.device_count()
    if first + settings.ranks > there:
        raise SettingsError(f"{settings.ranks} ranks need as many GPUs from cuda:{first} on, and torch finds {there} on this machine")
    return torch.device("cuda", first + rank)


def prepare_device(settings: Settings, *, live: bool, rank: int = 0) -> torch.device:
    """The rank's device, with threads, memory and kernels set as it wants them."""
    device = rank_device(choose_device(settings), settings, rank)
    if device.type == "cpu":
        set_threads(settings)
        keep_freed_memory()
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = live, not live
    return device


class Team:
    """All ranks as rank 0 sees them. A rank that is lost ends this process, whose parent starts all of them again."""

    def __init__(self, settings: Settings, *, live: bool) -> None:
        """Start the others, which load the model meanwhile."""
        self._settings = settings
        self._loading, self._met, self._lost_early = threading.Lock(), False, 0
        self._group: RankGroup | None = None
        place = place_from_environment()
        if place is None:
            self._group = RankGroup(live_as_rank, settings.ranks, (settings, live), lost=self._lost)
            place = self._group.place
        elif place.ranks != settings.ranks:
            raise SettingsError(f"torchrun started {place.ranks} processes, and --ranks says {settings.ranks}; both must be the same")
        self._place = place
        self._ends: list[Callable[[], None]] = []

    def meet(self, device: torch.device) -> None:
        """Wait for the others."""
        with self._loading:
            self._met = True
        if self._lost_early:
            end_process(self._lost_early)
        self.ranks = Ranks(self._place, device)

    def site(self, loaded: LoadedVideoModel, *, cuda_graph: bool) -> SeveralRanks | None:
        """Where chunks are denoised; None if rank 0 does it alone."""
        line = line_of(self._settings)
        if line == 1:
            return None
        share = Share(self.ranks, loaded.transformer, loaded.policies, line, cuda_graph)
        site = SeveralRanks(share, self._settings.parallel, codec_elsewhere=self._settings.codec_rank)
        self._ends.append(site.close)
        return site

    def codec(self) -> CodecOnRank | None:
        """The last rank's codec; None if rank 0 has it."""
        if not self._settings.codec_rank:
            return None
        codec = CodecOnRank(self.ranks, self._settings.ranks - 1)
        self._ends.append(codec.stop)
        return codec

    def close(self) -> None:
        """The orderly end of all ranks."""
        for end in self._ends:
            end()
        self.ranks.leave()
        if self._group is not None:
            self._group.leave()

    def abandon(self) -> None:
        """The model cannot be run: the others end at once."""
        if self._group is not None:
            self._group.leave(0.0)

    def _lost(self, rank: int) -> None:
        """While rank 0 is loading, its own words on what is wrong come first."""
        with self._loading:
            if not self._met:
                self._lost_early = rank
                return
        end_process(rank)


def live_as_rank(place: Place, settings: Settings, live: bool) -> None:
    """The whole life of rank 1 or a further one."""
    from engine.pipelines.build import let_waiting_threads_sleep

    let_waiting_threads_sleep()
    try:
        device = prepare_device(settings, live=live, rank=place.rank)
        loaded = _load_share(place.rank, settings, resolve(settings.model), device, live=live)
    except SettingsError as error:
        print(f"phosphene: rank {place.rank}: {error}", file=sys.stderr, flush=True)
        os._exit(MISTAKE_EXIT)
    ranks = Ranks(place, device)
    if _has_codec(place.rank, settings):
        with torch.inference_mode():
            serve_codec(ranks, loaded.codec())
    else:
        cuda_graph = settings.cuda_graph and device.type == "cuda"
        serve_denoising(Share(ranks, loaded.transformer, loaded.policies, line_of(settings), cuda_graph))
    ranks.leave()


def live_if_further(settings: Settings, *, live: bool) -> bool:
    """The whole life of a process that torchrun started as another rank than 0; False at once in every other process."""
    place = place_from_environment()
    if place is None or place.rank == 0:
        return False
    if place.ranks != settings.ranks:
        raise SettingsError(f"torchrun started {place.ranks} processes, and --ranks says {settings.ranks}; both must be the same")
    live_as_rank(place, settings, live)
    return True


def _has_codec(rank: int, settings: Settings) -> bool:
    return settings.codec_rank and rank == settings.ranks - 1


def _load_share(rank: int, settings: Settings, card: ModelCard, device: torch.device, *, live: bool) -> LoadedVideoModel:
    from engine.pipelines.video_build import load_model, video_dtype

    parts = ("vae",) if _has_codec(rank, settings) else ("transformer",)
    loaded, notes = load_model(settings, card, device, video_dtype(settings, device), live=live, parts=parts)
    for note in notes:
        log.warning("rank %d: %s", rank, note)
    return loaded
