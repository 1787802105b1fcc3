"""What is said of a file that cannot be used."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from imglish.errors import CheckpointError


def refusal(action: Callable[[], object]) -> str:
    """The one line that a call ends with."""
    with pytest.raises(CheckpointError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)
