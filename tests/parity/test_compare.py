from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.parity.case import Check, Kind
from tests.parity.compare import compare

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("kind", "ours", "reference", "ok"),
    [
        ("forward", [1.0, 100.009], [1.0, 100.0], True),
        ("forward", [1.0, 100.011], [1.0, 100.0], False),
        ("forward", [1.0], [1.0, 1.0], False),
        ("forward", [NAN], [1.0], False),
        ("forward", [1.0, -INF], [1.0, -INF], True),
        ("forward", [1.0, INF], [1.0, -INF], False),
        ("forward", [0.0], [0.0], True),
        ("loss", 1.000009, 1.0, True),
        ("loss", 1.000011, 1.0, False),
        ("integer", [1, 2], [1, 2], True),
        ("integer", [1, 3], [1, 2], False),
        ("integer", [[1], [2, 3]], [[1], [2, 3]], True),
        ("integer", [[1], [2, 3]], [[1], [2, 4]], False),
        ("integer", "a cat", "a cat", True),
        ("integer", "a cat", "a dog", False),
        ("statistic", 0.51, 0.5, True),
        ("statistic", 0.53, 0.5, False),
        ("gradient_norm", {"a": 1.00009, "b": None}, {"a": 1.0, "b": None}, True),
        ("gradient_norm", {"a": 1.00011}, {"a": 1.0}, False),
        ("gradient_norm", {"a": 1.0, "b": 0.0}, {"a": 1.0, "b": None}, False),
        ("gradient_norm", {"a": 1.0}, {"a": 1.0, "b": None}, False),
        ("gradient_norm", {"a": NAN}, {"a": 1.0}, False),
    ],
)
def test_verdict_follows_the_rule_of_its_kind(kind: Kind, ours: Any, reference: Any, ok: bool) -> None:
    assert compare(Check("it", ours, reference, kind, tolerance=0.02)).ok is ok


def test_rounding_noise_of_a_vanishing_gradient_is_no_difference() -> None:
    noise = Check("it", {"weight": 1.0, "key bias": 7e-8}, {"weight": 1.0, "key bias": 9e-8}, "gradient_norm")
    assert compare(noise).ok


def test_differences_are_reported_absolute_and_relative_to_the_largest_reference() -> None:
    found = compare(Check("it", torch.tensor([0.0, 202.0]), torch.tensor([1.0, 200.0]), "forward"))
    assert found == (2.0, 0.01, False)
