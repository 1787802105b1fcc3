"""Sparse R-CNN's loss against plain sums, and its matching against all that could be matched."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou

from imglish.losses.sparse_rcnn import (
    BoxSetTerms,
    SparseRcnnLoss,
    findable,
    match,
    matching_costs,
    num_matched,
    sparse_rcnn_terms,
)
from imglish.structures.box_set import BoxSet
from imglish.structures.instances import Instances

LOSS = SparseRcnnLoss()
SIZE = (40, 80)


def random_boxes(number: int, size: tuple[int, int], g: torch.Generator) -> Tensor:
    sides = torch.tensor([size[1], size[0]]).double()
    corners = torch.rand(number, 2, 2, generator=g).double().sort(dim=1).values
    return torch.cat([corners[:, 0] * sides, corners[:, 1] * sides + 1], dim=1)


def objects(boxes: Tensor, labels: list[int], crowd: list[bool] | None = None) -> Instances:
    return Instances(
        boxes=boxes,
        labels=torch.tensor(labels, dtype=torch.int64),
        crowd=torch.tensor(crowd or [False] * len(labels), dtype=torch.bool),
    )


def scene(seed: int, num_boxes: int, num_objects: int) -> tuple[BoxSet, Instances]:
    """One picture: what is said of it, and what is there."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (num_objects,), generator=g).tolist()
    said = BoxSet(
        2 * torch.randn(1, num_boxes, 3, generator=g).double(), random_boxes(num_boxes, SIZE, g)[None]
    )
    return said, objects(random_boxes(num_objects, SIZE, g), labels)


def focal(logit: float, right: bool) -> float:
    """Of one class, written out (arXiv 1708.02002, equation 5)."""
    share = 1 / (1 + math.exp(-logit))
    if right:
        return -0.25 * (1 - share) ** 2 * math.log(share)
    return -0.75 * share**2 * math.log(1 - share)


def side_difference(a: Tensor, b: Tensor, size: tuple[int, int]) -> float:
    height, width = size
    return float(((a - b).abs() / torch.tensor([width, height, width, height])).sum())


def giou(a: Tensor, b: Tensor) -> float:
    return float(generalized_box_iou(a[None], b[None]))


def cost(said: BoxSet, query: int, own: Instances, number: int) -> float:
    logit = float(said.classes[0, query, own.labels[number]])
    box, wanted = said.boxes[0, query], own.boxes[number]
    return (
        2 * (focal(logit, True) - focal(logit, False))
        + 5 * side_difference(box, wanted, SIZE)
        - 2 * giou(box, wanted)
    )


