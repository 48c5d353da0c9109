"""Sources and sinks written as text: every form, and the sentence for every mistake."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sources.parse import BadSpec, SinkSpec, SourceSpec, parse_sink, parse_source


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("test", SourceSpec(kind="test")),
        (" Test ", SourceSpec(kind="test")),
        ("null", SourceSpec(kind="null")),
        ("camera:0", SourceSpec(kind="camera", index=0)),
        ("camera:12", SourceSpec(kind="camera", index=12)),
        ("ndi:STAGE (Main: left)", SourceSpec(kind="ndi", name="STAGE (Main: left)")),
        ("ndi://127.0.0.1:5961", SourceSpec(kind="ndi", host="127.0.0.1", port=5961)),
        ("ndi://stage-pc.local:5961/", SourceSpec(kind="ndi", host="stage-pc.local", port=5961)),
        ("ndi://[::1]:5961", SourceSpec(kind="ndi", host="::1", port=5961)),
    ],
)
def test_sources(text: str, spec: SourceSpec) -> None:
    assert parse_source(text) == spec


def test_paths_and_folders_of_sources(tmp_path: Path) -> None:
    clip = tmp_path / "my clip: part 2.mp4"
    clip.write_bytes(b"x")
    assert parse_source(str(clip)) == SourceSpec(kind="clip", path=clip)
    assert parse_source(f"frames:{tmp_path}") == SourceSpec(kind="frames", path=tmp_path)


def test_a_relative_file_named_like_a_kind_needs_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("test").write_bytes(b"x")
    assert parse_source("test").kind == "test"
    assert parse_source("./test") == SourceSpec(kind="clip", path=Path("./test"))


def test_a_drive_letter_is_no_kind() -> None:
    with pytest.raises(BadSpec, match="there is no file"):
        parse_source("C:\\clips\\missing.mp4")
    with pytest.raises(BadSpec, match="no folder|is no sink"):
        parse_sink("Q:/nowhere/at/all/clip.avi")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "nothing was named"),
        ("cmaera:0", "did you mean camera"),
        ("tset", "did you mean test"),
        ("nid:Stage", "did you mean ndi"),
        ("frame:shots", "did you mean frames"),
        ("camera", "camera:0"),
        ("camera:front", "camera:0"),
        ("camera:-1", "camera:0"),
        ("ndi:", "lacks the name"),
        ("ndi://host", "ndi://HOST:PORT"),
        ("ndi://host:99999", "ndi://HOST:PORT"),
        ("test:512", "takes nothing after it"),
        ("frames:", "lacks the name"),
        ("frames:/nowhere/at/all", "there is no folder"),
        ("/nowhere/clip.mp4", "there is no file"),
        ("http://example.org/a.mp4", "there is no kind 'http'"),
    ],
)
def test_mistakes_in_sources(text: str, sentence: str) -> None:
    with pytest.raises(BadSpec, match=sentence):
        parse_source(text)


def test_a_folder_as_a_clip_is_told_the_form(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="write frames:"):
        parse_source(str(tmp_path))


def test_sinks(tmp_path: Path) -> None:
    assert parse_sink("null") == SinkSpec(kind="null")
    assert parse_sink("ndi:Phosphene") == SinkSpec(kind="ndi", name="Phosphene")
    assert parse_sink(f"frames:{tmp_path / 'new'}") == SinkSpec(kind="frames", path=tmp_path / "new")
    for suffix in (".mp4", ".mov", ".mkv", ".MP4"):
        assert parse_sink(str(tmp_path / f"out{suffix}")) == SinkSpec(kind="clip", path=tmp_path / f"out{suffix}")
    assert parse_sink("here.mp4") == SinkSpec(kind="clip", path=Path("here.mp4"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "nothing was named"),
        ("nul", "did you mean null"),
        ("nd:Stage", "did you mean ndi"),
        ("out.avi", "ending in .mp4, .mov or .mkv"),
        ("/nowhere/at/all/out.mp4", "there is no folder"),
        ("camera:0", "there is no kind 'camera'"),
        ("ndi:", "lacks the name"),
    ],
)
def test_mistakes_in_sinks(text: str, sentence: str) -> None:
    with pytest.raises(BadSpec, match=sentence):
        parse_sink(text)


def test_sinks_do_not_take_a_file_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(BadSpec, match="is a file"):
        parse_sink(f"frames:{tmp_path / 'file'}")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(BadSpec, match="is a folder"):
        parse_sink(str(tmp_path / "folder.mp4"))


@pytest.mark.parametrize("text", ["~nobody-of-this-name/a.mp4", "a" * 5000, "frames:" + "b" * 5000, "x" * 5000 + ".mp4", "\0"])
def test_names_that_the_system_refuses_are_a_sentence_too(text: str) -> None:
    with pytest.raises(BadSpec):
        parse_source(text)


@given(st.text(max_size=60))
def test_any_text_is_a_spec_or_a_sentence(text: str) -> None:
    for parse in (parse_source, parse_sink):
        try:
            parse(text)
        except BadSpec as refusal:
            assert str(refusal)
