"""Which boxes come out of predictions made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from imglish.decoding.boxes import DenseSelection, select_boxes
from imglish.ops.anchors import level_sizes, square_levels
from imglish.ops.box_coding import encode_boxes
from imglish.ops.nms import NmsSettings
from imglish.structures.dense_boxes import ATSS_STDS, AtssPredictions, GflPredictions

SIZE = (32, 64)
LEVELS = square_levels(level_sizes(SIZE, (8, 16)), 4)
COUNTS = (32, 8)  # cells of the two levels
BOX = torch.tensor([5.0, 6, 25, 30])
Marks = dict[tuple[int, int, int], tuple[float, Tensor]]  # level, cell, class: score and box


def scores(marks: Marks, pictures: int, num_classes: int) -> list[Tensor]:
    classes = [torch.full((pictures, count, num_classes), -20.0) for count in COUNTS]
    for (level, cell, label), (score, _) in marks.items():
        classes[level][0, cell, label] = torch.tensor(score).logit()
    return classes


def atss(marks: Marks, centerness: float = 1.0 - 1e-7, pictures: int = 1) -> AtssPredictions:
    deltas = [torch.zeros(pictures, count, 4) for count in COUNTS]
    for (level, cell, _), (_, box) in marks.items():
        deltas[level][0, cell] = encode_boxes(LEVELS.anchors[level][cell], box, stds=ATSS_STDS)
    central = tuple(torch.full((pictures, count), centerness).logit() for count in COUNTS)
    return AtssPredictions(LEVELS, tuple(scores(marks, pictures, 2)), tuple(deltas), central)


def gfl(marks: Marks) -> GflPredictions:
    distances = [torch.zeros(1, count, 4) for count in COUNTS]
    for (level, cell, _), (_, box) in marks.items():
        stride, columns = LEVELS.strides[level], LEVELS.grids[level][1]
        x, y = cell % columns * stride, cell // columns * stride
        sides = torch.tensor([x - box[0], y - box[1], box[2] - x, box[3] - y])
        distances[level][0, cell] = sides / stride
    none = tuple(torch.zeros(1, count, 4, 17) for count in COUNTS)  # only losses look at them
    return GflPredictions(LEVELS, tuple(scores(marks, 1, 2)), none, tuple(distances))


@pytest.mark.parametrize("make", [atss, gfl])
def test_a_box_comes_out_as_it_was_put_in(make: type) -> None:
    other = torch.tensor([40.0, 2, 60, 20])
    (found,) = select_boxes(make({(0, 10, 1): (0.9, BOX), (1, 3, 0): (0.8, other)}), [SIZE], DenseSelection())
    torch.testing.assert_close(found.boxes, torch.stack([BOX, other]), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8]))
    assert found.labels.tolist() == [1, 0] and found.masks is None


@pytest.mark.parametrize("make", [atss, gfl])
def test_boxes_end_at_the_border_of_their_picture(make: type) -> None:
    (found,) = select_boxes(make({(0, 10, 1): (0.9, BOX)}), [(20, 16)], DenseSelection())
    torch.testing.assert_close(found.boxes, torch.tensor([[5.0, 6, 16, 20]]))


def test_centerness_lowers_scores_after_the_weak_are_left_out() -> None:
    marks: Marks = {(0, 10, 1): (0.06, BOX), (1, 3, 0): (0.04, BOX)}
    (found,) = select_boxes(atss(marks, centerness=0.5), [SIZE], DenseSelection())
    torch.testing.assert_close(found.scores, torch.tensor([0.03]))


def test_of_boxes_upon_each_other_the_surest_of_a_class_stays() -> None:
    near = BOX + torch.tensor([0.0, 0, 1, 0])
    marks: Marks = {(0, 10, 1): (0.7, BOX), (1, 2, 1): (0.9, near), (1, 3, 0): (0.5, BOX)}
    (found,) = select_boxes(gfl(marks), [SIZE], DenseSelection())
    assert found.labels.tolist() == [1, 0] and found.scores.tolist() == pytest.approx([0.9, 0.5])
    soft = DenseSelection(nms=NmsSettings(kind="linear", max_overlap=0.6))
    (softly,) = select_boxes(gfl(marks), [SIZE], soft)
    assert len(softly) == 3 and softly.scores[2] < 0.1


def test_only_the_best_of_a_level_and_of_a_picture_are_kept() -> None:
    marks: Marks = {(0, cell, 1): (0.1 + 0.02 * cell, BOX + 100) for cell in range(32)}
    marks[1, 0, 0] = (0.2, BOX)
    apart = NmsSettings(max_overlap=1.0)  # nothing is suppressed
    (found,) = select_boxes(gfl(marks), [(999, 999)], DenseSelection(before_nms=4, nms=apart))
    assert found.scores.tolist() == pytest.approx([0.72, 0.70, 0.68, 0.66, 0.2])
    (fewer,) = select_boxes(gfl(marks), [(999, 999)], DenseSelection(max_boxes=3, nms=apart))
    assert fewer.scores.tolist() == pytest.approx([0.72, 0.70, 0.68])


def test_pictures_stay_apart_and_may_hold_nothing() -> None:
    first, second = select_boxes(atss({(0, 10, 1): (0.9, BOX)}, pictures=2), [SIZE, SIZE], DenseSelection())
    assert len(first) == 1 and len(second) == 0
    assert second.boxes.shape == (0, 4) and second.labels.dtype == torch.int64


@pytest.mark.parametrize("values", [{"before_nms": 0}, {"max_boxes": 0}])
def test_numbers_below_one_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        DenseSelection(**values)  # type: ignore[arg-type]
