"""The terms of Mask2Former's loss, against plain sums over points."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.losses.mask_set import (
    MaskSetLoss,
    class_masks,
    mask_set_terms,
    match,
    matching_costs,
    uniform_points,
)
from imglish.ops.points import sample_points
from imglish.structures.mask_predictions import MaskPredictions, MaskTargets

LOSS = MaskSetLoss(num_points=40, oversample=2.0, importance=0.5)


def predictions(batch: int = 2, dtype: torch.dtype = torch.float32) -> MaskPredictions:
    g = torch.Generator().manual_seed(0)
    classes = torch.randn(batch, 6, 4, generator=g).to(dtype)
    return MaskPredictions(classes, torch.randn(batch, 6, 4, 6, generator=g).to(dtype) * 3)


def targets() -> list[MaskTargets]:
    maps = torch.zeros(2, 8, 12, dtype=torch.int64)
    maps[0, :, 5:] = 2
    maps[1, 3:] = 1
    maps[1, :, 7:] = 2
    maps[1, 0] = 255
    return [class_masks(row) for row in maps]


def draw(count: int, num_points: int) -> Tensor:
    g = torch.Generator().manual_seed(count * 1000 + num_points)
    return torch.rand(count, num_points, 2, generator=g)


def test_a_map_has_one_mask_for_each_class_and_none_for_ignored_pixels() -> None:
    found = class_masks(torch.tensor([[3, 255, 0], [0, 3, 3]]))
    assert found.classes.tolist() == [0, 3]
    assert found.masks.int().tolist() == [[[0, 0, 1], [1, 0, 0]], [[1, 0, 0], [0, 1, 1]]]
    nothing = class_masks(torch.full((2, 3), 255))
    assert nothing.classes.shape == (0,) and nothing.masks.shape == (0, 2, 3)


def test_the_costs_are_those_of_the_losses() -> None:
    given, wanted = predictions(), targets()[1]
    points = draw(1, 30)[0]
    costs = matching_costs(given.classes[1], given.masks[1], wanted, points, LOSS)
    assert costs.shape == (6, len(wanted.classes))
    for q in range(6):
        for g in range(len(wanted.classes)):
            logits = sample_points(given.masks[1, q][None, None], points[None])[0, 0]
            truth = sample_points(wanted.masks[g][None, None].float(), points[None])[0, 0]
            entropy = F.binary_cross_entropy_with_logits(logits, truth)
            share = logits.sigmoid()
            dice = 1 - (2 * (share * truth).sum() + 1) / (share.sum() + truth.sum() + 1)
            label = -given.classes[1, q].softmax(0)[wanted.classes[g]]
            torch.testing.assert_close(costs[q, g], 2 * label + 5 * entropy + 5 * dice)


def test_matching_finds_the_query_of_each_mask() -> None:
    wanted = targets()
    given = predictions()
    for row, (truth, queries) in enumerate(zip(wanted, ([4, 1], [5, 0, 2]), strict=True)):
        for query, label, mask in zip(queries, truth.classes, truth.masks, strict=True):
            given.classes[row, query] = 8.0 * F.one_hot(label, 4)
            small = F.interpolate(mask[None, None].float(), size=(4, 6), mode="bilinear")
            given.masks[row, query] = 20 * small[0, 0] - 10
    pairs = match(given, wanted, LOSS, draw)
    assert [(q.tolist(), n.tolist()) for q, n in pairs] == [([1, 4], [1, 0]), ([0, 2, 5], [1, 2, 0])]


def test_terms_compare_each_mask_with_its_query() -> None:
    given, wanted = predictions(), targets()
    terms = mask_set_terms(given, wanted, LOSS, draw)
    pairs = match(given, wanted, LOSS, draw)
    labels = torch.full((2, 6), 3)
    logits, truth = [], []
    for row, (queries, numbers) in enumerate(pairs):
        labels[row, queries] = wanted[row].classes[numbers]
        logits.append(given.masks[row, queries])
        truth.append(wanted[row].masks[numbers].float())
    weights = torch.tensor([1.0, 1.0, 1.0, 0.1])
    each = F.cross_entropy(given.classes.flatten(0, 1), labels.flatten(), reduction="none")
    each = each * weights[labels.flatten()]
    torch.testing.assert_close(terms.classes, 2 * each.sum() / weights[labels].sum())

    flat, wide = torch.cat(logits), torch.cat(truth)
    candidates = draw(5, 80)
    hesitating = sample_points(flat[:, None], candidates)[:, 0].abs().argsort(dim=1)[:, :20]
    points = torch.cat([candidates.gather(1, hesitating[..., None].expand(-1, -1, 2)), draw(5, 20)], dim=1)
    at, want = sample_points(flat[:, None], points)[:, 0], sample_points(wide[:, None], points)[:, 0]
    torch.testing.assert_close(
        terms.masks, 5 * F.binary_cross_entropy_with_logits(at, want, reduction="none").mean(1).sum()
    )
    share = at.sigmoid()
    dice = 1 - (2 * (share * want).sum(1) + 1) / (share.sum(1) + want.sum(1) + 1)
    torch.testing.assert_close(terms.dice, 5 * dice.sum())


def test_more_masks_than_queries_leave_the_dearest_out() -> None:
    many = MaskTargets(torch.arange(9) % 3, torch.rand(9, 8, 12) > 0.5)
    pairs = match(predictions(1), [many], LOSS, draw)
    assert pairs[0][0].tolist() == list(range(6)) and len(set(pairs[0][1].tolist())) == 6
    assert mask_set_terms(predictions(1), [many], LOSS, draw).masks.isfinite()


def test_a_batch_without_a_mask_still_reaches_every_prediction() -> None:
    given = MaskPredictions(*(x.requires_grad_() for x in predictions()))
    nothing = [class_masks(torch.full((8, 12), 255))] * 2
    terms = mask_set_terms(given, nothing, LOSS, draw)
    assert terms.masks == 0 and terms.dice == 0 and terms.classes > 0
    torch.stack(list(terms)).sum().backward()
    assert given.masks.grad is not None and not given.masks.grad.any()
    assert given.classes.grad is not None and given.classes.grad.any()


def test_gradients_flow_to_matched_queries_only() -> None:
    given = MaskPredictions(*(x.requires_grad_() for x in predictions()))
    terms = mask_set_terms(given, targets(), LOSS, draw)
    (terms.masks + terms.dice).backward()
    pairs = match(given, targets(), LOSS, draw)
    assert given.masks.grad is not None
    touched = [row.flatten(1).any(dim=1).nonzero()[:, 0].tolist() for row in given.masks.grad]
    assert touched == [queries.tolist() for queries, _ in pairs]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_half_precision_is_computed_in_single_and_double_stays(dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = mask_set_terms(predictions(dtype=dtype), targets(), LOSS, draw)
    exact = mask_set_terms(
        MaskPredictions(*(x.to(torch.promote_types(dtype, torch.float32)) for x in predictions(dtype=dtype))),
        targets(), LOSS, draw,
    )  # fmt: skip
    assert {term.dtype for term in terms} == {torch.promote_types(dtype, torch.float32)}
    for ours, expected in zip(terms, exact, strict=True):
        torch.testing.assert_close(ours, expected)


def test_points_come_from_the_generator_of_the_device() -> None:
    source = uniform_points(torch.device("cpu"))
    torch.manual_seed(3)
    points = source(2, 5)
    torch.manual_seed(3)
    assert torch.equal(points, torch.rand(2, 5, 2))
