"""NDI as a live source and a live sink, each in a process of its own unless asked otherwise. The NDI itself is in `ndi`."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.ndi.receiver import NdiReceiver
from bridge.ndi.receiver_process import NdiReceiverProcess
from bridge.ndi.sender import NdiSender
from bridge.ndi.sender_process import NdiSenderProcess
from bridge.report import version
from bridge.sources.own_thread import Put
from engine.frames import Frame


class NdiSourceDevice:
    """An NDI receiver as a live source."""

    ended = False

    def __init__(self, put: Put, wanted: str, *, ignore: Sequence[str], in_process: bool = False) -> None:
        """wanted: a name or host:port. ignore: senders of ours, which `any` must not find. in_process: no process of
        its own, for debugging."""
        self._wanted = wanted
        kind = NdiReceiver if in_process else NdiReceiverProcess
        self._receiver = kind(source=wanted, put=put, ignore=ignore)

    @property
    def state(self) -> str:
        """waiting, connected or stale."""
        return self._receiver.statistics().state.value

    @property
    def error(self) -> str:
        """Why it is not connected, or what is wrong with its frames."""
        return self._receiver.statistics().last_error

    def set_tally(self, *, program: bool, preview: bool) -> None:
        """What the sender is told about itself."""
        self._receiver.set_tally(program=program, preview=preview)

    def start(self) -> None:
        """Look for the source and receive it whenever it is there. Raises NdiUnavailable."""
        self._receiver.start()

    def stop(self) -> None:
        """End within two seconds."""
        self._receiver.stop()

    def describe(self) -> str:
        """One line."""
        found = self._receiver.statistics()
        size = f" {found.width}x{found.height}" if found.width else ""
        return f"NDI {found.source_name or self._wanted}{size}"


class NdiSinkDevice:
    """An NDI sender as a live sink."""

    def __init__(self, name: str, *, fps: float, size: tuple[int, int] | None = None, in_process: bool = False) -> None:
        """fps: Hz, 0 = unknown. size: (width, height) of its frames if known. in_process: no process of its own, for
        debugging."""
        self._name = name
        rate = fps or 30.0
        self._sender = (
            NdiSender(name=name, frame_rate=rate, version=version())
            if in_process
            else NdiSenderProcess(name=name, frame_rate=rate, version=version(), size=size)
        )

    @property
    def error(self) -> str:
        """What went wrong with the newest frame or with the process that sends it."""
        return self._sender.statistics().last_error

    def start(self) -> None:
        """Announce the sender. Raises NdiUnavailable or NdiRefused."""
        self._sender.start()

    def stop(self) -> None:
        """End within two seconds."""
        self._sender.stop()

    def show(self, frame: Frame) -> None:
        """Send, if anyone receives."""
        self._sender.show(frame)

    def tally(self) -> tuple[bool, bool]:
        """Whether a receiver has it on program, and on preview."""
        statistics = self._sender.statistics()
        return statistics.on_program, statistics.on_preview

    def set_rate(self, fps: float) -> None:
        """Tell receivers another rate (Hz, above 0)."""
        self._sender.frame_rate = fps

    @property
    def source_name(self) -> str:
        """What receivers see; the machine's name is in it once the sender is announced."""
        return self._sender.statistics().source_name or self._name

    def describe(self) -> str:
        """One line: the name to pick in a receiving program."""
        return f"NDI {self.source_name}"
