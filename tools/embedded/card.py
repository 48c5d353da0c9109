"""The model card: its fixed text from card.md, and every figure from the folder, the training records and the judge's report."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
from judging.report import Figures, markdown

from .concepts import Concept, ordinary_words
from .looks import RECOMMENDED

PARTS = ("unet", "vae", "text_encoder")
CURVE_ROWS = 8
CURVES = {
    "denoiser": {"latent": "latent error", "one_step": "one step from noise", "places": "features", "textures": "texture"},
    "inversion": {"style": "style distance", "pixels": "pixels"},
    "styling": {
        "contrast": "cross entropy of styles",
        "told": "nearest to their own of all styles",
        "example": "cross entropy of examples",
        "matched": "nearest to their own example",
        "places": "features",
        "mesh": "mesh",
    },
}
HERE = Path(__file__).parent


def write_card(out: Path, *, work: Path, judged: Path | None, facts: Mapping[str, object]) -> None:
    """Write MODEL.md into the model folder `out`.

    `work` holds the stages' CSVs, `judged` the judge's judge.json (its tables are taken over), `facts` what only the caller
    knows: looks, styles, tags, words, recommended, small_pairs, large_pairs, vocabulary. The history of the shipped weights and
    their limits are prose, in card_history.md and card_limits.md.
    """
    weights = [file for file in out.rglob("*") if file.is_file() and file.name != "MODEL.md"]
    values = {
        **{part: f"{parameters(out / part):,}" for part in PARTS},
        "megabytes": f"{sum(file.stat().st_size for file in weights) / 1e6:.1f}",
        "history": (HERE / "card_history.md").read_text(encoding="utf-8").strip(),
        "limits": (HERE / "card_limits.md").read_text(encoding="utf-8").strip(),
        "stages": stage_table(work),
        "curve": "\n\n".join(filter(None, (curve_table(work, stage) for stage in CURVES))),
        "figures": figure_tables(judged),
        **facts,
    }
    text = (HERE / "card.md").read_text(encoding="utf-8").format(**values)
    (out / "MODEL.md").write_text(text, encoding="utf-8")


def card_facts(concepts: Sequence[Concept], *, vocabulary: int) -> dict[str, object]:
    """What can be asked for, counted, and the size of the tokenizer's vocabulary."""
    kinds = [concept.kind for concept in concepts]
    return {
        "looks": kinds.count("look"),
        "tags": kinds.count("tags"),
        "styles": len(kinds) - kinds.count("look") - kinds.count("tags"),
        "words": f"{len(ordinary_words()):,}",
        "phrases": f"{sum(len(concept.phrases) for concept in concepts if concept.kind != 'tags'):,}",
        "recommended": ", ".join(f"`{name}`" for name in RECOMMENDED),
        "vocabulary": f"{vocabulary:,}",
    }


def parameters(folder: Path) -> int:
    """Numbers in the safetensors files of `folder`."""
    count = 0
    for file in folder.glob("*.safetensors"):
        with safetensors.safe_open(file, framework="np") as opened:
            for name in opened.keys():  # noqa: SIM118
                size = 1
                for side in opened.get_slice(name).get_shape():
                    size *= side
                count += size
    return count


def read_record(path: Path) -> list[dict[str, float]]:
    """The rows of a stage's CSV, none if it was not run."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def stage_table(work: Path) -> str:
    """Steps, minutes and last figures (means over the last tenth) of each stage."""
    lines = ["| stage | steps | minutes | at the end |", "|---|---|---|---|"]
    for stage in ("text", "autoencoder", "denoiser", "inversion", "tuning", "styling", "polish"):
        rows = read_record(work / f"{stage}.csv")
        if not rows:
            continue
        tail = rows[-max(len(rows) // 10, 1) :]
        names = [name for name in rows[0] if name not in ("step", "seconds")]
        ends = ", ".join(f"{name} {mean_of(tail, name):.3g}" for name in names)
        lines.append(f"| {stage} | {rows[-1]['step']:,.0f} | {rows[-1]['seconds'] / 60:.0f} | {ends} |")
    return "\n".join(lines)


def curve_table(work: Path, stage: str) -> str:
    """The losses of one of CURVES along the way, in about eight rows; nothing if it was not run."""
    rows = read_record(work / f"{stage}.csv")
    if not rows:
        return ""
    size = max(len(rows) // CURVE_ROWS, 1)
    names = CURVES[stage]
    lines = [f"| {stage}, minutes | " + " | ".join(names.values()) + " |", "|---" * (1 + len(names)) + "|"]
    for start in range(0, len(rows) - size + 1, size):
        part = rows[start : start + size]
        shown = [f"{mean_of(part, name):.3g}" for name in names]
        lines.append(f"| to {part[-1]['seconds'] / 60:.0f} | " + " | ".join("" if text == "nan" else text for text in shown) + " |")
    return "\n".join(lines)


def mean_of(rows: list[dict[str, float]], name: str) -> float:
    """Mean of a column over the rows that have it; NaN if none has."""
    values = [row[name] for row in rows if name in row and row[name] == row[name]]
    return sum(values) / len(values) if values else float("nan")


def figure_tables(judged: Path | None) -> str:
    """All tables of the judge's report, one heading lower than there."""
    if judged is None:
        return "## Figures\n\n`tools/judge_embedded.py` measures them."
    report = json.loads((judged / "judge.json").read_text(encoding="utf-8"))
    tables = [markdown(Figures(**figures)).replace("## ", "### ", 1) for found in report["sections"].values() for figures in found]
    return "\n".join(["## Figures", "", "By `tools/judge_embedded.py` (extra `judge`).", "", *tables]).strip()
