"""Every change of the live values to the engine as it comes, and everything to a new engine. Knows no processes."""

from __future__ import annotations

import threading

from engine.control.live_values import LiveValues
from engine.control.parameter import Kind, Value
from engine.control.table import BY_NAME
from engine.live_channel import BridgeEnd

_LOOK_SECONDS = 0.05


class ValueFeed:
    """A thread that sleeps until a value changes. A trigger goes to one engine once; one fired in between goes to the next."""

    def __init__(self, values: LiveValues) -> None:
        self._values = values
        self._sending = threading.Lock()
        self._channel: BridgeEnd | None = None
        self._served: BridgeEnd | None = None
        self._version = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine values", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the engine is gone or about to go."""
        self._stopping.set()
        self._thread.join(5.0)

    def serve(self, channel: BridgeEnd) -> None:
        """From now on feed this engine: all values first."""
        self._channel = channel

    def leave(self, channel: BridgeEnd) -> None:
        """Close the channel of an engine that is gone, when nothing is being sent any more."""
        with self._sending:
            self._channel = None
            channel.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            channel = self._channel
            if channel is None:
                self._stopping.wait(_LOOK_SECONDS)
            elif channel is not self._served or self._values.wait_for_change(self._version, _LOOK_SECONDS):
                self._send(channel)

    def _send(self, channel: BridgeEnd) -> None:
        newest, changes = self._values.changes_since(self._version)
        triggers = [change.name for change in changes if BY_NAME[change.name].kind is Kind.TRIGGER]
        live = {change.name: change.value for change in changes if not BY_NAME[change.name].read_only}
        some: dict[str, Value] = {name: value for name, value in live.items() if name not in triggers}
        if channel is not self._served:
            some = self._values.targets()
        with self._sending:
            if self._channel is not channel:
                return
            if some or triggers:
                try:
                    channel.send(some, triggers)
                except OSError:
                    self._channel = None  # the engine is dead: what it did not get goes to the next one
                    return
        self._version, self._served = newest, channel
