"""The model card: its fixed text from card.md and card_limits.md, its figures from the training record and the judge's report."""

import csv
import json
from pathlib import Path
from typing import Any

import safetensors

from .export import megabytes

HERE = Path(__file__).parent


def write_card(out: Path, *, work: Path) -> None:
    """Write MODEL.md into the folder `out`; `work` holds training.csv and judge.json."""
    report = json.loads((work / "judge.json").read_text(encoding="utf-8"))
    with (work / "training.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    parts = {name: f"{parameters(out / name):,}" for name in ("transformer", "vae", "text_encoder")}
    text = (HERE / "card.md").read_text(encoding="utf-8").format(
        **parts,
        megabytes=f"{megabytes(out):.0f}",
        steps=f"{int(float(rows[-1]['step'])):,}",
        minutes=f"{float(rows[-1]['seconds']) / 60:.0f}",
        limits=(HERE / "card_limits.md").read_text(encoding="utf-8").strip(),
        curve=curve(rows),
        looks=look_table(report["looks"]),
        dreams=dream_table(report["dreams"]),
        rates=rate_table(report["rates"]),
    )  # fmt: skip
    (out / "MODEL.md").write_text(text, encoding="utf-8")


def parameters(folder: Path) -> int:
    """Numbers in the safetensors files of a folder."""
    count = 0
    for file in folder.glob("*.safetensors"):
        with safetensors.safe_open(file, framework="pt") as opened:
            count += sum(opened.get_tensor(name).numel() for name in opened.keys())  # noqa: SIM118
    return count


def curve(rows: list[dict[str, str]], *, parts: int = 8) -> str:
    """The loss along the way, means over eighths of the run."""
    size = max(len(rows) // parts, 1)
    lines = ["| minutes | steps | loss |", "|---|---|---|"]
    for start in range(0, len(rows) - size + 1, size):
        part = rows[start : start + size]
        loss = sum(float(row["loss"]) for row in part) / len(part)
        lines.append(f"| {float(part[-1]['seconds']) / 60:.0f} | {int(float(part[-1]['step']))} | {loss:.3f} |")
    return "\n".join(lines)


def look_table(looks: dict[str, dict[str, float]]) -> str:
    """One row a look."""
    lines = ["| look | PSNR | autoencoder alone | wrong clip | found | flicker | drawn look's |", "|---|---|---|---|---|---|---|"]
    for name, row in looks.items():
        lines.append(
            f"| {name} | {row['psnr']:.1f} | {row['by_codec']:.1f} | {row['other']:.1f} | {100 * row['found']:.0f} % | "
            f"{row['flicker']:.3f} | {row['flicker_drawn']:.3f} |"
        )
    means = {key: sum(row[key] for row in looks.values()) / len(looks) for key in next(iter(looks.values()))}
    lines.append(
        f"| mean | {means['psnr']:.1f} | {means['by_codec']:.1f} | {means['other']:.1f} | {100 * means['found']:.0f} % | "
        f"{means['flicker']:.3f} | {means['flicker_drawn']:.3f} |"
    )
    return "\n".join(lines)


def dream_table(dreams: dict[str, dict[str, float]]) -> str:
    """One row a prompt."""
    lines = ["| prompt | change a picture | brightness, first and last tenth | contrast, first and last tenth |", "|---|---|---|---|"]
    for name, row in dreams.items():
        lines.append(
            f"| {name} | {row['change']:.3f} | {row['early_mean']:.2f}, {row['late_mean']:.2f} | "
            f"{row['early_contrast']:.2f}, {row['late_contrast']:.2f} |"
        )
    return "\n".join(lines)


def rate_table(rates: list[dict[str, Any]]) -> str:
    """One row a size, number of steps and of threads; nothing if no rates were taken."""
    if not rates:
        return ""
    lines = ["| size | steps | threads | fps |", "|---|---|---|---|"]
    lines += [f"| {row['side']} | {row['steps']} | {row['threads']} | {row['fps']:.1f} |" for row in rates]
    return "\n".join(lines)
