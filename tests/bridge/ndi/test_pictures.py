"""Padding against numpy's own, metadata against what NDI carries."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ndi.metadata import MOST_BYTES, checked_xml, product_xml
from bridge.ndi.pictures import copy_to_even, even_shape, padded_to_even


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([2, 4]), st.integers(0, 1 << 30))
def test_padding_repeats_the_edge(height, width, channels, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    expected = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    assert even_shape(pixels) == expected.shape
    assert (padded_to_even(pixels) == expected).all()
    into = np.full(expected.shape, 99, np.uint8)
    copy_to_even(pixels, into)
    assert (into == expected).all()


def test_an_even_picture_is_not_copied():
    pixels = np.zeros((64, 32, 4), np.uint8)
    assert padded_to_even(pixels) is pixels


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])), st.from_regex(r"[0-9.]+", fullmatch=True))
def test_the_product_note_is_xml_whatever_the_name(name, version):
    note = ElementTree.fromstring(checked_xml(product_xml(name=name, version=version)))
    assert note.tag == "ndi_product" and note.attrib["version"] == version


@pytest.mark.parametrize("text", ["", "plain", "{}", "<a>", "<a/><b/>", "<a/>\0", "<!DOCTYPE a><a/>"])
def test_what_ndi_would_drop_is_refused(text):
    with pytest.raises(ValueError):
        checked_xml(text)


def test_the_size_is_bounded_in_bytes():
    fits = "<a>" + "x" * (MOST_BYTES - 7) + "</a>"
    assert checked_xml(fits) == fits
    with pytest.raises(ValueError, match="too long"):
        checked_xml("<a>" + "ü" * (MOST_BYTES // 2) + "</a>")
