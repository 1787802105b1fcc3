"""A codebook on the unit sphere that follows its features (BEiT v2, section 2.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed as dist, nn
from torch.nn import functional as F

from imglish.ops.kmeans import spherical_kmeans


class Quantized(NamedTuple):
    """Codes of a batch.

    codes (B, N, C): unit code vectors, with the gradient of the features passed straight through.
    token_ids int64 (B, N). features (B, N, C): the unit vectors that were quantised.
    """

    codes: Tensor
    token_ids: Tensor
    features: Tensor


class EmaQuantizer(nn.Module):
    """Nearest code by cosine; codes are moving averages of the features that chose them.

    Codes get no gradient. `forward` never changes them: a training step calls `update` after it has used
    the codes, as the official loss uses those from before the update.

    Args:
        codebook_size: Number of codes K.
        dim: Features of a code.
        decay: Share of a code that an update keeps.
        revive_after: A code that no feature chose for so many updates is put onto a random feature of the
            batch; 0 leaves dead codes alone, as the official code does.
    """

    def __init__(self, codebook_size: int, dim: int, *, decay: float = 0.99, revive_after: int = 0) -> None:
        super().__init__()
        self.decay, self.revive_after = decay, revive_after
        self.register_buffer("codebook", F.normalize(torch.randn(codebook_size, dim), dim=1))
        # Statistics of use; the official state dict carries them, and two more that never change.
        self.register_buffer("usage", torch.zeros(codebook_size))
        self.register_buffer("started", torch.zeros(1))
        self.register_buffer("idle_updates", torch.zeros(codebook_size))
        self.codebook: Tensor
        self.usage: Tensor
        self.started: Tensor
        self.idle_updates: Tensor

    def forward(self, features: Tensor) -> Quantized:
        """Quantise features (B, N, C) of any length."""
        unit = F.normalize(features.float(), dim=-1)
        token_ids = self.nearest(unit)
        codes = self.codebook[token_ids]
        return Quantized(unit + (codes - unit).detach(), token_ids, unit)

    def nearest(self, unit: Tensor) -> Tensor:
        """Ids of the nearest codes of unit vectors (..., C), int64 (...); in float32, also under autocast."""
        with torch.autocast(unit.device.type, enabled=False):
            squared = self.codebook.pow(2).sum(dim=1) - 2 * unit.detach() @ self.codebook.T
        return squared.argmin(dim=-1)

    @torch.no_grad()
    def start(self, features: Tensor) -> None:
        """Put the codes onto k-means of features (..., C) of the first batch; nothing once started.

        Under data parallelism the features of all ranks count, in the order of the ranks.
        """
        if bool(self.started):
            return
        unit = F.normalize(features.detach().float().flatten(0, -2), dim=1)
        with torch.autocast(unit.device.type, enabled=False):
            first = _draw(unit, len(self.codebook), again=False)
            means, counts = spherical_kmeans(unit, first, sum_over_ranks=_sum_over_ranks)
        self.codebook.copy_(means)
        self.usage.copy_(counts)
        self.started.fill_(1)

    @torch.no_grad()
    def update(self, unit: Tensor, token_ids: Tensor) -> None:
        """Move the codes towards the features that chose them, over all ranks.

        Args:
            unit: Unit vectors (B, N, C), of a `Quantized`.
            token_ids: int64 (B, N).
        """
        flat, ids = unit.detach().flatten(0, -2), token_ids.flatten()
        counts = _sum_over_ranks(torch.bincount(ids, minlength=len(self.codebook)).to(flat.dtype))
        sums = _sum_over_ranks(torch.zeros_like(self.codebook).index_add_(0, ids, flat))
        self.usage.mul_(self.decay).add_(counts, alpha=1 - self.decay)
        used = counts > 0
        averages = F.normalize(sums / counts.clamp(min=1)[:, None], dim=1)
        # An unused code mixes with itself: unchanged up to rounding.
        averages = torch.where(used[:, None], averages, self.codebook)
        self.codebook.copy_(F.normalize(self.codebook.lerp(averages, 1 - self.decay), dim=1))
        self.idle_updates.add_(1).masked_fill_(used, 0)
        if self.revive_after:
            self._revive(flat)

    def _revive(self, flat: Tensor) -> None:
        dead = (self.idle_updates >= self.revive_after).nonzero().squeeze(1)
        if len(dead):
            self.codebook[dead] = _draw(flat, len(dead), again=True).to(self.codebook.dtype)
            self.idle_updates[dead] = 0


def _draw(flat: Tensor, count: int, *, again: bool) -> Tensor:
    """``count`` random ones of the features (M, C) of all ranks, the same on each: (count, C).

    Rank 0 draws, as the one process would that had the features of all ranks one after the other.

    Args:
        flat: This rank's features.
        count: How many.
        again: True may take a feature twice; False does so only where there are too few.
    """
    lengths = torch.zeros(_num_ranks(), dtype=torch.int64, device=flat.device)
    lengths[_rank()] = len(flat)
    ends = _sum_over_ranks(lengths).cumsum(0).tolist()
    total = ends[-1]
    drawn = torch.randint(total, (count,)) if again or total < count else torch.randperm(total)[:count]
    drawn = drawn.to(flat.device)
    if _num_ranks() > 1:
        dist.broadcast(drawn, src=0)
    places = drawn - (ends[_rank()] - len(flat))
    mine = (places >= 0) & (places < len(flat))
    found = flat.new_zeros(count, flat.shape[1])
    found[mine] = flat[places[mine]]
    return _sum_over_ranks(found)


def _sum_over_ranks(tensor: Tensor) -> Tensor:
    if _num_ranks() > 1:
        dist.all_reduce(tensor)
    return tensor


def _rank() -> int:
    return dist.get_rank() if _num_ranks() > 1 else 0


def _num_ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
