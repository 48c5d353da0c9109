"""One frame of a clip under nine prompts, drawn by the engine's own stream: the picture of the README.

    python tools/draw_prompts.py --model engine/models/embedded --clip FILE --frame N --out docs/nine_prompts.jpg [--prompts a,b,...]

The frame comes first, then a picture for each prompt, five in a row. The same command writes the same file.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from embedded.looks import RECOMMENDED

from bridge.mistake import PLAIN
from bridge.opening import Opening, Wishes, open_with
from bridge.sources.decode import pictures_of
from bridge.sources.own_thread import SourceError
from engine.frames import Frame
from engine.pipelines.build import build_stream

Pixels = npt.NDArray[np.uint8]

PROMPTS = (
    "neon edges", "thermal camera", "lava", "aurora", "blueprint", "ink drawing", "rainy neon street at night",
    "old master portrait", "blacklight",
)  # fmt: skip
COLUMNS = 5
GAP = 6  # pixels of white between pictures
QUALITY = 92  # of the JPEG
INPUT = "input"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw one frame of a clip under several prompts.")
    parser.add_argument("--model", default="embedded", help="a model's name or folder, as for `phosphene render`")
    parser.add_argument("--clip", type=Path, required=True, help="a clip or a picture")
    parser.add_argument("--frame", type=int, default=0, help="which frame of it, from 0")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write, .jpg or .png")
    parser.add_argument("--prompts", default=",".join(PROMPTS), help=f"prompts with commas between; well known: {', '.join(RECOMMENDED)}")
    parser.add_argument("--size", type=int, default=256, help="side of each picture in pixels, a multiple of 8")
    parser.add_argument("--steps", type=int, default=2, help="denoising steps")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=2)
    return parser.parse_args()


def chosen_frame(clip: Path, number: int) -> Frame:
    """Frame `number` of a clip or picture. Raises ValueError if there is none, SourceError if the file cannot be read."""
    if number < 0:
        raise ValueError(f"--frame {number} is below 0, the first frame")
    picture = next(itertools.islice(pictures_of(clip), number, None), None)
    if picture is None:
        raise ValueError(f"{clip} has no frame {number}; take a smaller --frame")
    return Frame(pixels=picture.pixels, format=picture.format, captured_at=0.0, index=0)


def rgb(frame: Frame) -> Pixels:
    """The pixels of a BGRX or BGRA frame as uint8 RGB [H, W, 3]."""
    return np.ascontiguousarray(frame.pixels[..., 2::-1])


def drawn(frame: Frame, prompts: Sequence[str], opening: Opening) -> list[Pixels]:
    """`frame` at each prompt, uint8 RGB [H, W, 3]: each time the first picture of a stream that begins anew."""
    values = opening.values
    values.set_many({"prompt_fade": 0.0, "similarity_filter": False})
    stream = build_stream(opening.settings, values.snapshot(0.0), live=False)
    pictures = []
    for prompt in prompts:
        values.set("prompt", prompt)
        values.jump()
        stream.reset()
        finished = stream.step(frame, values.snapshot(0.0)) + stream.flush(values.snapshot(0.0))
        if not finished:
            raise ValueError(f"no picture came for {prompt!r}: {'; '.join(stream.problems()) or 'the stream gave none'}")
        pictures.append(rgb(finished[0]))
    return pictures


def fitted(picture: Pixels, side: int) -> Pixels:
    """The middle square of `picture` at `side` pixels, as the stream's fit `fill` cuts it."""
    height, width = picture.shape[:2]
    span = min(height, width)
    top, left = (height - span) // 2, (width - span) // 2
    return np.asarray(cv2.resize(picture[top : top + span, left : left + span], (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def labelled(picture: Pixels, text: str) -> Pixels:
    """`picture` with `text` in white on a dark band along its lower edge."""
    shown = picture.copy()
    scale = picture.shape[0] / 256
    band = round(26 * scale)
    shown[-band:] = shown[-band:] // 4
    place = (round(8 * scale), picture.shape[0] - round(8 * scale))
    cv2.putText(shown, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * scale, (255, 255, 255), max(round(scale), 1), cv2.LINE_AA)
    return shown


def grid(pictures: Sequence[Pixels], *, columns: int = COLUMNS) -> Pixels:
    """Equally large pictures row by row with white between them; the last row is filled up with white."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * (height + GAP), number % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def main() -> None:
    """Draw and write the picture."""
    options = arguments()
    prompts = [text.strip() for text in options.prompts.split(",") if text.strip()]
    assignments = (f"steps={options.steps}", f"strength={options.strength}")
    size = f"{options.size}x{options.size}"
    try:
        frame = chosen_frame(options.clip, options.frame)
        opening = open_with(Wishes(model=str(options.model), size=size, seed=options.seed, assignments=assignments))
        pictures = drawn(frame, prompts, opening)
    except (*PLAIN, SourceError, ValueError) as error:
        raise SystemExit(f"draw_prompts: {error}") from error
    shown = [fitted(rgb(frame), pictures[0].shape[0]), *pictures]
    sheet = grid([labelled(picture, text) for picture, text in zip(shown, [INPUT, *prompts], strict=True)])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(options.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
        raise SystemExit(f"draw_prompts: {options.out} could not be written; name a .jpg or .png file")
    print(f"{options.out}: {len(prompts)} prompts at {size}")


if __name__ == "__main__":
    main()
