"""Which source a text means, and what is said when none is meant."""

from __future__ import annotations

import pytest

from bridge.ndi.sources import NdiSource, as_address, choose, missing_text, nearest_name

SOURCES = [
    NdiSource(name="STAGE-PC (Camera 1)", url="10.0.0.5:5961"),
    NdiSource(name="STAGE-PC (camera 1)", url="10.0.0.5:5962"),
    NdiSource(name="LAPTOP (TouchDesigner)", url="10.0.0.6:5961"),
    NdiSource(name="LAPTOP (Mix (wide))", url="10.0.0.6:5962"),
]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ("STAGE-PC (Camera 1)", 0),
        ("stage-pc (camera 1)", 0),
        ("camera 1", 1),
        ("CAMERA 1", 0),
        (" touchdesigner ", 2),
        ("Mix (wide)", 3),
        ("any", 0),
        ("ANY", 0),
    ],
)
def test_choose(wanted, index):
    assert choose(SOURCES, wanted) is SOURCES[index]


def test_choose_none():
    assert choose(SOURCES, "camera") is None
    assert choose(SOURCES, "") is None
    assert choose([], "any") is None


def test_any_passes_over_our_own():
    assert choose(SOURCES, "any", ignore=["Camera 1", "STAGE-PC (camera 1)"]) is SOURCES[2]
    assert choose(SOURCES, "Camera 1", ignore=["Camera 1"]) is SOURCES[0]  # asked for by name, it is meant


def test_the_nearest_name():
    assert nearest_name(SOURCES, "touchdesinger") == "LAPTOP (TouchDesigner)"
    assert nearest_name(SOURCES, "LAPTOP (TuchDesigner)") == "LAPTOP (TouchDesigner)"
    assert nearest_name(SOURCES, "qqqq") is None


def test_what_is_said():
    assert "did you mean 'LAPTOP (TouchDesigner)'" in missing_text(SOURCES, "touchdesinger")
    assert "STAGE-PC (Camera 1)" in missing_text(SOURCES, "qqqq")
    assert "is the sender running" in missing_text([], "qqqq")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5961", "127.0.0.1:5961"),
        (" localhost:5961", "localhost:5961"),
        ("stage-pc.local:5962", "stage-pc.local:5962"),
        ("STAGE-PC (Camera 1)", None),
        ("STAGE-PC (a:1)", None),
        ("Camera", None),
        ("any", None),
        ("127.0.0.1", None),
        ("show: take 2", None),
    ],
)
def test_addresses(text, address):
    assert as_address(text) == address


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:5961", "ndi://x", "[::1]:5961", "localhost:0", "localhost:70000"])
def test_addresses_that_ndi_never_reaches_are_refused(text):
    with pytest.raises(ValueError):
        as_address(text)


def test_the_stream_name():
    assert [each.stream_name for each in SOURCES] == ["Camera 1", "camera 1", "TouchDesigner", "Mix (wide)"]
    assert NdiSource(name="", url="127.0.0.1:5961").stream_name == ""
    assert NdiSource(name="bare", url="").stream_name == "bare"
