from __future__ import annotations

import pytest
import torch
from torch import Tensor

from imglish.nn.deformable_attention import DeformableAttention
from imglish.ops.deformable_attention import LevelSizes, reference_points

SIZES: LevelSizes = ((4, 6), (2, 3))
NUM_PIXELS = 24 + 6


def attention(ratio: float = 1.0) -> DeformableAttention:
    torch.manual_seed(0)
    module = DeformableAttention(width=16, num_heads=4, num_levels=2, num_points=3, ratio=ratio)
    torch.nn.init.normal_(module.sampling_offsets.weight, std=0.2)
    return module


def tokens() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 16, generator=g), torch.randn(2, NUM_PIXELS, 16, generator=g)


def test_padding_is_seen_as_zeros_whatever_it_holds() -> None:
    module = attention()
    torch.nn.init.ones_(module.value_proj.bias)
    query, values = tokens()
    places = torch.rand(5, 2, generator=torch.Generator().manual_seed(1))
    padding = torch.zeros(2, NUM_PIXELS, dtype=torch.bool)
    padding[0, 5:20] = True
    masked = module(query, places, values, SIZES, padding)
    other = torch.where(padding[..., None], 100.0, values)
    assert torch.equal(module(query, places, other, SIZES, padding), masked)
    unmasked = module(query, places, values, SIZES)
    assert not torch.allclose(masked[0], unmasked[0], atol=1e-3)
    torch.testing.assert_close(masked[1], unmasked[1])
    # Where all is padding not even the projection's bias is left.
    nothing = module(query, places, values, SIZES, torch.ones_like(padding))
    torch.testing.assert_close(nothing, module.output_proj.bias.expand_as(nothing))


def test_a_place_may_be_given_once_or_for_each_picture_and_level() -> None:
    module, (query, values) = attention(), tokens()
    places = reference_points(((1, 5),))
    each = places[None, :, None].expand(2, -1, 2, -1)
    torch.testing.assert_close(module(query, places, values, SIZES), module(query, each, values, SIZES))


def test_in_a_box_offsets_are_shares_of_half_the_box() -> None:
    module, (query, values) = attention(), tokens()
    centres = torch.rand(5, 2, generator=torch.Generator().manual_seed(1))
    # A point of offset 1 lies 1 / 3 of half the box from the centre: in a box of 6 pixels that is 1 pixel.
    width, height = 6.0 / torch.tensor([6.0, 3.0]), 6.0 / torch.tensor([4.0, 2.0])
    sides = torch.stack([width, height], dim=-1).expand(2, 5, 2, 2)
    boxes = torch.cat([centres[None, :, None].expand(2, -1, 2, -1), sides], dim=-1)
    torch.testing.assert_close(
        module(query, boxes, values, SIZES), module(query, centres, values, SIZES), rtol=1e-4, atol=1e-5
    )


def test_bfloat16_places_are_sampled_as_float32_ones() -> None:
    module, sizes = attention().bfloat16(), ((1, 512), (2, 3))  # among 512 pixels bfloat16 misses by one
    g = torch.Generator().manual_seed(0)
    query = torch.randn(2, 5, 16, generator=g).bfloat16()
    values = torch.randn(2, 512 + 6, 16, generator=g).bfloat16()
    places = torch.rand(5, 2, generator=g)
    found = module(query, places, values, sizes)
    assert found.dtype == torch.bfloat16
    expected = module.float()(query.float(), places, values.float(), sizes)
    # bfloat16 has 8 bits; three projections are rounded to them, offsets of up to three pixels too.
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_values_that_do_not_divide_into_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="value width 8 is not divisible by num_heads 3"):
        DeformableAttention(width=16, num_heads=3, num_levels=1, ratio=0.5)
