"""Parameters from the bridge to the engine and readouts back, for the life of one engine process. No frames.

Numbers cross as one block in shared memory (a seqlock, doubles in table order), everything else over a pipe. The
block says how many pipe messages precede it, so that the numbers and texts of a preset land in one snapshot. A new
engine process gets a new channel, and first of all every value.
"""

from __future__ import annotations

import array
import collections
import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from engine import segments
from engine.control.live_values import LiveValues, Snapshot, values_of
from engine.control.parameter import NUMERIC, Value
from engine.control.table import NUMBERS, find

_GENERATION, _MESSAGES, _STOP = range(3)
_HEAD = 8
_BYTES = 8 * (_HEAD + len(NUMBERS))
_TRIES = 100
_UNSENT = 64

Message = dict[str, object]
"""What goes back: one JSON object. Its keys are the engine's (see engine.worker)."""


@dataclass(frozen=True, slots=True)
class ChannelHandle:
    """What a process started with `spawn` needs to attach the engine's end: given as an argument of the process only."""

    name: str
    inbox: Connection[bytes, bytes]
    outbox: Connection[bytes, bytes]


class BridgeEnd:
    """The side that gives values and gets messages. `send` may wait for an engine that is loading; the rest never does."""

    def __init__(self) -> None:
        self._segment = segments.create("values", _BYTES)
        self._words, self._numbers = _views(self._segment)
        self._fence = segments.Fence()
        inbox, self._outbox = Pipe(duplex=False)
        self.inbox, outbox = Pipe(duplex=False)
        self.handle = ChannelHandle(self._segment.name, inbox, outbox)
        self._sent = 0
        self._next = array.array("d", bytes(8 * len(NUMBERS)))

    def started(self) -> None:
        """The engine has its ends: close ours of them, so that its death is seen."""
        self.handle.inbox.close()
        self.handle.outbox.close()

    def send(self, values: Mapping[str, Value], triggers: Iterable[str] = ()) -> None:
        """Give the engine these values and fire these triggers, all in one snapshot. The first call gives all values.

        Readouts are left out. Raises OSError when the engine is gone: nothing of this call was received then.
        """
        rows = {name: find(name) for name in values}
        rest = {name: values[name] for name, row in rows.items() if row.kind not in NUMERIC and not row.read_only}
        fired = list(triggers)
        if rest or fired:
            self._outbox.send_bytes(json.dumps({"values": rest, "fired": fired}).encode())
            self._sent += 1
        for place, row in enumerate(NUMBERS):
            if row.name in rows:
                self._next[place] = row.to_number(values[row.name])
        words = self._words
        words[_GENERATION] += 1
        self._fence()
        self._numbers[:] = memoryview(self._next)  # one copy: the block is unreadable for as short as can be
        words[_MESSAGES] = self._sent
        self._fence()
        words[_GENERATION] += 1

    def stop(self) -> None:
        """Ask the engine to end."""
        self._words[_STOP] = 1

    def receive(self) -> list[Message]:
        """The messages that have come, oldest first. Raises EOFError when the engine is gone and all is read."""
        messages: list[Message] = []
        try:
            while self.inbox.poll(0):
                messages.append(json.loads(self.inbox.recv_bytes()))
        except (EOFError, OSError, ValueError):  # a killed engine may leave half a message
            if not messages:
                raise EOFError from None
        return messages

    def close(self) -> None:
        """Take the channel away."""
        self._words.release()
        self._numbers.release()
        self._segment.remove()
        for end in (self._outbox, self.inbox, self.handle.inbox, self.handle.outbox):
            end.close()


