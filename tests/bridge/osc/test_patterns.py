"""Address patterns against Python's regular expressions on the same language, and a pattern that ruins those."""

from __future__ import annotations

import random
import re

import pytest

from bridge.osc.patterns import PatternMatch


@pytest.mark.parametrize(
    ("pattern", "address", "fits"),
    [
        ("/diffusion/*", "/diffusion/strength", True),
        ("/diffusion/*", "/diffusion", False),
        ("/*", "/diffusion/strength", False),
        ("/*/strength", "/diffusion/strength", True),
        ("/prompt_?", "/prompt_2", True),
        ("/prompt_?", "/prompt_22", False),
        ("/prompt_[2-3]", "/prompt_3", True),
        ("/prompt_[2-3]", "/prompt_4", False),
        ("/prompt_[!2-3]", "/prompt_4", True),
        ("/{seed,mix}", "/mix", True),
        ("/{seed,mix}", "/mi", False),
        ("/{seed,see}d", "/seed", True),
        ("/s*e*d", "/seed", True),
        ("/[seed", "/s", False),
        ("/{seed", "/seed", False),
        ("/str*", "/strength", True),
        ("/str*x", "/strength", False),
    ],
)
def test_examples(pattern: str, address: str, fits: bool) -> None:
    assert PatternMatch(pattern)(address) is fits


def test_agrees_with_regular_expressions() -> None:
    rng, agreed = random.Random(5), 0
    pieces = {"*": "[^/]*", "?": "[^/]", "[a-b]": "[a-b]", "[!ab]": "[^ab/]", "{a,bc}": "(?:a|bc)", "a": "a", "/": "/"}
    for _ in range(4000):
        chosen = rng.choices(list(pieces), k=rng.randrange(1, 7))
        address = "/" + "".join(rng.choices("abc/", k=rng.randrange(1, 8)))
        expected = re.fullmatch("/" + "".join(pieces[piece] for piece in chosen), address) is not None
        assert PatternMatch("/" + "".join(chosen))(address) is expected, (chosen, address)
        agreed += expected
    assert agreed > 100


def test_many_stars_take_a_bounded_number_of_steps() -> None:
    """A backtracking matcher would need more than 10^20 steps here; this one returns."""
    assert not PatternMatch("/" + "*" * 60 + "Z")("/" + "a" * 200)
