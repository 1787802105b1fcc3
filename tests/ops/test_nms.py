"""Hard suppression is torchvision's, soft suppression that of its paper, read step by step."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import Tensor

from imglish.ops import nms as module
from imglish.ops.boxes import pairwise_overlaps
from imglish.ops.nms import NmsSettings, classwise_nms, multiclass_nms, nms, soft_nms
from tests.ops.test_boxes import boxes

HARD = NmsSettings(max_overlap=0.3)


def scores(number: int, seed: int = 9) -> Tensor:
    return torch.rand(number, generator=torch.Generator().manual_seed(seed))


def step_by_step(places: Tensor, given: Tensor, settings: NmsSettings) -> list[tuple[int, float]]:
    """Soft suppression as in algorithm 1 of arXiv 1704.04503."""
    left = {i: float(score) for i, score in enumerate(given)}
    kept = []
    while left:
        best = max(left, key=lambda i: left[i])
        kept.append((best, left.pop(best)))
        for other in list(left):
            overlap = float(pairwise_overlaps(places[best][None], places[other][None]))
            if settings.kind == "gaussian":
                left[other] *= math.exp(-(overlap**2) / settings.sigma)
            elif overlap >= settings.max_overlap:
                left[other] *= 1 - overlap
            if left[other] < settings.min_score:
                del left[other]
    return kept


@pytest.mark.parametrize("limit", [0.2, 0.5])
def test_hard_suppression_within_classes_is_torchvisions(limit: float) -> None:
    places, sure, labels = boxes(200, 1).float(), scores(200), torch.arange(200) % 5
    kept = classwise_nms(places, sure, labels, NmsSettings(max_overlap=limit))
    expected = torchvision.ops.batched_nms(places, sure, labels, limit)
    assert torch.equal(kept.indices, expected) and torch.equal(kept.scores, sure[expected])


@pytest.mark.parametrize("kind", ["linear", "gaussian"])
def test_soft_suppression_step_by_step(kind: str) -> None:
    settings = NmsSettings(kind=kind, max_overlap=0.3, sigma=0.4, min_score=0.05)  # type: ignore[arg-type]
    places, sure = boxes(40, 2).float(), scores(40)
    kept, expected = soft_nms(places, sure, settings), step_by_step(places, sure, settings)
    assert 1 < len(expected) < 40
    assert kept.indices.tolist() == [i for i, _ in expected]
    assert kept.scores.tolist() == pytest.approx([score for _, score in expected], rel=1e-5)
    fewer = soft_nms(places, sure, settings, max_boxes=7)
    assert torch.equal(fewer.indices, kept.indices[:7]) and torch.equal(fewer.scores, kept.scores[:7])


def test_a_box_upon_another_goes_and_its_equal_stays_at_the_limit() -> None:
    places = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 4, 4]])
    sure = torch.tensor([0.9, 0.8, 0.7])
    assert nms(places, sure, NmsSettings(max_overlap=0.5)).indices.tolist() == [0, 1]  # IoU 0.5 is not above
    linear = nms(places, sure, NmsSettings(kind="linear", max_overlap=0.5))
    assert linear.indices.tolist() == [0, 1]
    assert linear.scores.tolist() == pytest.approx([0.9, 0.4])  # but it is not below either


@pytest.mark.parametrize("kind", ["hard", "linear", "gaussian"])
def test_class_by_class_finds_what_one_run_finds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = NmsSettings(kind=kind, max_overlap=0.4)  # type: ignore[arg-type]
    places, sure, labels = boxes(60, 3).float() - 20, scores(60), torch.arange(60) % 3  # some below zero
    joint = classwise_nms(places, sure, labels, settings, 25)
    monkeypatch.setattr(module, "_JOINT_BELOW", 0)
    apart = classwise_nms(places, sure, labels, settings, 25)
    assert torch.equal(joint.indices, apart.indices)
    # Moving classes apart rounds coordinates of some hundreds to some 1e-5.
    torch.testing.assert_close(joint.scores, apart.scores, rtol=0, atol=1e-5)


def test_pairs_of_box_and_class_by_hand() -> None:
    places = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 12, 12]])
    sure = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.2, 0.6]])
    found = multiclass_nms(places, sure, HARD, min_score=0.1)
    assert found.labels.tolist() == [0, 1, 1, 0] and found.indices.tolist() == [0, 3, 5, 4]
    assert found.boxes[:, 0].tolist() == [0, 0, 9, 9]
    assert multiclass_nms(places, sure, HARD, min_score=0.2).indices.tolist() == [0, 3, 5]  # more than 0.2
    fewer = multiclass_nms(places, sure, HARD, min_score=0.1, max_boxes=2)
    assert fewer.indices.tolist() == [0, 3]
    weighed = multiclass_nms(places, sure, HARD, min_score=0.1, factors=torch.tensor([0.1, 1, 0.5]))
    assert weighed.indices.tolist() == [2, 3, 5, 4]  # asked for 0.1 before the factor, not after it
    assert weighed.scores.tolist() == pytest.approx([0.8, 0.7, 0.3, 0.1])


def test_each_class_may_have_its_own_box() -> None:
    places = torch.tensor([[[0.0, 0, 4, 4], [5, 5, 6, 6]]])
    found = multiclass_nms(places, torch.tensor([[0.3, 0.9]]), HARD, min_score=0.0)
    assert found.boxes.tolist() == [[5, 5, 6, 6], [0, 0, 4, 4]]


@pytest.mark.parametrize("kind", ["hard", "linear", "gaussian"])
def test_nothing_is_suppressed_among_nothing(kind: str) -> None:
    settings = NmsSettings(kind=kind)  # type: ignore[arg-type]
    none = torch.zeros(0, 4)
    assert nms(none, torch.zeros(0), settings).indices.tolist() == []
    kept = classwise_nms(none, torch.zeros(0), torch.zeros(0, dtype=torch.int64), settings)
    assert len(kept.indices) == len(kept.scores) == 0
    assert len(multiclass_nms(none, torch.zeros(0, 3), settings, min_score=0.1).boxes) == 0
    assert len(multiclass_nms(boxes(2, 1), torch.zeros(2, 3), settings, min_score=0.1).labels) == 0


@pytest.mark.parametrize(
    "values", [{"kind": "naive"}, {"max_overlap": 1.1}, {"max_overlap": -0.1}, {"sigma": 0.0}]
)
def test_settings_out_of_range_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"naive|max_overlap"):
        NmsSettings(**values)  # type: ignore[arg-type]
