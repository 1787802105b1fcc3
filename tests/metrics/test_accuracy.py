from __future__ import annotations

import pytest
import torch
from torch import Tensor

from imglish.metrics.accuracy import ClassAccuracy, Nlvr2Accuracy


def ids(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


def scored(logits: Tensor, labels: Tensor) -> dict[str, float]:
    metric = ClassAccuracy()
    metric.update(logits, labels, torch.arange(len(labels)))
    return metric.compute()


def test_a_class_counts_when_it_is_first_or_among_five() -> None:
    logits = -torch.arange(8.0).expand(4, 8)  # the classes in their order
    assert scored(logits, ids(0, 4, 5, 0)) == pytest.approx(
        {"classification/top_1_accuracy": 0.5, "classification/top_5_accuracy": 0.75}
    )


def test_top_five_agrees_with_sorting() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(200, 20), torch.randint(20, (200,))
    best = logits.topk(5, dim=1).indices == labels[:, None]
    assert scored(logits, labels) == pytest.approx(
        {
            "classification/top_1_accuracy": best[:, 0].double().mean().item(),
            "classification/top_5_accuracy": best.any(dim=1).double().mean().item(),
        }
    )


def test_a_model_that_does_not_choose_is_not_right() -> None:
    assert scored(torch.zeros(8, 8), torch.arange(8)) == pytest.approx(
        {"classification/top_1_accuracy": 1 / 8, "classification/top_5_accuracy": 5 / 8}
    )
    broken = scored(torch.full((8, 8), float("nan")), torch.arange(8))
    assert broken == {"classification/top_1_accuracy": 0.0, "classification/top_5_accuracy": 0.0}


def test_a_picture_seen_twice_counts_once() -> None:
    metric, logits = ClassAccuracy(), torch.eye(6)
    metric.update(logits[:2], ids(0, 5), ids(7, 8))
    metric.update(logits[:1], ids(0), ids(7))
    assert metric.compute()["classification/top_1_accuracy"] == 0.5


def test_a_statement_is_consistent_when_it_is_right_of_all_its_pairs() -> None:
    metric = Nlvr2Accuracy()
    metric.update(ids(1, 0, 1), ids(1, 0, 0), ids(50, 50, 60), ids(0, 1, 2))
    metric.update(ids(1, 0), ids(1, 0), ids(60, 70), ids(3, 4))
    # Four of five judgements are right; statement 60 is wrong once, 50 and 70 are not.
    assert metric.compute() == pytest.approx({"nlvr2/accuracy": 4 / 5, "nlvr2/consistency": 2 / 3})


def test_a_judgement_seen_twice_counts_once() -> None:
    metric = Nlvr2Accuracy()
    metric.update(ids(1, 0), ids(1, 1), ids(5, 6), ids(0, 1))
    metric.update(ids(0), ids(1), ids(6), ids(1))
    assert metric.compute() == {"nlvr2/accuracy": 0.5, "nlvr2/consistency": 0.5}


def test_nothing_seen_or_forgotten_has_no_score() -> None:
    classes, statements = ClassAccuracy(), Nlvr2Accuracy()
    assert classes.compute() == statements.compute() == {}
    classes.update(torch.eye(2), ids(0, 1), ids(0, 1))
    statements.update(ids(1), ids(1), ids(0), ids(0))
    for metric in (classes, statements):
        assert metric.compute()
        metric.reset()
        assert metric.compute() == {}
