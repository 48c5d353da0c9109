"""The video codec on a rank of its own: it encodes and decodes while the other ranks denoise."""

from __future__ import annotations

from collections import deque

from torch import Tensor

from engine.gpu.ranks import Ranks
from engine.models.video_codec import VideoCodec

ENCODE, ENCODE_ALONE, DECODE, RESET, STOP = "encode", "encode_alone", "decode", "reset", "stop"


class CodecOnRank:
    """An engine.pipelines.codec_line.CodecLine whose work is done elsewhere, and a VideoCodec whose calls wait for it.

    One chunk is encoded ahead and one decoded behind, so that the codec's rank and those that denoise work at the same time.
    """

    ahead = 1

    def __init__(self, ranks: Ranks, rank: int) -> None:
        """rank: the one that runs `serve_codec`."""
        self._ranks, self._rank = ranks, rank
        self._asked: deque[str] = deque()
        self._answers: dict[str, deque[Tensor]] = {kind: deque() for kind in (ENCODE, ENCODE_ALONE, DECODE)}
        facts, _ = ranks.receive(rank)
        self.latent_channels: int = facts["latent_channels"]
        self.factor: int = facts["factor"]
        self.pictures_per_latent: int = facts["pictures_per_latent"]

    def begin_encode(self, pictures: Tensor) -> None:
        """`encode` that does not wait; see `encoded`."""
        self._ask(ENCODE, pictures)

    def encoded(self) -> Tensor:
        """The oldest `begin_encode`'s latents; waits for them. ValueError if the codec refused the pictures."""
        return self._answer(ENCODE)

    def begin_decode(self, latents: Tensor) -> None:
        """`decode` that does not wait; see `decoded`."""
        self._ask(DECODE, latents)

    def decoded(self) -> Tensor:
        """The oldest `begin_decode`'s pictures; waits for them."""
        return self._answer(DECODE)

    def encode(self, pictures: Tensor) -> Tensor:
        """As VideoCodec.encode."""
        self.begin_encode(pictures)
        return self.encoded()

    def encode_alone(self, picture: Tensor) -> Tensor:
        """As VideoCodec.encode_alone."""
        self._ask(ENCODE_ALONE, picture)
        return self._answer(ENCODE_ALONE)

    def decode(self, latents: Tensor) -> Tensor:
        """As VideoCodec.decode."""
        self.begin_decode(latents)
        return self.decoded()

    def reset(self) -> None:
        """As VideoCodec.reset; results not asked for yet are dropped."""
        self._drop()
        self._ranks.send(self._rank, {"do": RESET})

    def stop(self) -> None:
        """The other rank's `serve_codec` returns."""
        self._drop()  # it cannot leave before its results have
        self._ranks.send(self._rank, {"do": STOP})

    def _drop(self) -> None:
        while self._asked:
            self._receive(keep=False)
        for answers in self._answers.values():
            answers.clear()

    def _ask(self, kind: str, tensor: Tensor) -> None:
        self._asked.append(kind)
        self._ranks.send(self._rank, {"do": kind}, [tensor])

    def _answer(self, kind: str) -> Tensor:
        while not self._answers[kind]:
            self._receive(keep=True)
        return self._answers[kind].popleft()

    def _receive(self, *, keep: bool) -> None:
        kind = self._asked.popleft()
        words, tensors = self._ranks.receive(self._rank)
        if not keep:
            return
        if "refused" in words:
            raise ValueError(words["refused"])
        self._answers[kind].append(tensors[0])


def serve_codec(ranks: Ranks, codec: VideoCodec, *, client: int = 0) -> None:
    """The life of the codec's rank, until it is told to stop."""
    facts = {"latent_channels": codec.latent_channels, "factor": codec.factor, "pictures_per_latent": codec.pictures_per_latent}
    ranks.send(client, facts)
    work = {ENCODE: codec.encode, ENCODE_ALONE: codec.encode_alone, DECODE: codec.decode}
    while True:
        words, tensors = ranks.receive(client)
        if words["do"] == STOP:
            return
        if words["do"] == RESET:
            codec.reset()
            continue
        try:
            ranks.send(client, {}, [work[words["do"]](tensors[0])])
        except ValueError as error:  # the caller's mistake, to be raised there
            ranks.send(client, {"refused": str(error)})
