"""Parameters: what becomes legal, what is refused, and the ways a number travels."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.control.parameter import BadValue, Kind, Parameter
from engine.control.table import BY_NAME, FORMER_NAMES, NUMBERS, TABLE, UnknownParameter, find

FLOAT = Parameter(name="x", group="g", kind=Kind.FLOAT, default=1.0, range=(0.5, 8.0), logarithmic=True, doc="")
LIST = Parameter(name="l", group="g", kind=Kind.LIST, default=(), range=(0, 999), longest=3, doc="")


@pytest.mark.parametrize(("raw", "legal"), [(2, 2.0), (True, 1.0), (99, 8.0), (-3.5, 0.5), ("4", 4.0), (2**80, 8.0)])
def test_numbers_are_taken_for_each_other_and_clamped(raw: object, legal: float) -> None:
    assert FLOAT.coerce(raw) == legal
    assert type(FLOAT.coerce(raw)) is float


@pytest.mark.parametrize("raw", [math.nan, math.inf, -math.inf, "abc", None, [1], b"1", 10**400])
def test_what_is_no_finite_number_is_refused(raw: object) -> None:
    with pytest.raises(BadValue, match="x takes a"):
        FLOAT.coerce(raw)


def test_choices_take_names_positions_and_nothing_else() -> None:
    fit = find("fit")
    assert fit.coerce("Letterbox") == "letterbox"
    assert fit.coerce(1) == fit.choices[1]
    assert fit.coerce(99.0) == fit.choices[-1]
    with pytest.raises(BadValue, match="fill, fit, letterbox, stretch"):
        fit.coerce("crop")


def test_lists_take_one_number_many_or_a_text() -> None:
    assert LIST.coerce(5) == (5,)
    assert LIST.coerce([2000, -1, 3.4]) == (999, 0, 3)
    assert LIST.coerce("7, 8") == (7, 8)
    with pytest.raises(BadValue, match="at most 3"):
        LIST.coerce([1, 2, 3, 4])


@given(st.floats(0, 1))
def test_a_knob_comes_back_to_its_place(position: float) -> None:
    value = FLOAT.from_unit_interval(position)
    assert isinstance(value, float)
    assert FLOAT.to_unit_interval(value) == pytest.approx(position, abs=1e-9)


def test_a_logarithmic_knob_stands_at_the_geometric_mean_in_the_middle() -> None:
    assert FLOAT.from_unit_interval(0.5) == pytest.approx(math.sqrt(0.5 * 8.0))


def test_a_row_that_contradicts_itself_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="default"):
        Parameter(name="x", group="g", kind=Kind.FLOAT, default=9.0, range=(0, 1), doc="")
    with pytest.raises(ValueError, match="range"):
        Parameter(name="x", group="g", kind=Kind.INT, default=0, doc="")


def test_every_row_of_the_table_survives_its_own_journey() -> None:
    for row in NUMBERS:
        assert row.from_number(row.to_number(row.default)) == row.default, row.name
    assert len(BY_NAME) == len(TABLE)
    assert all(find(old).name == new for old, new in FORMER_NAMES.items())


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(UnknownParameter, match="'strenght'; did you mean 'strength'"):
        find("strenght")


def test_touchdesigner_names_stay_apart() -> None:
    squeezed = [row.name.replace("_", "") for row in TABLE]
    assert len(set(squeezed)) == len(squeezed)
