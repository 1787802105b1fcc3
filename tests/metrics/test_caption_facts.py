from __future__ import annotations

import pytest

from imglish.metrics.caption_facts import CaptionFacts

STAR, TREE, FISH = ("red", "star"), ("green", "tree"), ("blue", "fish")


@pytest.mark.parametrize(
    ("named", "present", "rightly_named", "wrong"),
    [
        ([STAR, TREE], [TREE, STAR], 1.0, 0.0),
        ([STAR], [STAR, TREE], 0.5, 0.0),
        ([("green", "star")], [STAR], 0.0, 1.0),  # colour and shape must both be right
        ([STAR, STAR], [STAR, TREE], 0.5, 0.5),  # a thing named twice is there once
        ([STAR, STAR], [STAR, STAR], 1.0, 0.0),
        ([], [STAR], 0.0, 0.0),
    ],
)
def test_names_are_matched_with_things_one_to_one(
    named: list[tuple[str, str]], present: list[tuple[str, str]], rightly_named: float, wrong: float
) -> None:
    metric = CaptionFacts()
    metric.update([named], [present])
    assert metric.compute() == {"caption/things_named": rightly_named, "caption/wrong_names": wrong}


def test_things_count_alike_over_all_captions() -> None:
    metric = CaptionFacts()
    metric.update([[STAR], [FISH]], [[STAR, TREE, FISH], [TREE]])
    assert metric.compute() == {"caption/things_named": 0.25, "caption/wrong_names": 0.5}
