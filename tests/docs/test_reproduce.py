"""The page of published numbers has every one that the manifest of weights knows, with weights and recipe."""

from __future__ import annotations

import re

import pytest

from imglish.hub.manifest import OFFICIAL_FILES
from imglish.hub.official_file import OfficialFile
from imglish.recipes.runs import RECIPES
from tests.architecture.source_tree import ROOT

PAGE = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
SCORED = [file for file in OFFICIAL_FILES if file.scores]


@pytest.mark.parametrize("file", SCORED, ids=lambda file: file.name)
def test_published_scores_of_weights_stand_in_their_row(file: OfficialFile) -> None:
    rows = [row for row in PAGE.splitlines() if re.search(rf"[ `]{re.escape(file.name)}[ `]", row)]
    told = "; ".join(f"{score.metric} {score.value:g}" for score in file.scores)
    told = told.replace(", multi-scale and flip", " with several scales")
    assert any(row.startswith(f"| {told} |") for row in rows), f"no row of {file.name} says {told}"


def test_every_recipe_of_the_giant_is_named() -> None:
    giants = [name for name in RECIPES if name.endswith("_giant")]
    assert giants and not [name for name in giants if name not in PAGE]
