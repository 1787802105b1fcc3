"""Features and their gradients over two ranks, beside one rank that has the whole batch."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed as dist
from torch.multiprocessing.spawn import spawn

from imglish.ops.gather import gather_with_gradient

NUM_RANKS, PER_RANK = 2, 3
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


def check_rank(rank: int, folder: str) -> None:
    meeting = f"file://{folder}/meet"
    patience = timedelta(seconds=60)  # a rank that fails does not keep the other for the usual half hour
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=NUM_RANKS, timeout=patience)
    try:
        whole, weights = samples()
        rows = slice(rank * PER_RANK, (rank + 1) * PER_RANK)
        mine = whole[rows].clone().requires_grad_()
        gathered = gather_with_gradient(mine)
        torch.testing.assert_close(gathered.detach(), whole, rtol=0, atol=0)

        loss_of(gathered, weights[rank]).backward()
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
    finally:
        dist.destroy_process_group()


def test_each_rank_has_all_features_and_gets_the_gradients_of_all_losses(tmp_path: Path) -> None:
    # This process is the last rank, as starting one costs more than the test.
    others = spawn(check_rank, args=(str(tmp_path),), nprocs=NUM_RANKS - 1, join=False)
    check_rank(NUM_RANKS - 1, str(tmp_path))
    while not others.join():
        pass
