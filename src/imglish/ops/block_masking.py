"""Which patches to hide: block-wise masking (BEiT, algorithm 1; settings in the parity FACTS, section 10)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockMasking:
    """Draw masks made of rectangles.

    Rectangles are drawn until enough patches are hidden: of a size between ``min_block`` and what is left
    to hide, of an aspect ratio log-uniform in [``min_aspect``, 1 / ``min_aspect``], at a uniform place.

    Args:
        grid_size: (rows, columns) of patches.
        num_masked: Patches to hide.
        min_block: Smallest rectangle in patches; 16 for 14 x 14, less for the small grids.
        max_block: Largest rectangle in patches; None lets it be all that is left to hide.
        min_aspect: Smallest aspect ratio.
        exact: True hides exactly ``num_masked``, by single patches at the end (BEiT v2); False at most that
            many (BEiT).
    """

    grid_size: tuple[int, int]
    num_masked: int
    min_block: int = 16
    max_block: int | None = None
    min_aspect: float = 0.3
    exact: bool = True

    def __post_init__(self) -> None:
        rows, columns = self.grid_size
        if not 0 <= self.num_masked <= rows * columns:
            raise ValueError(f"num_masked {self.num_masked} must lie in 0..{rows * columns}")
        if self.min_block < 1 or not 0 < self.min_aspect <= 1:
            raise ValueError(
                f"min_block {self.min_block} must be positive, min_aspect {self.min_aspect} in (0, 1]"
            )
        if self.max_block is not None and self.max_block < self.min_block:
            raise ValueError(f"max_block {self.max_block} is smaller than min_block {self.min_block}")

    def __call__(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Draw a mask (rows, columns), True where hidden."""
        mask = np.zeros(self.grid_size, dtype=bool)
        count = 0
        while count < self.num_masked:
            left = self.num_masked - count
            added = self._add_block(mask, left if self.max_block is None else min(left, self.max_block), rng)
            if added == 0:
                break
            count += added
        if self.exact and count != self.num_masked:
            pool = np.flatnonzero(~mask if count < self.num_masked else mask)
            mask.reshape(-1)[rng.choice(pool, abs(self.num_masked - count), replace=False)] ^= True
        return mask

    def _add_block(self, mask: NDArray[np.bool_], most: int, rng: np.random.Generator) -> int:
        """Hide one rectangle that covers at least one new patch and at most ``most``; 0 after ten tries."""
        rows, columns = self.grid_size
        log_aspect = math.log(self.min_aspect)
        for _ in range(10):
            area = self.min_block + rng.random() * (most - self.min_block)  # most may be the smaller one
            aspect = math.exp(log_aspect * (1 - 2 * rng.random()))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if not (0 < height < rows and 0 < width < columns):
                continue
            top = int(rng.integers(0, rows - height + 1))
            start = int(rng.integers(0, columns - width + 1))
            block = mask[top : top + height, start : start + width]
            new = block.size - int(block.sum())
            if 0 < new <= most:
                block[:] = True
                return new
        return 0
