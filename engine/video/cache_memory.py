"""Cache policies that remember what they evict: averaged into the sinks, into two memories, or the tokens that are looked at most.

All of them mix or move frames, so keys must be kept without time and stand at their rank in the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.video.cache_policies import CachePolicy, Placement
from engine.video.kv_cache import KVCache


def average_into(tensor: Tensor, target: int, source: int, share: float) -> None:
    """tensor[:, target] <- (1 - share) tensor[:, target] + share tensor[:, source]; a tensor [L, S, ...], in float32."""
    kept, gone = tensor[:, target].float(), tensor[:, source].float()
    tensor[:, target] = (kept + share * (gone - kept)).to(tensor.dtype)


class EmaSinks(CachePolicy):
    """Sinks that follow what is evicted (EMA-Sink of Reward Forcing, Lu et al. 2025): S <- a S + (1 - a) E for keys and values.

    The n-th frame that leaves the ring goes into sink n mod s. decay: a in 0..1.
    """

    needs_timeless_keys = True

    def __init__(self, *, window: int, sinks: int, decay: float = 0.999) -> None:
        if sinks < 1 or not 0.0 <= decay <= 1.0:
            raise ValueError("sinks that average need at least one sink frame and a decay in 0..1")
        super().__init__(window=window, sinks=sinks)
        self.decay = decay

    def evict(self, cache: KVCache, row: int, placement: Placement) -> None:
        """The formula of the class, for all layers."""
        first = self.taken(row) - len(placement.evicted) - self.window
        for n, slot in enumerate(placement.evicted, start=first):
            for tensor in (cache.keys, cache.values):
                average_into(tensor[:, row], n % self.sinks, slot, 1.0 - self.decay)


class TwoMemories(CachePolicy):
    """A long and a short memory beside the sinks (MemRoPE, 2026): M <- (1 - g) M + g E for every frame E that leaves the ring, with
    g = 0.01 for the long and 0.1 for the short one; the first frame that leaves starts both.

    Slots: sinks and ring as usual, then the memories, which stand between them in time. window does not count the memories.
    """

    needs_timeless_keys = True

    def __init__(self, *, window: int, sinks: int, rates: tuple[float, ...] = (0.01, 0.1)) -> None:
        super().__init__(window=window, sinks=sinks)
        self.rates = rates

    @property
    def slots(self) -> int:
        """The window and the memories."""
        return self.window + len(self.rates)

    def reach(self, row: int) -> int:
        """The memories too, once something was evicted."""
        return self.slots if self.taken(row) > self.window else super().reach(row)

    def evict(self, cache: KVCache, row: int, placement: Placement) -> None:
        """The formula of the class, for all layers."""
        first = self.taken(row) - len(placement.evicted) - self.window
        for n, slot in enumerate(placement.evicted, start=first):
            for memory, rate in enumerate(self.rates):
                for tensor in (cache.keys, cache.values):
                    average_into(tensor[:, row], self.window + memory, slot, 1.0 if n == 0 else rate)
                cache.written[:, row, self.window + memory].fill_(between(self.sinks, memory, len(self.rates)))


def between(sinks: int, place: int, count: int) -> float:
    """A number for the `place`-th of `count` slots that stand in time between the last sink and every later frame."""
    return sinks - 1 + (place + 1) / (count + 1)


class DeepSinks(CachePolicy):
    """Many sinks, and of the middle only the tokens that recent frames look at (Deep Forcing, 2025): deep sink, participative
    compression.

    Slots: sinks (about half of the window), ring, and `middle` slots of T tokens each. Frames that leave the ring fill the middle;
    once it is full, its m T tokens and the T of the frame that leaves compete, and the m T with the largest
    phi_j = sum over heads and recent queries of softmax_j(q . k_j / sqrt(D)) stay, in their order in time. Time does not enter phi,
    as the survivors' places are unified anyway. window counts sinks and ring. query_stride: every that many queries are asked.
    """

    needs_timeless_keys = True
    wants_queries = True

    def __init__(self, *, window: int, sinks: int, middle: int, query_stride: int = 1) -> None:
        if middle < 1 or query_stride < 1:
            raise ValueError("compression needs at least one middle slot and asks at least every query")
        super().__init__(window=window, sinks=sinks)
        self.middle, self._stride = middle, query_stride

    @property
    def slots(self) -> int:
        """Sinks, ring and middle."""
        return self.window + self.middle

    def reach(self, row: int) -> int:
        """The middle as far as it is filled."""
        return min(self.taken(row), self.slots)

    def evict(self, cache: KVCache, row: int, placement: Placement) -> None:
        """Move the frames that leave the ring into the middle, or let their tokens compete for it."""
        first = self.taken(row) - len(placement.evicted) - self.window
        for n, slot in enumerate(placement.evicted, start=first):
            if n < self.middle:
                target = self.window + n
                for tensor in (cache.keys, cache.values):
                    tensor[:, row, target] = tensor[:, row, slot]
                cache.written[:, row, target].fill_(between(self.sinks, n, self.middle))
            else:
                self._compress(cache, row, slot)

    def _compress(self, cache: KVCache, row: int, slot: int) -> None:
        assert cache.queries is not None
        for layer in range(cache.shape.layers):
            keys, values = (
                torch.cat((tensor[layer, row, self.window : self.slots], tensor[layer, row, slot : slot + 1])).flatten(0, 1)
                for tensor in (cache.keys, cache.values)
            )
            kept = most_attended(cache.queries[layer, row, :: self._stride], keys, self.middle * cache.shape.tokens)
            for tensor, tokens in ((cache.keys, keys), (cache.values, values)):
                tensor[layer, row, self.window : self.slots] = tokens[kept].unflatten(0, (self.middle, -1))


def most_attended(queries: Tensor, keys: Tensor, count: int) -> Tensor:
    """Indices [count], ascending, of the keys [N, H, D] with the largest sum of attention from queries [Q, H, D] over all heads."""
    logits = torch.einsum("qhd,nhd->hqn", queries.float(), keys.float()) * queries.shape[-1] ** -0.5
    best: Tensor = logits.softmax(-1).sum((0, 1)).topk(count).indices
    return best.sort().values
