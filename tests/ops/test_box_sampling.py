"""Boxes to train on are drawn within their shares."""

from __future__ import annotations

import pytest
import torch

from imglish.ops.box_sampling import BoxSampling, draw_boxes, random_order

OBJECTS = torch.tensor([-1, 0, 3, -2, -1, 1, -1, 0, -1, -2])
FOREGROUND, BACKGROUND = [1, 2, 5, 7], [0, 4, 6, 8]


@pytest.mark.parametrize(
    ("number", "share", "foreground", "background"),
    [
        (4, 0.5, [1, 2], [0, 4]),
        (6, 0.25, [1], BACKGROUND),  # less background than there is room for
        (20, 0.5, FOREGROUND, BACKGROUND),
        (3, 1.0, [1, 2, 5], []),
        (2, 0.25, [], [0, 4]),
    ],
)
def test_background_fills_what_the_foreground_leaves(
    number: int, share: float, foreground: list[int], background: list[int]
) -> None:
    drawn = draw_boxes(OBJECTS, BoxSampling(number=number, foreground_share=share), torch.arange)
    assert (drawn.foreground.tolist(), drawn.background.tolist()) == (foreground, background)


def test_draws_are_fair_and_repeatable() -> None:
    sampling = BoxSampling(number=2, foreground_share=0.5)
    generator = torch.Generator().manual_seed(0)
    order = random_order(torch.device("cpu"), generator)
    counts = torch.zeros(10)
    for _ in range(2000):
        drawn = draw_boxes(OBJECTS, sampling, order)
        counts[torch.cat(drawn)] += 1
    # 500 of each in the mean; five standard deviations of sqrt(2000 * 1/4 * 3/4) = 19.
    assert counts[[3, 9]].tolist() == [0, 0]
    assert ((counts[FOREGROUND + BACKGROUND] - 500).abs() < 97).all()
    generator.manual_seed(7)
    first = draw_boxes(OBJECTS, sampling, order)
    generator.manual_seed(7)
    assert all(a.equal(b) for a, b in zip(first, draw_boxes(OBJECTS, sampling, order), strict=True))


def test_orders_are_asked_for_only_where_some_are_left_out() -> None:
    asked: list[int] = []

    def order(number: int) -> torch.Tensor:
        asked.append(number)
        return torch.arange(number)

    draw_boxes(OBJECTS, BoxSampling(number=5, foreground_share=0.8), order)
    assert asked == [4]  # four of foreground are let through, one of four of background is chosen


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="number"):
        BoxSampling(number=0, foreground_share=0.5)
    with pytest.raises(ValueError, match="foreground_share"):
        BoxSampling(number=1, foreground_share=1.5)
