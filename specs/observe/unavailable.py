"""What can't be looked at here."""

from __future__ import annotations


class Unavailable(Exception):
    """This machine or target does not offer what is needed; the text says what is missing."""
