"""From a set of boxes to detections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imglish.decoding.box_sets import find_by_set, surest_boxes
from imglish.structures.batches import PictureView
from imglish.structures.box_set import BoxSet

BOXES = torch.tensor([[[0.0, 0, 10, 10], [-5, 2, 20, 30]], [[1, 1, 2, 2], [3, 3, 4, 4]]])
LOGITS = torch.tensor([[[2.0, -1, 1], [3, -4, 0]], [[-1, -2, -3], [-6, -5, -4]]])


def test_the_surest_pairs_of_box_and_class_are_kept_best_first() -> None:
    first, second = surest_boxes(BoxSet(LOGITS, BOXES), 4)
    torch.testing.assert_close(first.scores, torch.tensor([3.0, 2, 1, 0]).sigmoid())
    assert first.labels.tolist() == [0, 0, 2, 2]  # a box may be of several classes
    assert torch.equal(first.boxes, BOXES[0, [1, 0, 0, 1]])  # nor is it cut off at a border
    torch.testing.assert_close(second.scores, torch.tensor([-1.0, -2, -3, -4]).sigmoid())
    assert second.labels.tolist() == [0, 1, 2, 2] and torch.equal(second.boxes, BOXES[1, [0, 0, 0, 1]])


def test_equal_boxes_do_not_suppress_each_other() -> None:
    (found,) = surest_boxes(BoxSet(torch.ones(1, 3, 1), BOXES[:1, :1].repeat(1, 3, 1)), 3)
    assert len(found) == 3


def test_there_are_no_more_detections_than_pairs() -> None:
    assert [len(found) for found in surest_boxes(BoxSet(LOGITS, BOXES), 100)] == [6, 6]


def test_coarse_scores_keep_their_order() -> None:
    (found, _) = surest_boxes(BoxSet(LOGITS.bfloat16(), BOXES.bfloat16()), 4)
    assert found.scores.dtype == found.boxes.dtype == torch.float32
    assert found.labels.tolist() == [0, 0, 2, 2]


def test_boxes_are_those_of_the_stored_picture_and_of_the_last_stage() -> None:
    asked: list[tuple[torch.Size, Sequence[tuple[int, int]]]] = []

    def predict(images: Tensor, sizes: Sequence[tuple[int, int]]) -> list[BoxSet]:
        asked.append((images.shape, sizes))
        return [BoxSet(-LOGITS[:1], 7 * BOXES[:1]), BoxSet(LOGITS[:1], BOXES[:1])]

    view = PictureView(images=torch.zeros(1, 3, 64, 64), inside=(40, 60))
    found = find_by_set(predict, view, (80, 30), 2)
    assert asked == [(torch.Size([1, 3, 64, 64]), [(40, 60)])] and found.masks is None
    factors = torch.tensor([0.5, 2, 0.5, 2])
    torch.testing.assert_close(found.objects.boxes, BOXES[0, [1, 0]] * factors)
    assert found.objects.labels.tolist() == [0, 0]
