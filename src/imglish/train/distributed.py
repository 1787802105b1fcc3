"""Ranks: torchrun starts the processes, this joins them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed as dist, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from imglish.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which process this is, of how many, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and talks to the user."""
        return self.rank == 0


@contextmanager
def join_ranks(device: str = "auto") -> Iterator[Ranks]:
    """Join the process group that torchrun announces; leave it at the end.

    Tensors on GPUs travel by NCCL, those on CPU by gloo: metrics count on the CPU whatever computes. Under
    ``torchrun --max-restarts`` on several machines set ``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1``, so that
    restarted ranks do not read the addresses of those before them.

    Args:
        device: ``auto``, or a device as torch names it.

    Raises:
        ConfigError: There is no such device here.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = _choose(device, local_rank)
    if world_size == 1:
        ours = not dist.is_initialized()
        try:
            yield Ranks(0, 1, chosen)
        finally:
            if ours and dist.is_initialized():  # see `join_alone`
                dist.destroy_process_group()
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and os.environ.get("GROUP_WORLD_SIZE") == "1":
        # torchrun keeps its store when it restarts the ranks: without names of their own, they would find the
        # addresses of those that died.
        store, rank, world_size = next(rendezvous("env://"))
        restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        dist.init_process_group(
            backend, store=PrefixStore(f"restart_{restarts}", store), rank=rank, world_size=world_size
        )
    else:
        dist.init_process_group(backend)
    try:
        yield Ranks(dist.get_rank(), world_size, chosen)
    finally:
        dist.destroy_process_group()


def join_alone(device: torch.device) -> None:
    """Make a process group of this process alone, where there is none yet: some of torch wants one."""
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)


def any_rank(flag: bool, ranks: Ranks) -> bool:
    """True on all ranks where ``flag`` is True on any."""
    if ranks.world_size == 1:
        return flag
    votes = torch.tensor([float(flag)], device=ranks.device)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes.item())


def sum_over_ranks(count: int, ranks: Ranks) -> int:
    """Sum of the counts of all ranks, on each of them."""
    if ranks.world_size == 1:
        return count
    total = torch.tensor([count], device=ranks.device)
    dist.all_reduce(total)
    return int(total.item())


def add_over_ranks(numbers: Tensor, ranks: Ranks) -> Tensor:
    """Sum of a tensor on the CPU over all ranks, on each of them; other devices would need another group."""
    if ranks.world_size == 1:
        return numbers
    total = numbers.clone()
    dist.all_reduce(total)
    return total


def mean_over_ranks(numbers: Tensor, ranks: Ranks) -> Tensor:
    """Mean of a tensor on the ranks' device over all ranks, on each of them; without gradient."""
    if ranks.world_size == 1:
        return numbers.detach()
    total = numbers.detach().clone()
    dist.all_reduce(total)
    return total / ranks.world_size


def copy_buffers_of_main(model: nn.Module, ranks: Ranks) -> None:
    """Give every rank the buffers of the main one, which are those that are saved.

    Batch norm counts each rank's own pictures; to score with them would score another model on each rank.
    """
    if ranks.world_size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def _choose(device: str, local_rank: int) -> torch.device:
    if device != "auto":
        try:
            chosen = torch.device(device)
            torch.empty(0, device=chosen)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"train.device {device!r} is none of this machine: {reason}") from error
        return chosen
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
