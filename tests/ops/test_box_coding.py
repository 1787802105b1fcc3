"""What is encoded is found again; borders and limits are computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from imglish.ops.box_coding import (
    LARGEST_CHANGE,
    box_centers,
    decode_boxes,
    decode_distances,
    encode_boxes,
    encode_distances,
)
from tests.ops.test_boxes import boxes

MEANS, STDS = (0.1, -0.2, 0.3, 0.0), (0.1, 0.1, 0.2, 0.2)


def test_changes_by_hand() -> None:
    anchor, box = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 10, 25, 20]])
    changes = encode_boxes(anchor, box)
    torch.testing.assert_close(changes, torch.tensor([[1.0, 0.25, math.log(2), math.log(0.5)]]))
    scaled = encode_boxes(anchor, box, means=(1, 0, 0, 0), stds=(1, 0.5, 1, 1))
    torch.testing.assert_close(scaled[0, :2], torch.tensor([0.0, 0.5]))


def test_changes_lead_back_to_the_box() -> None:
    anchors, wanted = boxes(20, 1), boxes(20, 2)
    # Limits are far off, so that no side is cut.
    deltas = encode_boxes(anchors, wanted, MEANS, STDS)
    back = decode_boxes(anchors, deltas, MEANS, STDS, largest_change=50)
    torch.testing.assert_close(back, wanted)


def test_sides_grow_and_shrink_so_much_at_most() -> None:
    anchor, deltas = torch.tensor([[0.0, 0, 16, 16]]), torch.tensor([[0.0, 0, 99, -99]])
    left, top, right, bottom = decode_boxes(anchor, deltas)[0].tolist()
    assert right - left == pytest.approx(1000) and bottom - top == pytest.approx(0.256)
    assert math.isclose(LARGEST_CHANGE, math.log(62.5))


def test_boxes_of_several_classes_share_an_anchor_and_end_at_the_border() -> None:
    anchors, deltas = boxes(3, 1), torch.randn(3, 5, 4, dtype=torch.float64)
    found = decode_boxes(anchors[:, None], deltas, size=(20, 30))
    assert found.shape == (3, 5, 4)
    torch.testing.assert_close(found[:, 2], decode_boxes(anchors, deltas[:, 2], size=(20, 30)))
    assert found.amin() == 0 and found[..., [0, 2]].amax() <= 30 and found[..., [1, 3]].amax() <= 20


def test_distances_by_hand_and_back() -> None:
    points, wanted = torch.tensor([[5.0, 5.0]]), torch.tensor([[1.0, 4.0, 25.0, 4.5]])
    distances = encode_distances(points, wanted)
    assert distances.tolist() == [[4, 1, 20, -0.5]]
    assert torch.equal(decode_distances(points, distances), wanted)
    assert encode_distances(points, wanted, 15.9)[0].tolist() == pytest.approx([4, 1, 15.9, 0])
    assert decode_distances(points, distances, (10, 12)).tolist() == [[1, 4, 12, 4.5]]


def test_nothing_stays_nothing() -> None:
    none = torch.zeros(0, 4)
    assert encode_boxes(none, none).shape == decode_boxes(none, none, size=(2, 2)).shape == (0, 4)
    assert box_centers(none).shape == (0, 2)


def test_gradients_are_right() -> None:
    anchors, deltas = boxes(5, 1), torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: decode_boxes(anchors, x, MEANS, STDS), deltas)
    wanted = boxes(5, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: encode_boxes(anchors, x, MEANS, STDS), wanted)
