from __future__ import annotations

import math

import pytest
import torch

from imglish.ops.sine_positions import grid_positions, sine_positions


def test_the_first_half_tells_the_row_and_the_second_the_column() -> None:
    encoded = grid_positions((3, 5), 8)[0]
    assert encoded.shape == (8, 3, 5)
    assert torch.equal(encoded[:4, :, :1].expand(-1, -1, 5), encoded[:4])
    assert torch.equal(encoded[4:, :1].expand(-1, 3, -1), encoded[4:])


def test_rows_are_counted_from_one_and_the_last_is_a_whole_turn() -> None:
    encoded = grid_positions((4, 1), 4)[0, :, :, 0]
    turns = torch.tensor([0.25, 0.5, 0.75, 1.0]) * 2 * math.pi
    torch.testing.assert_close(encoded[0], turns.sin(), atol=1e-5, rtol=0)  # eps in the divisor
    torch.testing.assert_close(encoded[1], turns.cos(), atol=1e-5, rtol=0)


def test_pairs_of_channels_turn_ever_more_slowly() -> None:
    encoded = grid_positions((2, 1), 16, torch.device("cpu"))[0, :8, 1, 0]
    slower = 2 * math.pi / 10000.0 ** (torch.arange(4) * 2 / 8)
    torch.testing.assert_close(encoded[0::2], slower.sin(), atol=1e-5, rtol=0)
    torch.testing.assert_close(encoded[1::2], slower.cos(), atol=1e-5, rtol=0)


def test_what_is_padded_is_not_counted() -> None:
    padding = torch.zeros(1, 3, 6, dtype=torch.bool)
    padding[:, :, 4:] = True
    torch.testing.assert_close(sine_positions(padding, 8)[..., :4], grid_positions((3, 4), 8))


def test_a_width_that_does_not_divide_by_four_is_refused() -> None:
    with pytest.raises(ValueError, match="width 6"):
        grid_positions((2, 2), 6)
