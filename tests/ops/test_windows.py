from __future__ import annotations

import pytest
import torch

from imglish.ops.windows import merge_windows, partition_windows


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (3, 2), (1, 13)])
@pytest.mark.parametrize("window", [(2, 3), (4, 4), (1, 5)])
def test_merging_undoes_cutting(size: tuple[int, int], window: tuple[int, int]) -> None:
    x = torch.randn(2, *size, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(merge_windows(partition_windows(x, window), window, size), x)


def test_windows_follow_row_by_row_and_padding_is_zero() -> None:
    x = torch.arange(1.0, 16.0).view(1, 3, 5, 1)
    windows = partition_windows(x, (2, 3))[..., 0]
    assert windows.tolist() == [
        [1, 2, 3, 6, 7, 8],
        [4, 5, 0, 9, 10, 0],
        [11, 12, 13, 0, 0, 0],
        [14, 15, 0, 0, 0, 0],
    ]


def test_windows_of_each_picture_stay_together() -> None:
    x = torch.randn(3, 4, 4, 2)
    windows = partition_windows(x, (2, 2))
    assert windows.shape == (12, 4, 2)
    assert torch.equal(windows[4:8], partition_windows(x[1:2], (2, 2)))
