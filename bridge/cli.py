"""The command line: what may be typed, and mistakes told in one line. Imports no torch, no OpenCV, no device."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.mistake import PLAIN, Mistake

if TYPE_CHECKING:
    from bridge.opening import Opening

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130
OSC_PORT, WEB_PORT = 9000, 8000

Source = Annotated[str, typer.Option(help="test, ndi:NAME, ndi://HOST:PORT, camera:0, null, frames:FOLDER, or a clip.")]
Sinks = Annotated[
    list[str] | None,
    typer.Option("--sink", help="ndi:NAME, null, frames:FOLDER or a clip to record; may be given again."),
]
Model = Annotated[str, typer.Option(help="A name from `phosphene models`, a hub id, a folder or a file.")]
Preset = Annotated[str | None, typer.Option(help="A name from `phosphene presets`, or a file.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter's first value; may be given again."),
]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Size the model works at.")]
OutputSize = Annotated[str | None, typer.Option(metavar="WxH", help="Size of finished frames.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Accelerate = Annotated[str, typer.Option(help="auto, none, openvino or compile.")]
Linears = Annotated[str, typer.Option(help="native, or fp8 (video models on an NVIDIA GPU that has it).")]
Coder = Annotated[str, typer.Option("--autoencoder", help="auto, own, tiny, a hub id or a folder.")]
Ranks = Annotated[int, typer.Option(help="Processes that make a video stream together, each with its GPU.")]
Parallel = Annotated[str, typer.Option(help="What the ranks share: layers or steps.")]
CodecRank = Annotated[bool, typer.Option("--codec-rank", help="The last rank encodes and decodes, the others denoise.")]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="PATH=SCALE", help="A LoRA merged at load; may be given again."),
]
Seconds = Annotated[float | None, typer.Option(min=0.0, help="End after that time of running.")]
Frames = Annotated[int, typer.Option(min=0, help="End after that many finished frames; 0 = no end.")]
Fps = Annotated[float | None, typer.Option(min=0.0, max=240.0, help="Output rate; 0 passes each frame on.")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Which noise is used.")]
Report = Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write the run's figures here.")]

app = typer.Typer(
    name="phosphene",
    help="A generative video effect for live performance: frames in over NDI, streaming diffusion, frames out over NDI.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def start() -> None:
    """Where the console script begins."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the console cannot spell must not end a show
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. A mistake of the user is one line and code 2."""
    try:
        done = typer.main.get_command(app)(args=list(arguments), prog_name="phosphene", standalone_mode=False)
    except PLAIN as mistake:
        return _told(str(mistake))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our list has seen enough
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except Exception as error:
        # Typer brings its own copy of click or uses the installed one: a usage error is known by what it can do.
        words = getattr(error, "format_message", None)
        if words is None:
            raise
        return _told(words())
    return done if isinstance(done, int) else 0


def _told(text: str) -> int:
    print("phosphene: " + " ".join(text.split()), file=sys.stderr)
    return EXIT_MISTAKE


@app.callback(invoke_without_command=True)
def entry(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Say which version this is, and end.")] = False,
) -> None:
    """A generative video effect for live performance."""
    if version:
        from bridge.report import version as installed

        typer.echo(f"phosphene {installed()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def run(
    source: Source = "test",
    sink: Sinks = None,
    model: Model = "embedded",
    preset: Preset = None,
    set_: Sets = None,
    size: Size = None,
    output_size: OutputSize = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    accelerate: Accelerate = "auto",
    linears: Linears = "native",
    autoencoder: Coder = "auto",
    lora: Loras = None,
    ranks: Ranks = 1,
    parallel: Parallel = "layers",
    codec_rank: CodecRank = False,
    seconds: Seconds = None,
    frames: Frames = 0,
    fps: Fps = None,
    seed: Seed = None,
    osc_host: Annotated[str, typer.Option(help="Address to listen on for OSC.")] = "127.0.0.1",
    osc_port: Annotated[int, typer.Option(min=0, max=65535, help="UDP port for OSC; 0 = any.")] = OSC_PORT,
    web_host: Annotated[str, typer.Option(help="Address of the web page.")] = "127.0.0.1",
    web_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the web page; 0 = any.")] = None,
    no_web: Annotated[bool, typer.Option("--no-web", help="No web page.")] = False,
    report: Report = None,
    in_process: Annotated[bool, typer.Option("--in-process", help="One process only, for debugging.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Run live. Without arguments: a test pattern in, the NDI sender Phosphene out, the embedded model."""
    from bridge.opening import Wishes, open_with

    opening = open_with(Wishes(
        model=model, preset=preset, assignments=tuple(set_ or ()), size=size, output_size=output_size, seed=seed, fps=fps,
        device=device, dtype=dtype, accelerate=accelerate, autoencoder=autoencoder, loras=tuple(lora or ()),
        ranks=ranks, parallel=parallel, codec_rank=codec_rank, linears=linears,
    ))  # fmt: skip
    if in_process and ranks > 1:
        raise Mistake("--in-process is one process; leave it or --ranks out")
    if _worked_as_rank(opening, live=True):
        return
    from bridge.app import RunOptions, run_live

    options = RunOptions(
        source=source, sinks=tuple(sink or ()), seconds=seconds, frames=frames, osc_host=osc_host, osc_port=osc_port,
        web_host=web_host, web_port=None if no_web else WEB_PORT if web_port is None else web_port,
        web_needed=web_port is not None, in_process=in_process, report=report,
    )  # fmt: skip
    run_live(options, opening, quiet=quiet)