class EngineEnd:
    """The side that takes values over, one consistent snapshot at a time, and reports back without ever waiting."""

    def __init__(self, handle: ChannelHandle) -> None:
        self._segment = segments.attach(handle.name)
        self._words, self._numbers = _views(self._segment)
        self._fence = segments.Fence()
        self._inbox = handle.inbox
        self._generation = 0
        self._received = 0
        self._values = LiveValues()
        self._reports = _Reports(handle.outbox)

    @property
    def stopped(self) -> bool:
        """Whether the bridge asked the engine to end."""
        return bool(self._words[_STOP])

    def wait_for_values(self, timeout_seconds: float) -> bool:
        """Wait for the first values; False if they did not come in time. The next snapshot shows them unsmoothed."""
        until = time.monotonic() + timeout_seconds
        arrived = self._inbox.poll(timeout_seconds)
        while arrived and not self._received and time.monotonic() < until:
            self._take_over()
            time.sleep(0.001)  # the block follows its message at once
        self.jump()
        return self._received > 0

    def snapshot(self, dt_seconds: float) -> Snapshot:
        """The values of the next frame; everything the bridge had sent is in it. Raises EOFError without a bridge."""
        self._take_over()
        return self._values.snapshot(dt_seconds)

    def jump(self) -> None:
        """Take over what came meanwhile; the next snapshot shows it unsmoothed."""
        self._take_over()
        self._values.jump()

    def peek(self) -> Snapshot:
        """The values as they are, for building a stream: triggers stay for the first frame."""
        seen = self._values.snapshot(0.0)
        self._values.set_many(dict.fromkeys(seen.fired))
        return seen

    def tell(self, message: Message) -> None:
        """Send something that must arrive: a state, an error. Never waits."""
        self._reports.add(message)

    def tell_newest(self, message: Message) -> None:
        """Send readouts: one that could not be sent before the next is dropped. Never waits."""
        self._reports.replace(message)

    def finish(self, timeout_seconds: float) -> None:
        """Wait until what was told is sent, before the process ends."""
        self._reports.drain(timeout_seconds)

    def _take_over(self) -> None:
        if self._words[_GENERATION] == self._generation:
            return
        block = self._block()
        if block is None:
            return
        self._generation, messages, numbers = block
        values: dict[str, object] = dict(values_of(numbers))
        while self._received < messages:
            message = json.loads(self._inbox.recv_bytes())
            values |= message["values"] | dict.fromkeys(message["fired"])
            self._received += 1
        self._values.set_many(values, origin="bridge")

    def _block(self) -> tuple[int, int, list[float]] | None:
        for _ in range(_TRIES):
            before = self._words[_GENERATION]
            self._fence()
            messages, numbers = self._words[_MESSAGES], list(self._numbers)
            self._fence()
            if before == self._words[_GENERATION] and before % 2 == 0:
                return before, messages, numbers
        return None  # being written all the time: the next frame will see it


class _Reports:
    """Sends from its own thread, so that a bridge that does not read never holds up a frame."""

    def __init__(self, outbox: Connection[bytes, bytes]) -> None:
        self._outbox = outbox
        self._must_arrive: collections.deque[Message] = collections.deque(maxlen=_UNSENT)
        self._newest: Message | None = None
        self._sending = False
        self._changed = threading.Condition()
        threading.Thread(target=self._send_all, name="reports", daemon=True).start()

    def add(self, message: Message) -> None:
        with self._changed:
            self._must_arrive.append(message)
            self._changed.notify_all()

    def replace(self, message: Message) -> None:
        with self._changed:
            self._newest = message
            self._changed.notify_all()

    def drain(self, timeout_seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._sending and self._next_kind() is None, timeout_seconds)

    def _next_kind(self) -> str | None:
        return "event" if self._must_arrive else "readout" if self._newest is not None else None

    def _send_all(self) -> None:
        while True:
            with self._changed:
                self._sending = False
                self._changed.notify_all()
                self._changed.wait_for(self._next_kind)
                if self._must_arrive:
                    message: Message | None = self._must_arrive.popleft()
                else:
                    message, self._newest = self._newest, None
                self._sending = True
            try:
                self._outbox.send_bytes(json.dumps(message).encode())
            except OSError:
                return  # the bridge is gone; the engine ends by itself


def _views(segment: segments.Segment) -> tuple[memoryview[int], memoryview[float]]:
    words = segment.buffer[: 8 * _HEAD].cast("q")
    numbers = segment.buffer[8 * _HEAD : _BYTES].cast("d")
    return words, numbers
