"""The user's mistake, told in one plain line; and which exceptions are such mistakes."""

from __future__ import annotations

from engine.control.parameter import BadValue
from engine.control.table import UnknownParameter
from engine.settings import SettingsError


class Mistake(Exception):
    """Something the user asked for cannot be; the text is one sentence that says what to do instead."""


PLAIN = (Mistake, SettingsError, BadValue, UnknownParameter)
"""What may be shown as `phosphene: ...` without a traceback. Others are turned into a Mistake where they are met."""
