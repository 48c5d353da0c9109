"""Preset documents: what is legal, what old formats become, what is written."""

from __future__ import annotations

import pytest

from engine.control.live_values import LiveValues
from engine.control.presets import (
    FORMAT,
    MIGRATIONS,
    Preset,
    PresetError,
    capture,
    migrate,
    read_document,
    write_document,
)
from engine.control.table import TABLE

FORMAT_1: dict[str, object] = {
    "format": 1,
    "title": "Old look",
    "description": "As written by the first version.",
    "parameters": {"prompt": "neon edges", "denoise": 0.5, "sdmode": "image to image", "num_inference_steps": 2},
}


def document(**values: object) -> dict[str, object]:  # the words of a test, not an interface
    return {"format": FORMAT, "name": "Look", "description": "", "values": values}


def test_values_are_made_legal() -> None:
    preset = read_document(document(strength=3, steps=2.2, freeze=1, guidance="Self", step_list=[45, 32], seed="7"))
    assert dict(preset.values) == {
        "strength": 1.0, "steps": 2, "freeze": True, "guidance": "self", "step_list": (45, 32), "seed": 7,
    }  # fmt: skip


def test_a_preset_of_the_first_format_and_its_former_names_are_translated() -> None:
    preset = read_document(FORMAT_1)
    assert (preset.name, preset.description) == ("Old look", "As written by the first version.")
    assert dict(preset.values) == {"prompt": "neon edges", "strength": 0.5, "mode": "image_to_image", "steps": 2}


def test_migration_goes_step_by_step_and_leaves_the_original_alone() -> None:
    before = dict(FORMAT_1)
    assert migrate(FORMAT_1)["format"] == FORMAT == len(MIGRATIONS) + 1
    assert before == FORMAT_1
    assert migrate(document(mix=1)) == document(mix=1)


@pytest.mark.parametrize(
    ("broken", "sentence", "key"),
    [
        (None, "a preset is a mapping", ""),
        (["prompt"], "a preset is a mapping", ""),
        ({1: 2}, "a preset is a mapping", ""),
        ({"name": "x"}, "'format' is a whole number", "format"),
        ({"format": True, "name": "x"}, "'format' is a whole number", "format"),
        ({"format": 0, "name": "x"}, "'format' is a whole number", "format"),
        ({"format": FORMAT + 1, "name": "x"}, "newer than this Phosphene", "format"),
        ({"format": FORMAT, "values": {}}, "needs a name", "name"),
        ({"format": FORMAT, "name": 3}, "needs a name", "name"),
        ({"format": FORMAT, "name": "x" * 81}, "longer than 80", "name"),
        ({"format": FORMAT, "name": "x", "description": 5}, "'description' is a text", "description"),
        ({"format": FORMAT, "name": "x", "values": [1]}, "'values' is a mapping", "values"),
        ({"format": FORMAT, "name": "x", "strength": 1}, "no entry 'strength'", "strength"),
        (document(strenght=0.5), "no parameter 'strenght'; did you mean 'strength'", "strenght"),
        (document(strength="much"), "strength takes a number", "strength"),
        (document(strength=float("nan")), "finite", "strength"),
        (document(guidance="perhaps"), "guidance is one of none, self", "guidance"),
        (document(fps=3), "fps is a readout", "fps"),
        (document(reset=True), "reset is a trigger", "reset"),
        (document(strength=0.1, denoise=0.2), "strength stands there twice", "denoise"),
        (document(prompt={"a": 1}), "prompt takes a text", "prompt"),
    ],
)
def test_what_is_refused_and_why(broken: object, sentence: str, key: str) -> None:
    with pytest.raises(PresetError, match=sentence) as caught:
        read_document(broken)
    assert caught.value.key == key


def test_what_is_written_is_plain_in_table_order_and_reads_back() -> None:
    one = Preset(name="A", values={"mix": 0.5, "prompt": "x", "step_list": (45, 32)})
    other = Preset(name="A", values={"step_list": (45, 32), "prompt": "x", "mix": 0.5})
    written = write_document(one)
    assert str(written) == str(write_document(other))
    assert list(written["values"]) == ["prompt", "step_list", "mix"]  # type: ignore[call-overload]
    assert written["values"]["step_list"] == [45, 32]  # type: ignore[index]
    assert dict(read_document(written).values) == dict(one.values)


def test_a_look_is_captured_and_recalled_whole() -> None:
    values = LiveValues()
    values.set_many({"prompt": "fox", "strength": 0.25, "blackout": True, "guidance": "self"})
    preset = read_document(write_document(capture(values.targets(), name="Now")))
    recalled = LiveValues()
    recalled.set_many(preset.values, origin="preset")
    assert (recalled.get("prompt"), recalled.get("strength"), recalled.get("guidance")) == ("fox", 0.25, "self")
    assert recalled.get("blackout") is False, "what the desk does with the output is not part of a look"
    assert not {row.name for row in TABLE if row.read_only} & set(preset.values)
