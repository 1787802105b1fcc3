from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from imglish.ops.block_masking import BlockMasking

DRAWS = 200


def draw(masking: BlockMasking, seed: int = 0) -> NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    return np.stack([masking(rng) for _ in range(DRAWS)])


def windows(masks: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Whether each square of a side is wholly hidden, (draws, rows - side + 1, columns - side + 1)."""
    views = np.lib.stride_tricks.sliding_window_view(masks, (side, side), axis=(1, 2))
    hidden: NDArray[np.bool_] = np.all(views, axis=(3, 4))
    return hidden


@pytest.mark.parametrize(
    ("grid_size", "num_masked", "min_block"),
    [((4, 4), 6, 2), ((4, 4), 6, 16), ((6, 6), 14, 4), ((8, 8), 26, 16), ((3, 5), 6, 2), ((14, 14), 78, 16)],
)
def test_exact_masks_hide_the_number_asked_for(
    grid_size: tuple[int, int], num_masked: int, min_block: int
) -> None:
    masks = draw(BlockMasking(grid_size=grid_size, num_masked=num_masked, min_block=min_block))
    assert masks.shape == (DRAWS, *grid_size)
    assert (masks.sum(axis=(1, 2)) == num_masked).all()


@pytest.mark.parametrize("num_masked", [0, 16])
def test_nothing_or_everything_can_be_hidden(num_masked: int) -> None:
    masks = draw(BlockMasking(grid_size=(4, 4), num_masked=num_masked, min_block=2))
    assert (masks.sum(axis=(1, 2)) == num_masked).all()


def test_masks_of_beit_hide_at_most_the_number_asked_for_and_it_varies() -> None:
    counts = draw(BlockMasking(grid_size=(14, 14), num_masked=75, exact=False)).sum(axis=(1, 2))
    assert counts.max() == 75
    assert 60 < counts.min() < 75


def test_hidden_patches_come_in_rectangles() -> None:
    # Squares of 2 x 2 only: hidden patches lie in one that is wholly hidden.
    masking = BlockMasking(
        grid_size=(8, 8), num_masked=20, min_block=4, max_block=4, min_aspect=1.0, exact=False
    )
    masks = draw(masking)
    covered = np.zeros_like(masks)
    squares = windows(masks, 2)
    for row in range(2):
        for column in range(2):
            covered[:, row : row + 7, column : column + 7] |= squares
    # But for one or two single patches at the end, when less than a square is left to hide.
    assert (masks & ~covered).sum(axis=(1, 2)).max() <= 2


def test_the_largest_rectangle_can_be_limited() -> None:
    free = BlockMasking(grid_size=(14, 14), num_masked=60, min_block=4)
    limited = BlockMasking(grid_size=(14, 14), num_masked=60, min_block=4, max_block=6)
    # Wholly hidden squares of 4 x 4 come from large rectangles, and by chance from small ones.
    assert windows(draw(limited), 4).mean() < windows(draw(free), 4).mean() / 4


def test_the_same_generator_gives_the_same_masks() -> None:
    masking = BlockMasking(grid_size=(8, 8), num_masked=26, min_block=4)
    assert (draw(masking, seed=1) == draw(masking, seed=1)).all()
    assert (draw(masking, seed=1) != draw(masking, seed=2)).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_masked": 17}, "num_masked 17 must lie in 0..16"),
        ({"min_block": 0}, "min_block 0 must be positive"),
        ({"min_aspect": 1.5}, r"min_aspect 1.5 in \(0, 1\]"),
        ({"min_block": 4, "max_block": 3}, "max_block 3 is smaller than min_block 4"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BlockMasking(**{"grid_size": (4, 4), "num_masked": 6, **changes})  # type: ignore[arg-type]
