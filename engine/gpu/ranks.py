"""Several processes that make one stream, each with its device: messages between ranks, and the loss of one noticed by all.

torch.distributed underneath: gloo for words and for tensors on the CPU, NCCL for tensors on CUDA. All ranks are on one machine and
talk over the loopback interface. They meet through a file, so no port is chosen beforehand, or through torchrun's store.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from engine.gpu.heartbeat import LOST_EXIT, Heartbeat, Lost, Meeting, join

Words = dict[str, Any]
"""What JSON can hold."""

WORDS_BYTES = 8192
OUTSTANDING = 8
"""Messages on their way from a rank; the next one waits for the oldest."""
MEETING_SECONDS = 3600.0
"""Others may still be loading, or fetching, the model. One that failed meanwhile is noticed by who started it."""
PATIENCE = timedelta(days=365)
"""A stream may be without input for as long as it likes; whether the others live is the heartbeat's business."""


class RankLost(ConnectionError):
    """Another rank of the group is gone. Ours to put right: the group starts again."""


@dataclass(frozen=True, slots=True)
class Place:
    """Who a process is. meeting: a file that does not exist yet, the same for the whole group, a new one for every start; None for
    ranks that torchrun started.
    """

    rank: int
    ranks: int
    meeting: Path | None


def place_from_environment() -> Place | None:
    """Of a rank that torchrun started (`--standalone`: one machine), or None for a process of its own."""
    if not all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
        return None
    return Place(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), None)


def end_process(rank: int) -> None:
    """What a lost rank means by default: this one ends too, wherever its main thread waits, so that the group can start again."""
    print(f"rank {rank} is lost; this rank ends, the group has to start again", file=sys.stderr, flush=True)
    os._exit(LOST_EXIT)


class Ranks:
    """A group as one of its ranks sees it. Messages between two ranks arrive in the order in which they were sent."""

    def __init__(self, place: Place, device: torch.device, *, lost: Lost = end_process) -> None:
        """Waits for all ranks. lost: called from a thread when one is gone, within 2 s."""
        if sys.platform.startswith("linux"):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
        self.rank, self.count, self.device = place.rank, place.ranks, device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self._store = _open_store(place)
        dist.init_process_group("gloo", store=self._store, rank=place.rank, world_size=place.ranks, timeout=PATIENCE)
        # NCCL would wait for the device at every message of words.
        self._tensors = dist.new_group(backend="nccl", timeout=PATIENCE) if device.type == "cuda" else None
        self._sending: deque[tuple[list[Any], list[Tensor]]] = deque()
        self._heartbeat = self._meet(lost)

    def _meet(self, lost: Lost) -> Heartbeat | None:
        if self.count == 1:
            return None
        if self.rank == 0:
            key = secrets.token_bytes(32)
            meeting = Meeting(key)
            self._store.set("heartbeat", json.dumps([meeting.port, key.hex()]))
            return meeting.gather(self.count, lost)
        port, key_text = json.loads(self._store.get("heartbeat"))
        return join(port, self.rank, bytes.fromhex(key_text), lost)

    def send(self, to: int, words: Words, tensors: Sequence[Tensor] = ()) -> None:
        """Words and tensors to a rank. Does not wait for it; the tensors must not be written to afterwards."""
        outgoing = [tensor.contiguous() for tensor in tensors]
        facts = [[str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for tensor in outgoing]
        text = json.dumps([words, facts]).encode()
        if len(text) > WORDS_BYTES - 4:
            raise ValueError(f"a message holds {WORDS_BYTES} bytes of words, not {len(text)}")
        header = torch.zeros(WORDS_BYTES, dtype=torch.uint8)
        header[: len(text) + 4] = torch.frombuffer(bytearray(len(text).to_bytes(4, "little") + text), dtype=torch.uint8)
        while len(self._sending) >= OUTSTANDING:
            self._wait(self._sending.popleft()[0])
        try:
            works = [dist.isend(header, to)]
            works += [dist.isend(_as_bytes(tensor), to, group=self._tensors) for tensor in outgoing if tensor.numel()]
        except RuntimeError as error:
            raise RankLost(f"rank {to} does not answer") from error
        self._sending.append((works, [header, *outgoing]))

    def receive(self, source: int) -> tuple[Words, list[Tensor]]:
        """The next message of a rank, its tensors on this rank's device. Waits; raises RankLost if the rank is gone."""
        header = torch.empty(WORDS_BYTES, dtype=torch.uint8)
        try:
            dist.recv(header, source)
            size = int.from_bytes(header[:4].numpy().tobytes(), "little")
            words, facts = json.loads(header[4 : 4 + size].numpy().tobytes())
            tensors = [torch.empty(shape, dtype=getattr(torch, dtype), device=self.device) for dtype, shape in facts]
            for tensor in tensors:
                if tensor.numel():
                    dist.recv(_as_bytes(tensor), source, group=self._tensors)
        except RuntimeError as error:
            raise RankLost(f"rank {source} is gone") from error
        return words, tensors

    def settle(self) -> None:
        """Wait until everything that was sent has left."""
        while self._sending:
            self._wait(self._sending.popleft()[0])

    def leave(self) -> None:
        """The orderly end: all ranks call it."""
        self.settle()
        dist.barrier()
        if self._heartbeat is not None:
            self._heartbeat.leave()
        dist.destroy_process_group()

    def _wait(self, works: Sequence[Any]) -> None:
        try:
            for work in works:
                work.wait()
        except RuntimeError as error:
            raise RankLost("a rank does not take its messages any more") from error


def _open_store(place: Place) -> Any:
    """Where the ranks meet."""
    timeout = timedelta(seconds=MEETING_SECONDS)
    if place.meeting is None:
        found, _, _ = next(iter(dist.rendezvous("env://", place.rank, place.ranks, timeout=timeout)))  # type: ignore[attr-defined]
        # torchrun's store outlives the ranks: those of the last start have left their addresses there.
        store: Any = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", found)  # type: ignore[attr-defined]
    else:
        store = dist.FileStore(str(place.meeting), place.ranks)  # type: ignore[attr-defined]
    store.set_timeout(timeout)
    return store


def _as_bytes(tensor: Tensor) -> Tensor:
    """A view that every back end can send, whatever the dtype."""
    return tensor.view(-1).view(torch.uint8)
