"""OpenVINO as the runtime of a stream on a CPU: what is compiled runs there, everything else in torch, and the picture never waits.

OpenVINO itself is imported on the thread beside: a stream starts without it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from engine.runtimes.comparison import SLOWER, Comparison
from engine.runtimes.runtime import NO_OPTIONS, CannotRun, Key, TorchRuntime

if TYPE_CHECKING:
    from engine.runtimes.openvino_network import CompiledNetwork, OpenVinoCompiler

log = logging.getLogger(__name__)

SEEN_BEFORE_COMPILING = 3
"""Calls of a shape before it is worth compiling: passing states (a start, a change of steps) run in torch."""
KEPT = 16
KEYS_COUNTED = 1000


class OpenVinoRuntime:
    """Runs each network at each set of shapes in torch until OpenVINO has compiled them on a thread beside.

    Shapes that settle in the same round of calls are prepared together, and change over together. wait: compile at first sight
    and wait for it, so that the same frames always run in the same runtime. compare: count some calls before the change and as
    many after it, and go back to torch for good if OpenVINO is slower. What cannot be compiled, or fails while it runs, is told
    in one line and runs in torch from then on. Calls come from one thread. clock: seconds, for the comparison.
    """

    def __init__(
        self, *, torch_name: str, threads: int, wait: bool, compare: bool = False, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._torch = TorchRuntime(torch_name)
        self._threads, self._wait, self._compare, self._clock = threads, wait, compare, clock
        self._seen: Counter[Key] = Counter()
        self._asked: dict[Key, nn.Module] = {}
        self._preparing: dict[Key, nn.Module] = {}
        self._job: Future[dict[Key, CompiledNetwork | CannotRun]] | None = None
        self._ready: dict[Key, CompiledNetwork] = {}
        self._comparisons: dict[Key, Comparison] = {}
        self._parts: set[str] = set()
        self._in_torch: set[str] = set()
        self._stopped = False
        self._told: set[str] = set()
        self._compiler: OpenVinoCompiler | None = None
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="openvino")

    @property
    def name(self) -> str:
        """What runs at present: torch, with a word if OpenVINO is on its way, or OpenVINO and which parts are not in it."""
        waiting = {part for part, _ in self._preparing} | {part for part, _ in filter(self._held_back, self._ready)}
        precisions = {part: network.precision for (part, _), network in self._ready.items() if part not in waiting}
        if self._stopped or (self._parts and self._parts <= self._in_torch):
            return self._torch.name
        if not precisions:
            return f"{self._torch.name} (OpenVINO is being prepared)"
        left = sorted(self._parts - set(precisions))
        apart = f" ({', '.join(left)} in {self._torch.name})" if left else ""
        return f"OpenVINO {'/'.join(dict.fromkeys(precisions.values()))}{apart}"

    def __call__(self, part: str, network: nn.Module, tensors: Sequence[Tensor], options: Mapping[str, Any] = NO_OPTIONS) -> Tensor:
        """OpenVINO's answer where it is ready, else torch's."""
        if self._stopped or part in self._in_torch:
            return self._torch(part, network, tensors, options)
        self._parts.add(part)
        if options:
            self._tell(f"with {', '.join(options).replace('_', ' ')} the {part} runs in torch: OpenVINO does not take that")
            return self._torch(part, network, tensors, options)
        key = (part, tuple(tuple(tensor.shape) for tensor in tensors))
        compiled = self._compiled(key, network)
        began = self._clock()
        if compiled is not None:
            try:
                answer = compiled(tensors)
            except Exception as error:
                self._leave(part, f"it failed while running ({error})")
                return self._torch(part, network, tensors)
        else:
            answer = self._torch(part, network, tensors)
        self._count(key, self._clock() - began)
        return answer

    def settle(self) -> None:
        """Wait until everything asked for is compiled or has failed; for measuring, not for the frame path."""
        while self._job is not None or self._asked:
            self._begin()
            self._take_over()

    def _compiled(self, key: Key, network: nn.Module) -> CompiledNetwork | None:
        """The network to run, or None for torch; asks for what is not there."""
        if self._job is not None and self._job.done():
            self._take_over()
        if key not in self._ready and key not in self._preparing and not self._stopped:
            self._ask(key, network)
        if key not in self._ready or self._held_back(key):
            return None
        self._ready[key] = self._ready.pop(key)  # the one asked for last is dropped last
        return self._ready[key]

    def _held_back(self, key: Key) -> bool:
        """Whether torch's calls are still being counted."""
        return key in self._comparisons and not self._comparisons[key].switched

    def _ask(self, key: Key, network: nn.Module) -> None:
        if key in self._asked:
            self._begin()  # a round of calls is over: what has settled by now belongs together
            return
        if len(self._seen) > KEYS_COUNTED:
            self._seen.clear()
        self._seen[key] += 1
        if self._wait or self._seen[key] >= SEEN_BEFORE_COMPILING:
            self._asked[key] = network
            while len(self._asked) > KEPT:
                self._asked.pop(next(iter(self._asked)))
        if self._wait:
            self.settle()

    def _begin(self) -> None:
        """Have what was asked for prepared, if nothing else is."""
        if self._job is None:
            self._preparing, self._asked = self._asked, {}
            self._job = self._beside.submit(self._prepare, self._preparing)

    def _prepare(self, wanted: Mapping[Key, nn.Module]) -> dict[Key, CompiledNetwork | CannotRun]:
        """On the thread beside."""
        from engine.runtimes.openvino_network import OpenVinoCompiler

        # Where nobody waits for a picture the networks are traced here; tracing beside a live stream would take turns with it.
        self._compiler = self._compiler or OpenVinoCompiler(threads=self._threads, trace_here=self._wait)
        return self._compiler.compiled(wanted)

    def _take_over(self) -> None:
        """Use what was prepared, waiting for it; between two calls of the stream."""
        assert self._job is not None
        job, self._job, self._preparing = self._job, None, {}
        try:
            results = job.result()
        except Exception as error:  # whatever an installation can lack
            self._stop()
            self._tell(f"OpenVINO cannot be used ({error}): torch runs the model")
            return
        for key, outcome in results.items():
            if isinstance(outcome, CannotRun):
                self._leave(key[0], str(outcome))
        compiled = {k: n for k, n in results.items() if not isinstance(n, CannotRun) and k[0] not in self._in_torch}
        self._ready |= compiled
        while len(self._ready) > KEPT:
            self._drop(next(iter(self._ready)))
        if self._compare:
            comparison = Comparison(compiled)
            self._comparisons |= dict.fromkeys(compiled, comparison)
        elif compiled:
            log.info("the model runs in %s", self.name)

    def _count(self, key: Key, seconds: float) -> None:
        """A call and how long it took. What ran beside a compiler counts for nobody."""
        comparison = self._comparisons.get(key)
        if comparison is None or self._job is not None:
            return
        comparison.count(key, seconds)
        if not comparison.counted:
            return
        if not comparison.switched:
            comparison.switched = True
            log.info("the model runs in %s", self.name)
            return
        for compared in comparison.keys:
            del self._comparisons[compared]
        if (ratio := comparison.ratio()) > SLOWER:
            self._stop()
            log.info("the model runs in %s again: OpenVINO takes %.2f of its time here", self.name, ratio)

    def _drop(self, key: Key) -> None:
        self._ready.pop(key, None)
        if (comparison := self._comparisons.pop(key, None)) is not None:
            comparison.forget(key)

    def _stop(self) -> None:
        """Everything runs in torch for good."""
        self._stopped = True
        self._asked, self._preparing, self._ready, self._comparisons = {}, {}, {}, {}
        self._job = self._compiler = None

    def _leave(self, part: str, why: str) -> None:
        """This part runs in torch for good."""
        self._in_torch.add(part)
        self._asked = {key: network for key, network in self._asked.items() if key[0] != part}
        for key in [key for key in self._ready if key[0] == part]:
            self._drop(key)
        self._tell(f"OpenVINO does not run the {part}: {why}; torch runs it")

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text)
