"""Metadata that may be handed to NDI: well-formed XML of bounded size. Text only, no NDI."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from xml.sax.saxutils import quoteattr

MOST_BYTES = 256 * 1024
"""Far below the 4 MB at which a metadata frame cuts the connection and the picture with it."""


def checked_xml(text: str) -> str:
    """The text itself, if NDI will carry it.

    Raises ValueError for what NDI drops without a word (anything but XML), cuts off (a NUL) or
    breaks the connection on (several megabytes).
    """
    size = len(text.encode())
    if size > MOST_BYTES:
        raise ValueError(f"NDI metadata of {size} bytes is too long: at most {MOST_BYTES}")
    if "\0" in text:
        raise ValueError("NDI metadata must not hold a NUL character")
    if "<!DOCTYPE" in text:
        raise ValueError("NDI metadata must not declare a document type")
    try:
        ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"NDI metadata must be XML: {error}") from error
    return text


def product_xml(*, name: str, version: str) -> str:
    """The product note that receivers may show beside a sender's name."""
    quoted = quoteattr(name)
    return (
        f"<ndi_product long_name={quoted} short_name={quoted} manufacturer={quoted} "
        f"version={quoteattr(version)} model_name={quoted}/>"
    )
