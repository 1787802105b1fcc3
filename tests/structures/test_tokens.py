from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from imglish.structures.tokens import TokenLayout


def test_a_layout_counts_its_tokens() -> None:
    assert TokenLayout(num_vision=7, num_text=5).num_tokens == 12
    assert TokenLayout(num_vision=0, num_text=5).num_tokens == 5
    assert TokenLayout(num_vision=7, num_text=0).num_tokens == 7


@pytest.mark.parametrize(
    ("num_vision", "num_text", "of_pair", "fused"),
    [
        (7, 5, False, True),
        (1, 1, False, True),
        (7, 0, False, False),
        (0, 5, False, False),
        # A part of a pair is fused although its other part is fed apart.
        (7, 0, True, True),
        (0, 2, True, True),
        (7, 5, True, True),
    ],
)
def test_a_layout_is_fused_where_it_or_its_pair_holds_both_modalities(
    num_vision: int, num_text: int, of_pair: bool, fused: bool
) -> None:
    assert TokenLayout(num_vision, num_text, of_pair).is_fused is fused


def test_tokens_are_no_part_of_a_pair_unless_they_are_said_to_be() -> None:
    alone = TokenLayout(7, 0)
    assert not alone.of_pair
    part = replace(alone, of_pair=True)
    assert part != alone and part.num_tokens == alone.num_tokens


@pytest.mark.parametrize(("num_vision", "num_text"), [(0, 0), (-1, 5), (5, -1)])
def test_a_layout_without_tokens_is_refused_with_both_numbers(num_vision: int, num_text: int) -> None:
    with pytest.raises(ValueError, match=f"got {num_vision} vision and {num_text} text"):
        TokenLayout(num_vision, num_text)


def test_a_layout_does_not_change_and_may_be_a_key() -> None:
    layout = TokenLayout(7, 5)
    with pytest.raises(FrozenInstanceError):
        layout.num_text = 6  # type: ignore[misc]
    assert {layout: "pair"}[TokenLayout(7, 5)] == "pair"
