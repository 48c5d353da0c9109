"""What a live run says to the person at the screen: what runs and how to connect, and at the end what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.devices import LiveSink, LiveSource, NdiSinkDevice
from bridge.opening import Opening
from bridge.osc.addresses import PREFIX
from bridge.osc.server import OscServer
from bridge.report import RunReport, version
from bridge.status_line import StatusLine
from bridge.web import WebServer
from engine.control.live_values import Snapshot


def running(
    status: StatusLine,
    source: LiveSource,
    sinks: Sequence[LiveSink],
    osc: OscServer,
    web: WebServer | None,
    opening: Opening,
) -> None:
    """What has been started, one line a part."""
    targets = Snapshot(values=opening.values.targets())
    status.say(f"Phosphene {version()}")
    status.say(f"  model     {opening.settings.model} at {targets.whole('width')}x{targets.whole('height')}")
    status.say(f"  input     {source.describe()}")
    for sink in sinks:
        pick = "; pick that name in Resolume, OBS or TouchDesigner" if isinstance(sink, NdiSinkDevice) else ""
        status.say(f"  output    {sink.describe()}{pick}")
    if not sinks:
        status.say("  output    none but the web page")
    status.say(f"  control   {osc.describe()}; try: oscsend localhost {osc.port} {PREFIX}/strength f 0.6")
    if web is not None:
        status.say(f"  look      {web.describe()}")
    for note in opening.notes:
        status.say(f"  note      {note}")
    status.say("Ctrl-C ends.")


def over(status: StatusLine, report: RunReport) -> None:
    """One line on a run that ended."""
    latency = report.latency_ms
    status.say(
        f"{report.frames_out} frames in {report.seconds:.1f} s ({report.fps:.1f} fps), latency {latency.p50:.0f} ms "
        f"(p95 {latency.p95:.0f}, p99 {latency.p99:.0f}), dropped {report.dropped}, repeated {report.repeated}"
    )
