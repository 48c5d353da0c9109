"""OSC address patterns matched in time proportional to pattern x address: no regular expressions, no backtracking."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[str, int], list[int]]
"""Positions in a text at which one element of a pattern may end, when it begins at the given one."""


class PatternMatch:
    """A pattern with `*`, `?`, `[a-z]`, `[!a-z]` and `{one,two}`; wildcards do not reach across a slash."""

    def __init__(self, pattern: str) -> None:
        self._parts = [_steps(part) for part in pattern.split("/")]

    def __call__(self, address: str) -> bool:
        """Whether the whole address fits."""
        parts = address.split("/")
        return len(parts) == len(self._parts) and all(map(_fits, self._parts, parts))


def _fits(steps: list[Step], text: str) -> bool:
    positions = {0}
    for step in steps:
        positions = {end for start in positions for end in step(text, start)}
        if not positions:
            return False
    return len(text) in positions


def _steps(part: str) -> list[Step]:
    steps: list[Step] = []
    at = 0
    while at < len(part):
        closing = {"[": "]", "{": "}"}.get(part[at])
        end = part.find(closing, at) if closing else -1
        if end > 0 and part[at] == "[":
            steps.append(_one_of(part[at + 1 : end]))
        elif end > 0:
            steps.append(_any_of(part[at + 1 : end].split(",")))
        else:
            steps.append(_any_run if part[at] == "*" else _any_letter if part[at] == "?" else _any_of([part[at]]))
        at = end + 1 if end > 0 else at + 1
    return steps


def _any_run(text: str, start: int) -> list[int]:
    return list(range(start, len(text) + 1))


def _any_letter(text: str, start: int) -> list[int]:
    return [start + 1] if start < len(text) else []


def _any_of(words: list[str]) -> Step:
    return lambda text, start: [start + len(word) for word in words if text.startswith(word, start)]


def _one_of(letters: str) -> Step:
    negated = letters.startswith("!")
    letters = letters[1:] if negated else letters
    legal = set(letters)
    for first, last in zip(letters, letters[2:], strict=False):
        if f"{first}-{last}" in letters:
            legal |= {chr(code) for code in range(ord(first), ord(last) + 1)}

    def step(text: str, start: int) -> list[int]:
        return [start + 1] if start < len(text) and (text[start] in legal) != negated else []

    return step
