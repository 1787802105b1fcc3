"""Features and their gradients over two ranks, beside one rank that has the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor

from imglish.ops.gather import gather_with_gradient
from imglish.train.distributed import Ranks
from tests.distributed.ranks import NUM_RANKS, on_two_ranks

PER_RANK = 3
ROUNDING = {"rtol": 1e-9, "atol": 1e-12}  # float64, summed in another order


def samples() -> tuple[Tensor, Tensor]:
    """Features (B, 2, C) of the whole batch and what each rank weighs them with (ranks, B, 2, C)."""
    g = torch.Generator().manual_seed(0)
    size = (NUM_RANKS * PER_RANK, 2, 4)
    return (
        torch.randn(size, generator=g, dtype=torch.float64),
        torch.randn(NUM_RANKS, *size, generator=g, dtype=torch.float64),
    )


def loss_of(features: Tensor, weights: Tensor) -> Tensor:
    """A loss in which every feature meets every other."""
    return (features.flatten(1) @ features.flatten(1).T).tanh().sum() + (features * weights).sum()


def test_one_rank_gets_its_own_back() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    assert gather_with_gradient(x) is x


def check_rank(ranks: Ranks) -> None:
    whole, weights = samples()
    rows = slice(ranks.rank * PER_RANK, (ranks.rank + 1) * PER_RANK)
    mine = whole[rows].clone().requires_grad_()
    gathered = gather_with_gradient(mine)
    torch.testing.assert_close(gathered.detach(), whole, rtol=0, atol=0)

    loss_of(gathered, weights[ranks.rank]).backward()
    alone = whole.clone().requires_grad_()
    torch.stack([loss_of(alone, of_rank) for of_rank in weights]).sum().backward()
    assert mine.grad is not None and alone.grad is not None
    torch.testing.assert_close(mine.grad, alone.grad[rows], **ROUNDING)

    turned = whole.transpose(1, 2)[rows]  # not contiguous in memory
    torch.testing.assert_close(gather_with_gradient(turned), whole.transpose(1, 2), rtol=0, atol=0)
    # A gradient that is one number spread out in memory, as a sum gives it.
    ones = torch.ones(PER_RANK, 1, dtype=torch.float64, requires_grad=True)
    gather_with_gradient(ones).sum().backward()
    assert ones.grad is not None and torch.equal(ones.grad, torch.full_like(ones, NUM_RANKS))


def test_each_rank_has_all_features_and_gets_the_gradients_of_all_losses() -> None:
    on_two_ranks(check_rank)
