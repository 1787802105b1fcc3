"""Mistakes in the command line itself, and advice on them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """The command line asks for something that does not exist; shown as one line, exit code 2."""


def did_you_mean(given: str, options: Iterable[str]) -> str:
    """The nearest option as ``; did you mean 'train'?``, or an empty text."""
    close = difflib.get_close_matches(given, list(options), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
