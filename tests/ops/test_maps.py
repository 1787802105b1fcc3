from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from imglish.ops.maps import as_map


@pytest.mark.parametrize("batch", [1, 2])
def test_a_map_has_its_tokens_row_by_row(batch: int) -> None:
    tokens = torch.randn(batch, 3 * 5, 4)
    found = as_map(tokens, (3, 5))
    assert found.shape == (batch, 4, 3, 5)
    for row in range(3):
        for column in range(5):
            assert torch.equal(found[:, :, row, column], tokens[:, row * 5 + column])


@pytest.mark.parametrize("batch", [1, 2])
def test_what_is_computed_from_a_map_has_its_channels_last_too(batch: int) -> None:
    """Of one picture as of two: torch must know the map for one with channels last."""
    tokens = torch.randn(batch, 40, 8)[:, 4:28]  # one level of several, as the adapter cuts them
    found = as_map(tokens, (4, 6))
    assert found.data_ptr() == tokens.data_ptr()
    for y in (F.interpolate(found, scale_factor=2, mode="bilinear"), found.relu()):
        assert y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
