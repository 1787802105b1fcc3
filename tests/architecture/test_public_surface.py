"""``from imglish import ...`` offers a few names, found when they are used."""

from __future__ import annotations

import importlib.metadata

import pytest

import imglish


@pytest.mark.parametrize("name", imglish.__all__)
def test_every_offered_name_is_there(name: str) -> None:
    assert getattr(imglish, name) is not None


def test_names_are_those_of_their_modules() -> None:
    from imglish.inference.predictor import Predictor

    assert imglish.Predictor is Predictor
    assert imglish.__version__ == importlib.metadata.version("imglish")


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_modle'"):
        imglish.load_modle  # noqa: B018