@app.command()
def render(
    source: Annotated[str, typer.Argument(metavar="IN", help="A clip, a picture, or frames:FOLDER.")],
    sink: Annotated[str, typer.Argument(metavar="OUT", help="A clip ending in .mp4, .mov or .mkv, or frames:FOLDER.")],
    model: Model = "embedded",
    preset: Preset = None,
    set_: Sets = None,
    size: Size = None,
    output_size: OutputSize = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    accelerate: Accelerate = "auto",
    linears: Linears = "native",
    autoencoder: Coder = "auto",
    lora: Loras = None,
    ranks: Ranks = 1,
    parallel: Parallel = "layers",
    codec_rank: CodecRank = False,
    frames: Frames = 0,
    fps: Annotated[float | None, typer.Option(min=0.01, max=240.0, help="Rate of IN; else what it says.")] = None,
    seed: Seed = None,
    report: Report = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Render a clip: every frame, in order, the same bytes for the same seed."""
    from bridge.opening import Wishes, open_with

    wishes = Wishes(
        model=model, preset=preset, assignments=tuple(set_ or ()), size=size, output_size=output_size, seed=seed, fps=None,
        device=device, dtype=dtype, accelerate=accelerate, autoencoder=autoencoder, loras=tuple(lora or ()),
        ranks=ranks, parallel=parallel, codec_rank=codec_rank, linears=linears,
    )  # fmt: skip
    opening = open_with(wishes)
    if _worked_as_rank(opening, live=False):
        return
    from bridge.render import RenderOptions
    from bridge.render import render as render_clip

    options = RenderOptions(source=source, sink=sink, fps=fps, frames=frames, report=report, quiet=quiet)
    if not render_clip(options, opening):
        raise typer.Exit(EXIT_INTERRUPTED)


def _worked_as_rank(opening: Opening, *, live: bool) -> bool:
    """Whether torchrun started this process to work for rank 0, which it has done then; the bridge is rank 0's."""
    if opening.settings.ranks == 1 or os.environ.get("RANK", "0") == "0":
        return False
    from engine.pipelines.rank_team import live_if_further

    return live_if_further(opening.settings, live=live)


@app.command()
def sources() -> None:
    """List what frames can come from here."""
    from bridge.lists import list_sources

    list_sources()


@app.command()
def models() -> None:
    """List the models known by name."""
    from bridge.lists import list_models

    list_models()


@app.command()
def presets() -> None:
    """List the presets."""
    from bridge.lists import list_presets

    list_presets()


@app.command()
def doctor(
    osc_port: Annotated[int, typer.Option(min=0, max=65535)] = OSC_PORT,
    web_port: Annotated[int, typer.Option(min=0, max=65535)] = WEB_PORT,
) -> None:
    """Look whether everything a run needs is here."""
    from bridge.doctor import examine

    if not examine(osc_port=osc_port, web_port=web_port):
        raise typer.Exit(1)
