"""Preset files: the shipped ones, a user's folder, and every way a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.preset_folder import PresetFolder, dump
from engine.control.live_values import LiveValues
from engine.control.presets import FORMAT, Preset, PresetError, read_document

GOOD = "format: 2\nname: Mine\ndescription: One line.\nvalues:\n  prompt: fox\n  step_list: [45, 32]\n"


def test_the_shipped_presets_are_whole() -> None:
    entries = PresetFolder().list()
    assert len(entries) >= 6
    for entry in entries:
        assert entry.shipped and entry.problem == ""
        assert entry.description.endswith(".") and "\n" not in entry.description
        preset = PresetFolder().load(entry.key)
        assert preset.values["prompt"]
        assert LiveValues().set_many(preset.values, origin="preset") == dict(preset.values), "values are legal as written"


def test_own_presets_are_listed_hide_shipped_ones_and_broken_ones_say_why(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    (tmp_path / "neon.yaml").write_text(GOOD)
    (tmp_path / "broken.yaml").write_text("format: 2\nname: [\n")
    (tmp_path / "notes.txt").write_text("not a preset")
    found = {entry.key: entry for entry in PresetFolder(tmp_path).list()}
    assert found["mine"].description == "One line." and not found["mine"].shipped
    assert not found["neon"].shipped and PresetFolder(tmp_path).load("neon").name == "Mine"
    assert found["broken"].problem.startswith("broken.yaml line 3: ")
    assert "notes" not in found and found["blueprint"].shipped


def test_loads_by_key_and_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    for name in ("mine", str(path), path):
        preset = PresetFolder(tmp_path).load(name)
        assert dict(preset.values) == {"prompt": "fox", "step_list": (45, 32)}
    with pytest.raises(PresetError, match="there is no preset 'mein'; there are .*watercolor"):
        PresetFolder().load("mein")
    with pytest.raises(PresetError, match="gone.yaml cannot be read"):
        PresetFolder().load(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "format: 2\nname: A\nvalues:\n  strenght: 1\n",
            "x.yaml line 4: there is no parameter 'strenght'; did you mean",
        ),
        ("format: 2\nname: A\nvalues:\n  prompt: a\n  strength: [1\n", "x.yaml line 6: "),
        ("format: 2\nname: A\nspeed: 3\n", "x.yaml line 3: a preset has no entry 'speed'"),
        ("format: 9\nname: A\n", "x.yaml line 1: format 9 is newer"),
        ("- a\n- b\n", "x.yaml: a preset is a mapping"),
        ("", "x.yaml: a preset is a mapping"),
        ("name: \t@", "x.yaml line 1: "),
        ("a: !!python/object/apply:os.getcwd []\n", "x.yaml line 1: could not determine a constructor"),
        ("a: \x07", "x.yaml: this is not YAML"),
        ("[" * 20_000, "x.yaml"),
        ("format: 2\nname: A\nvalues: {strength: 2001-99-99}\n", "x.yaml"),
        ("#" * 70_000, "x.yaml is larger than"),
        ("&a [*a, *a]", "x.yaml: a preset is a mapping"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_place(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(PresetError) as caught:
        PresetFolder(tmp_path).load("x")
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(PresetError, match="x.yaml is not UTF-8"):
        PresetFolder(tmp_path).load("x")


def test_what_is_saved_loads_the_same_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    preset = Preset(name="Größe", description="d", values={"prompt": 'a "fox": yes', "freeze": True, "step_list": (45,)})
    folder = PresetFolder(tmp_path / "new")
    path = folder.save(preset, "my-look")
    assert folder.load("my-look") == read_document({"format": FORMAT, "name": "Größe", "description": "d", "values": dict(preset.values)})
    assert path.read_text(encoding="utf-8") == dump(preset)
    folder.save(Preset(name="Other"), "my-look")
    assert folder.load("my-look").name == "Other"
    assert [file.name for file in path.parent.iterdir()] == ["my-look.yaml"]


@pytest.mark.parametrize("key", ["", "../x", "a/b", ".hidden", "x" * 65, "a b"])
def test_a_key_cannot_leave_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(PresetError, match="a preset's key"):
        PresetFolder(tmp_path).save(Preset(name="x"), key)
    assert list(tmp_path.iterdir()) == []


def test_saving_without_or_into_an_impossible_folder(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="no folder"):
        PresetFolder().save(Preset(name="x"), "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(PresetError, match="cannot be written"):
        PresetFolder(tmp_path / "file").save(Preset(name="x"), "x")
