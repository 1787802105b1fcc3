from __future__ import annotations

import pytest
import torch
from torch import Tensor

from imglish.decoding.masks import (
    class_scores,
    mask_instances,
    masks_at_size,
    panoptic_segments,
    semantic_scores,
)
from imglish.structures.mask_predictions import MaskPredictions

THINGS = torch.tensor([True, True, False])  # classes 0 and 1; class 2 is stuff


def sure(*labels: int) -> Tensor:
    """Logits of queries that have no doubt; 3 is "no object"."""
    logits = torch.full((len(labels), 4), -10.0)
    logits[torch.arange(len(labels)), list(labels)] = 10.0
    return logits


def masks(*rows: str) -> Tensor:
    """Logits of masks of one row each: ``#`` inside for sure, ``+`` rather, ``-`` rather not, ``.`` not."""
    values = {"#": 9.0, "+": 1.0, "-": -1.0, ".": -9.0}
    return torch.tensor([[[values[cell] for cell in row]] for row in rows])


def test_classes_score_by_the_masks_of_their_queries() -> None:
    predictions = MaskPredictions(sure(0, 0, 2, 3)[None], masks("##..", ".##.", "...#", "####")[None])
    scores = semantic_scores(predictions)
    expected = torch.tensor([[1.0, 2.0, 1.0, 0.0], [0.0] * 4, [0.0, 0.0, 0.0, 1.0]]).view(1, 3, 1, 4)
    torch.testing.assert_close(scores, expected, atol=2e-3, rtol=0)  # nobody is perfectly sure
    assert torch.equal(class_scores((predictions, predictions)), scores)
    assert torch.equal(class_scores(scores), scores)


def test_masks_are_enlarged_as_logits() -> None:
    assert torch.equal(masks_at_size(masks("#."), (1, 2)), masks("#."))
    torch.testing.assert_close(masks_at_size(masks("#."), (1, 4))[0, 0], torch.tensor([9.0, 4.5, -4.5, -9.0]))


def test_instances_are_things_by_the_product_of_both_scores() -> None:
    found = mask_instances(sure(0, 2, 1), masks("##-..", "..###", "..++."), is_thing=THINGS, max_instances=3)
    assert found.classes.tolist() == [0, 1]
    assert found.masks.int().tolist() == [[[1, 1, 0, 0, 0]], [[0, 0, 1, 1, 0]]]
    assert found.boxes.tolist() == [[0, 0, 2, 1], [2, 0, 4, 1]]
    torch.testing.assert_close(
        found.scores,
        torch.tensor([9.0, 1.0]).sigmoid(),
        atol=1e-5,
        rtol=0,  # eps in the mean
    )


def test_a_query_may_stand_for_two_things() -> None:
    logits = torch.tensor([[3.0, 2.9, -9.0, -9.0]])
    found = mask_instances(logits, masks("##."), is_thing=THINGS, max_instances=2)
    assert found.classes.tolist() == [0, 1] and found.scores[0] > found.scores[1]


def test_no_more_instances_are_looked_at_than_there_are() -> None:
    found = mask_instances(sure(0, 1), masks("#.", ".."), is_thing=THINGS, max_instances=100)
    assert len(found.classes) == 4  # two queries, two classes of things
    empty = found.boxes[~found.masks.flatten(1).any(dim=1)]
    assert len(empty) == 2 and not empty.any()


def test_every_pixel_goes_to_the_query_that_claims_it_most() -> None:
    found = panoptic_segments(
        sure(0, 1, 2), masks("##+..", "..#..", "...##"), is_thing=THINGS, min_overlap=0.6
    )
    assert found.segment_ids.tolist() == [[1, 1, 2, 3, 3]]
    assert found.classes.tolist() == [0, 1, 2] and (found.scores > 0.99).all()


def test_parts_of_stuff_are_joined_and_those_of_things_are_not() -> None:
    found = panoptic_segments(sure(2, 0, 2, 0), masks("#....", ".#...", "..#..", "...#."), is_thing=THINGS)
    assert found.segment_ids.tolist() == [[1, 2, 1, 3, 0]]
    assert found.classes.tolist() == [2, 0, 0]


def test_unsure_queries_and_those_that_lost_their_mask_are_left_out() -> None:
    unsure = torch.tensor([[2.0, 0.0, 0.0, 0.0]])  # 0.71
    found = panoptic_segments(unsure, masks("##"), is_thing=THINGS)
    assert not found.segment_ids.any() and found.classes.shape == (0,)
    assert panoptic_segments(unsure, masks("##"), is_thing=THINGS, min_score=0.7).segment_ids.all()
    logits, lost = sure(0, 1), masks("####.", "+++++")
    assert panoptic_segments(logits, lost, is_thing=THINGS).segment_ids.tolist() == [[1, 1, 1, 1, 0]]
    kept = panoptic_segments(logits, lost, is_thing=THINGS, min_overlap=0.1)
    assert kept.segment_ids.tolist() == [[1, 1, 1, 1, 2]]


@pytest.mark.parametrize(("only_inside", "expected"), [(True, [1, 0]), (False, [1, 1])])
def test_pixels_that_nobody_counts_in_may_stay_free(only_inside: bool, expected: list[int]) -> None:
    found = panoptic_segments(sure(0), masks("#-"), is_thing=THINGS, only_inside=only_inside)
    assert found.segment_ids.tolist() == [expected]


def test_a_query_of_no_object_claims_nothing() -> None:
    found = panoptic_segments(sure(3, 0), masks("##", "+."), is_thing=THINGS)
    assert found.segment_ids.tolist() == [[1, 0]]
