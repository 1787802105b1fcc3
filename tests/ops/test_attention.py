from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from imglish.ops.attention import (
    attend_with_shared,
    key_mask,
    merge_masks,
    prefix_causal_mask,
)
from imglish.structures.tokens import TokenLayout


def drawn(rows: str) -> torch.Tensor:
    """A mask as a drawing: ``x`` where looking is allowed."""
    return torch.tensor([[place == "x" for place in row] for row in rows.split()])


@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        (TokenLayout(2, 3), "xx... xx... xxx.. xxxx. xxxxx"),
        (TokenLayout(3, 0), "xxx xxx xxx"),
        (TokenLayout(0, 3), "x.. xx. xxx"),
        (TokenLayout(1, 1), "x. xx"),
    ],
)
def test_words_see_the_picture_and_the_words_up_to_themselves(layout: TokenLayout, rows: str) -> None:
    assert torch.equal(prefix_causal_mask(layout), drawn(rows))


def test_nobody_sees_a_padded_key() -> None:
    padding = torch.tensor([[False, False, True], [False, True, True]])
    mask = key_mask(padding)
    assert mask.shape == (2, 1, 1, 3)
    assert torch.equal(mask[:, 0, 0], drawn("xx. x.."))


def test_attention_with_a_key_mask_is_attention_without_those_keys() -> None:
    g = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 4, 8, generator=g) for _ in range(3))
    padding = torch.tensor([[False, False, False, True]])
    masked = F.scaled_dot_product_attention(query, key, value, attn_mask=key_mask(padding))
    short = F.scaled_dot_product_attention(query, key[:, :, :3], value[:, :, :3])
    torch.testing.assert_close(masked, short)


def test_merged_masks_allow_what_all_of_them_allow() -> None:
    padding = torch.tensor([[False, False, False], [False, True, False]])
    merged = merge_masks(key_mask(padding), None, prefix_causal_mask(TokenLayout(1, 2)))
    assert merged is not None and merged.shape == (2, 1, 3, 3)
    assert torch.equal(merged[0, 0], drawn("x.. xx. xxx"))
    assert torch.equal(merged[1, 0], drawn("x.. x.. x.x"))


def test_merging_leaves_its_masks_alone_and_nothing_merges_to_nothing() -> None:
    first, second = drawn("x.x"), drawn("xx.")
    merged = merge_masks(first, second)
    assert merged is not None and torch.equal(merged, drawn("x.."))
    assert torch.equal(first, drawn("x.x")) and torch.equal(second, drawn("xx."))
    assert merge_masks() is None and merge_masks(None, None) is None


def test_shared_keys_are_as_good_as_copies_for_each_row() -> None:
    torch.manual_seed(0)
    query, keys, values = torch.randn(6, 2, 3, 4), torch.randn(6, 2, 5, 4), torch.randn(6, 2, 5, 4)
    shared_keys, shared_values = torch.randn(2, 2, 7, 4), torch.randn(2, 2, 7, 4)
    mask = torch.rand(3, 5) < 0.7
    found = attend_with_shared(query, keys, values, shared_keys, shared_values, mask)
    copied = [
        torch.cat([a.repeat_interleave(3, dim=0), b], dim=2)
        for a, b in ((shared_keys, keys), (shared_values, values))
    ]
    whole = torch.cat([torch.ones(3, 7, dtype=torch.bool), mask], dim=1)
    expected = F.scaled_dot_product_attention(query, *copied, attn_mask=whole)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)  # another order of summation