@pytest.mark.parametrize("seed", range(3))
def test_costs_are_those_of_the_published_config(seed: int) -> None:
    said, own = scene(seed, 4, 3)
    found = matching_costs(said.classes[0], said.boxes[0], own, SIZE, LOSS)
    expected = [[cost(said, query, own, number) for number in range(3)] for query in range(4)]
    torch.testing.assert_close(found, torch.tensor(expected).double(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("num_boxes", "num_objects"), [(5, 3), (4, 4), (3, 5), (4, 1), (3, 0)])
@pytest.mark.parametrize("seed", range(4))
def test_no_other_matching_is_cheaper(num_boxes: int, num_objects: int, seed: int) -> None:
    said, own = scene(seed, num_boxes, num_objects)
    ((queries, numbers),) = match(said, [own], [SIZE], LOSS)
    count = min(num_boxes, num_objects)
    assert len(set(queries.tolist())) == len(set(numbers.tolist())) == len(queries) == count
    assert queries.tolist() == sorted(queries.tolist()) and num_matched([own], num_boxes) == count
    found = sum(cost(said, q, own, n) for q, n in zip(queries.tolist(), numbers.tolist(), strict=True))
    if num_boxes >= num_objects:
        ways = [
            list(zip(way, range(num_objects), strict=True)) for way in permutations(range(num_boxes), count)
        ]
    else:
        ways = [
            list(zip(range(num_boxes), way, strict=True)) for way in permutations(range(num_objects), count)
        ]
    cheapest = min(sum(cost(said, q, own, n) for q, n in way) for way in ways)
    assert found == pytest.approx(cheapest, abs=1e-6)


def test_terms_are_sums_over_stages_pictures_and_boxes() -> None:
    g = torch.Generator().manual_seed(7)
    sizes = [SIZE, (20, 30)]
    own = [objects(random_boxes(2, sizes[0], g), [1, 2]), objects(random_boxes(1, sizes[1], g), [0])]
    stages = [
        BoxSet(
            torch.randn(2, 4, 3, generator=g).double(),
            torch.stack([random_boxes(4, size, g) for size in sizes]),
        )
        for _ in range(2)
    ]
    classes = sides = overlaps = 0.0
    for said in stages:
        for row, (queries, numbers) in enumerate(match(said, own, sizes, LOSS)):
            of = dict(zip(queries.tolist(), numbers.tolist(), strict=True))
            for query in range(4):
                label = int(own[row].labels[of[query]]) if query in of else -1
                classes += sum(focal(float(said.classes[row, query, k]), k == label) for k in range(3))
                if query in of:
                    box, wanted = said.boxes[row, query], own[row].boxes[of[query]]
                    sides += side_difference(box, wanted, sizes[row])
                    overlaps += 1 - giou(box, wanted)
    found = sparse_rcnn_terms(stages, own, sizes, LOSS)
    expected = BoxSetTerms(*(torch.tensor(x).double() for x in (2 * classes, 5 * sides, 2 * overlaps)))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_right_boxes_cost_nothing_and_the_right_class_is_asked_for() -> None:
    boxes = torch.tensor([[1.0, 2, 11, 22], [30, 5, 60, 25]])
    own = objects(boxes, [2, 0])
    logits = torch.full((1, 3, 3), -9.0)
    logits[0, 0, 0], logits[0, 2, 2] = 9.0, 9.0
    said = BoxSet(
        logits.requires_grad_(), torch.stack([boxes[1], torch.tensor([0.0, 0, 80, 40]), boxes[0]])[None]
    )
    terms = sparse_rcnn_terms([said], [own], [SIZE], LOSS)
    assert terms.sides == 0 and terms.overlaps == pytest.approx(0, abs=1e-6)
    assert float(terms.classes.detach()) < 1e-3
    terms.classes.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    rising = (logits.grad < 0).nonzero().tolist()
    assert rising == [[0, 0, 0], [0, 2, 2]]


def said_of(number: int = 5) -> BoxSet:
    g = torch.Generator().manual_seed(1)
    boxes = random_boxes(number, SIZE, g).float()[None].requires_grad_()
    return BoxSet(torch.randn(1, number, 3, generator=g).requires_grad_(), boxes)


NOTHING = torch.zeros(0, 4)


@pytest.mark.parametrize(
    "own",
    [
        objects(NOTHING, []),
        objects(torch.tensor([[5.0, 5, 30, 30]]), [1], [True]),
        objects(torch.tensor([[5.0, 5, 5, 30], [9, 9, 20, 9]]), [1, 2]),
    ],
    ids=["none", "crowd", "no area"],
)
def test_where_nothing_can_be_found_all_boxes_are_background(own: Instances) -> None:
    said = said_of()
    terms = sparse_rcnn_terms([said], [own], [SIZE], LOSS)
    expected = sum(2 * focal(x, False) for x in said.classes.flatten().tolist())
    assert float(terms.classes.detach()) == pytest.approx(expected, rel=1e-4)
    assert terms.sides == 0 and terms.overlaps == 0 and num_matched([own], 5) == 0
    torch.stack(list(terms)).sum().backward()  # type: ignore[no-untyped-call]
    assert said.boxes.grad is not None and said.boxes.grad.abs().sum() == 0


def test_a_crowd_beside_objects_changes_nothing() -> None:
    boxes = torch.tensor([[5.0, 5, 30, 30], [0, 0, 60, 40], [40, 3, 70, 33]])
    with_crowd = objects(boxes, [1, 1, 2], [False, True, False])
    alone = objects(boxes[[0, 2]], [1, 2])
    assert torch.equal(findable(with_crowd).boxes, alone.boxes)
    found, expected = (sparse_rcnn_terms([said_of()], [own], [SIZE], LOSS) for own in (with_crowd, alone))
    torch.testing.assert_close(found, expected)


def test_boxes_are_compared_in_shares_of_their_own_picture() -> None:
    said, own = said_of(1), objects(torch.tensor([[5.0, 5, 30, 30]]), [1])
    small, large = (
        sparse_rcnn_terms([said], [own], [size], LOSS) for size in (SIZE, (2 * SIZE[0], 2 * SIZE[1]))
    )
    torch.testing.assert_close(small.sides, 2 * large.sides)
    torch.testing.assert_close(small.overlaps, large.overlaps)


def test_coarse_numbers_are_compared_in_full() -> None:
    said, own = said_of(), objects(torch.tensor([[5.0, 5, 30, 30]]), [1])
    with torch.autocast("cpu", torch.bfloat16):
        coarse = sparse_rcnn_terms([BoxSet(said.classes.bfloat16(), said.boxes)], [own], [SIZE], LOSS)
    exact = sparse_rcnn_terms([BoxSet(said.classes.bfloat16().float(), said.boxes)], [own], [SIZE], LOSS)
    torch.testing.assert_close(coarse, exact)
    rounded = said.classes[0].detach().bfloat16()
    costs = [matching_costs(x, said.boxes[0].detach(), own, SIZE, LOSS) for x in (rounded, rounded.float())]
    torch.testing.assert_close(costs[0], costs[1])
