from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import RectBivariateSpline
from torch.nn import functional as F

from imglish.models.vit.positions import (
    RelativePositionBias,
    relative_position_index,
    resample_positions,
    resize_positions,
    resize_relative_positions,
)


def test_pairs_at_the_same_offset_share_a_row_and_others_do_not() -> None:
    rows, columns = 3, 4
    index = relative_position_index((rows, columns))[1:, 1:]
    places = [(y, x) for y in range(rows) for x in range(columns)]
    seen: dict[tuple[int, int], set[int]] = {}
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            seen.setdefault((y - v, x - u), set()).add(int(index[i, j]))
    assert all(len(found) == 1 for found in seen.values())
    assert set.union(*seen.values()) == set(range((2 * rows - 1) * (2 * columns - 1)))


def test_the_class_token_has_the_last_three_rows() -> None:
    index = relative_position_index((2, 2))
    assert index[0].tolist() == [11, 9, 9, 9, 9]
    assert index[:, 0].tolist() == [11, 10, 10, 10, 10]


def test_bias_is_read_from_the_table_for_each_head() -> None:
    bias = RelativePositionBias((2, 3), num_heads=4)
    torch.nn.init.normal_(bias.table)
    assert torch.equal(bias()[2, 5, 1], bias.table[bias.index[5, 1], 2])
    assert bias().shape == (4, 7, 7)
    assert list(bias.state_dict()) == ["table"]


def test_positions_of_the_same_grid_are_left_alone() -> None:
    positions = torch.randn(1, 13, 8)
    assert resample_positions(positions, (3, 4), (3, 4)) is positions


def test_resampling_keeps_the_class_token_and_a_slope() -> None:
    down = torch.arange(4.0)[:, None].expand(4, 4).reshape(1, 16, 1)
    positions = torch.cat([torch.full((1, 1, 1), 9.0), down], dim=1)
    resampled = resample_positions(positions, (4, 4), (8, 4))
    assert resampled.shape == (1, 33, 1) and resampled[0, 0, 0] == 9
    grid = resampled[0, 1:, 0].view(8, 4)
    assert (grid.diff(dim=0)[1:-1] > 0).all()
    torch.testing.assert_close(grid, grid[:, :1].expand(8, 4))


# Other grids, where a checkpoint is loaded


# The ratio of the progression is narrowed down to 1e-6, which the steep spline of random numbers multiplies.
RATIO_NOISE = 1e-3


def offsets_of_scipy(table: torch.Tensor, old: tuple[int, int], new: tuple[int, int]) -> torch.Tensor:
    """Offsets alone, by FITPACK's bicubic spline over coordinates that grow to the farthest new offset."""
    axes = []
    for before, after in zip(old, new, strict=True):
        powers = np.arange(before - 1)
        exact = max(np.roots([*[1.0] * (before - 2), 2.0 - after]).real) if after > before else 1.0
        ratio = 1.0 if after == before else np.clip(exact, 1.01, 1.5)
        distances = np.cumsum(ratio**powers)
        axes.append(np.concatenate([-distances[::-1], [0.0], distances]))
    wanted = [np.arange(1 - after, after) for after in new]
    heads = [
        RectBivariateSpline(*axes, head.double().numpy(), kx=3, ky=3, s=0)(*wanted).reshape(-1)
        for head in table[:-3].T.unflatten(1, (2 * old[0] - 1, 2 * old[1] - 1))
    ]
    return torch.from_numpy(np.stack(heads, axis=1)).float()


@pytest.mark.parametrize(
    ("old", "new"),
    [((4, 4), (6, 6)), ((14, 14), (24, 24)), ((24, 24), (14, 14)), ((3, 5), (5, 9)), ((6, 4), (8, 4))],
)
def test_tables_of_offsets_go_through_the_spline_of_the_official_loaders(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    num_offsets = (2 * old[0] - 1) * (2 * old[1] - 1)
    table = torch.randn(num_offsets + 3, 2, generator=torch.Generator().manual_seed(0))
    resized = resize_relative_positions(table, old, new)
    assert torch.equal(resized[-3:], table[-3:])
    torch.testing.assert_close(resized[:-3], offsets_of_scipy(table, old, new), rtol=0, atol=RATIO_NOISE)


def test_neighbours_and_the_rim_keep_their_bias() -> None:
    table = torch.randn(27 * 27 + 3, 1, generator=torch.Generator().manual_seed(0))
    before = table[:-3].view(27, 27)
    after = resize_relative_positions(table, (14, 14), (24, 24))[:-3].view(47, 47)
    torch.testing.assert_close(after[22:25, 22:25], before[12:15, 12:15])
    torch.testing.assert_close(after[::46, ::46], before[::26, ::26], rtol=0, atol=1e-3)


def test_a_grid_too_small_for_cubes_is_resized_by_what_goes_through_it() -> None:
    table = torch.arange(12.0)[:, None]  # 2 x 2 patches: offsets 0 to 8, in rows of three
    grown = resize_relative_positions(table, (2, 2), (3, 2))[:-3].view(5, 3)
    assert grown.tolist()[1:4] == table[:9].view(3, 3).tolist()
    assert torch.equal(grown[0], grown[1]) and torch.equal(grown[4], grown[3])  # no bias is known beyond
    row = torch.arange(8.0)[:, None]  # 1 x 3 patches
    twice = resize_relative_positions(row, (1, 3), (2, 3))[:-3].view(3, 5)
    assert (twice == row[:5, 0]).all()


def test_a_table_of_the_same_grid_is_left_alone_and_half_precision_stays() -> None:
    table = torch.randn(52, 2)
    assert resize_relative_positions(table, (4, 4), (4, 4)) is table
    half = resize_relative_positions(table.half(), (4, 4), (6, 6))
    assert half.dtype == torch.float16
    torch.testing.assert_close(half, resize_relative_positions(table.half().float(), (4, 4), (6, 6)).half())


def test_loaded_positions_are_resampled_by_the_sizes_alone() -> None:
    positions = torch.randn(1, 17, 3, generator=torch.Generator().manual_seed(0))
    assert resize_positions(positions, (4, 4), (4, 4)) is positions
    resized = resize_positions(positions, (4, 4), (6, 8))
    expected = F.interpolate(
        positions[:, 1:].reshape(1, 4, 4, 3).permute(0, 3, 1, 2), size=(6, 8), mode="bicubic"
    )
    assert torch.equal(resized[:, 0], positions[:, 0])
    torch.testing.assert_close(resized[0, 1:].T.reshape(3, 6, 8), expected[0])
    assert (resized - resample_positions(positions, (4, 4), (6, 8))).abs().max() > 1e-3
