from __future__ import annotations

import torch

from imglish.models.vit.positions import RelativePositionBias, relative_position_index, resample_positions


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
