from __future__ import annotations

import pytest
import torch

from imglish.losses.distillation import commitment, cosine_distance


def test_distance_is_one_minus_the_cosine_whatever_the_lengths() -> None:
    target = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [1.0, 0.0], [0.0, 1.0]]])
    rebuilt = torch.tensor([[[5.0, 0.0], [0.0, -1.0], [0.0, 7.0], [3.0, 4.0]]])
    assert cosine_distance(rebuilt, target).item() == pytest.approx((0 + 2 + 1 + 0.2) / 4)


def test_distance_is_in_float32_for_half_precision() -> None:
    rebuilt, target = torch.randn(2, 3, 64), torch.randn(2, 3, 64)
    assert cosine_distance(rebuilt.bfloat16(), target.bfloat16()).dtype == torch.float32


def test_commitment_pulls_features_and_not_codes() -> None:
    features = torch.tensor([[[1.0, 0.0]]], requires_grad=True)
    codes = torch.tensor([[[0.0, 1.0]]], requires_grad=True)
    loss = commitment(features, codes)
    assert loss.item() == pytest.approx(1.0)
    loss.backward()
    assert features.grad is not None and features.grad.tolist() == [[[1.0, -1.0]]]
    assert codes.grad is None
