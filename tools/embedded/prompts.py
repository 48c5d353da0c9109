"""Prompts for training: the phrasings of each look woven into sentences, and the word list of the tokenizer."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .looks import Look

TEMPLATES = (
    "{look}", "{look}", "{look}", "{look} style", "in the style of {look}", "as {look}", "a {look} of a {subject}",
    "{subject}, {look}", "{look}, {subject}", "a {subject} in {look} style", "{look}, {word}", "{word} {look}",
    "{look}, {word}, {other}", "a {word} {subject}, {look}", "a picture of a {subject} as {look}, {word}",
)  # fmt: skip
WORDS = (
    "highly detailed", "beautiful", "vivid", "dramatic", "masterpiece", "best quality", "4k", "artistic", "dreamy",
    "cinematic", "sharp", "intricate", "elegant", "live performance", "concert visuals", "trending", "abstract",
)  # fmt: skip
SUBJECTS = (
    "person", "face", "portrait", "woman", "man", "dancer", "singer", "crowd", "band", "stage", "city", "street",
    "landscape", "forest", "flower", "cat", "dog", "car", "room", "hand", "body", "sky", "house", "child", "guitar",
)  # fmt: skip


def sample_prompt(look: Look, *, generator: np.random.Generator) -> str:
    """One way to ask for `look`."""
    phrase = look.prompts[int(generator.integers(len(look.prompts)))]
    if generator.random() < 0.4:
        phrase = look.name
    template = TEMPLATES[int(generator.integers(len(TEMPLATES)))]
    word, other = generator.choice(WORDS, size=2, replace=False)
    return template.format(look=phrase, word=word, other=other, subject=generator.choice(SUBJECTS))


def prompt_variants(looks: Sequence[Look], *, count: int, seed: int) -> list[list[str]]:
    """`count` prompts for each look; the first is its plain name."""
    generator = np.random.default_rng(seed)
    return [[look.name, *(sample_prompt(look, generator=generator) for _ in range(count - 1))] for look in looks]


def corpus(looks: Sequence[Look], data: Path) -> list[str]:
    """Texts whose words the tokenizer should know: our prompts many times, the style table's once."""
    ours = [text for texts in prompt_variants(looks, count=40, seed=7) for text in texts]
    rows = json.loads((data / "styles.json").read_text(encoding="utf-8"))
    return ours + [str(row["name"]) for row in rows] + [str(row["prompt"]) for row in rows]
