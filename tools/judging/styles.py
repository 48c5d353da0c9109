"""Style accuracy: is a picture nearest to its own style among all the styles?"""

import numpy as np

from .features import Features
from .references import References, TeacherPictures
from .report import Cell, Figures, percent
from .studio import Studio
from .style_space import nearest, ranks, style_features, unit

HEADS = ("pictures", "example: nearest 1", "nearest 5", "teacher: nearest 1", "nearest 5", "likeness to example", "to teacher")


def measures(raw: Features, known: References) -> dict[str, float]:
    """Accuracy of pictures with raw features [S, P, D] against both targets, and their mean cosine with their own target.

    `example`: nearest of the styles' example pictures. `teacher`: nearest of the teacher's centroids over the other photos.
    """
    queries = known.space.picture(raw)
    right = range(len(raw))
    examples = known.space.example(known.examples)
    by_example = nearest(ranks(queries, examples, right))
    centroids = [known.centroids(photo) for photo in range(raw.shape[1])]
    ranked = np.concatenate([ranks(queries[:, p : p + 1], found, right) for p, found in enumerate(centroids)], axis=1)
    by_teacher = nearest(ranked)
    own = np.stack(centroids, axis=1)
    return {
        "example nearest 1": by_example["nearest 1"],
        "example nearest 5": by_example["nearest 5"],
        "teacher nearest 1": by_teacher["nearest 1"],
        "teacher nearest 5": by_teacher["nearest 5"],
        "likeness to example": float((queries * examples[:, None]).sum(-1).mean()),
        "likeness to teacher": float((queries * unit(own)).sum(-1).mean()),
    }


def contestants(studio: Studio, known: References, teacher: TeacherPictures) -> dict[str, Features]:
    """Raw features [S, P, D] of everything that is compared."""
    rebuilt = [style_features(studio.network, studio.through_autoencoder(teacher(style)))[0] for style in known.styles]
    plain, _ = style_features(studio.network, studio.photos)
    prompts = [style.prompt for style in known.styles]
    return {
        "model, full prompt, 1 step": studio.features(prompts),
        "model, full prompt, 2 steps": studio.features(prompts, steps=2),
        "model, bare name, 1 step": studio.features([style.name for style in known.styles]),
        "teacher": known.taught,
        "teacher through the model's autoencoder": np.stack(rebuilt),
        "photos as they are": np.broadcast_to(plain, known.taught.shape),
    }


def style_accuracy(studio: Studio, known: References, teacher: TeacherPictures) -> list[Figures]:
    """The table of contestants, and one of the styles that the model does worst and best."""
    found = contestants(studio, known, teacher)
    measured = {name: measures(raw, known) for name, raw in found.items()}
    count = len(known.styles)
    rows: list[list[Cell]] = []
    for name, values in measured.items():
        shares = [percent(value) for key, value in values.items() if "nearest" in key]
        rows.append([name, *shares, values["likeness to example"], values["likeness to teacher"]])
    rows.append(["chance", *(percent(share) for share in (1 / count, 5 / count) * 2), None, None])
    for top in ("teacher", "teacher through the model's autoencoder"):
        for name, values in measured.items():
            if name.startswith("model"):
                rows.append([f"{name} / {top}", *(f"{values[key] / max(measured[top][key], 1e-9):.2f}" for key in values)])
    title = f"Style accuracy over {count} styles x {len(studio.photos)} held-out photos"
    return [Figures(title, HEADS, rows), per_style(found["model, full prompt, 1 step"], known)]


def per_style(raw: Features, known: References) -> Figures:
    """Likeness to the teacher's centroid of every style, best first: the ten best and the thirty worst."""
    queries = known.space.picture(raw)
    own = np.stack([known.centroids(photo) for photo in range(raw.shape[1])], axis=1)
    likeness = (queries * own).sum(-1).mean(axis=1)
    order = np.argsort(-likeness)
    shown = order if len(order) <= 40 else np.concatenate([order[:10], order[-30:]])
    rows: list[list[Cell]] = [[known.styles[i].key, known.styles[i].prompt[:60], float(likeness[i])] for i in shown]
    return Figures("Likeness to the teacher by style (ten best, thirty worst)", ("style", "prompt", "likeness"), rows)
