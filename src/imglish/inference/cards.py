"""Model cards: what weights were made of, and what they are good for."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

_NAMES = ("README.md", "card.md")
_LONGEST = 200_000  # characters; anything longer is no card

# What everybody should know who uses the model in the package.
WORLD_NOTICE = (
    "this is the World model of the package: it was trained on drawn scenes of shapes and colours and knows "
    "nothing else; what it says of photographs means nothing"
)


def model_card(source: Path | str) -> str:
    """The card of weights, in Markdown.

    Args:
        source: As `Predictor` takes it.

    Returns:
        Of ``world`` the one that ships with it, of a folder its README.md or card.md; empty where there is
        none.
    """
    if str(source) == "world":
        return (files("imglish.hub") / "world" / "card.md").read_text(encoding="utf-8")
    for name in _NAMES:
        card = Path(source) / name
        if card.is_file():
            return card.read_text(encoding="utf-8", errors="replace")[:_LONGEST]
    return ""
