from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from imglish.ops import points as points_module
from imglish.ops.points import sample_masks, sample_points, uncertain_points
from tests.ops.largest_tensor import LargestTensor


def drawn(seed: int, log: list[tuple[int, int]] | None = None) -> Callable[[int, int], Tensor]:
    g = torch.Generator().manual_seed(seed)

    def draw(count: int, num_points: int) -> Tensor:
        if log is not None:
            log.append((count, num_points))
        points = torch.rand(count, num_points, 2, generator=g)
        points[..., 1] = 0.5  # near the upper and lower border maps fade
        return points

    return draw


def test_at_the_centres_of_pixels_points_read_the_pixels() -> None:
    maps = torch.arange(24.0).view(2, 1, 3, 4) + torch.tensor([0.0, 100.0]).view(2, 1, 1, 1)
    centres = torch.tensor([[(0.5 / 4, 0.5 / 3), (2.5 / 4, 1.5 / 3), (3.5 / 4, 2.5 / 3)]]).expand(2, -1, -1)
    expected = torch.stack([maps[i, 0, [0, 1, 2], [0, 2, 3]] for i in range(2)])[:, None]
    torch.testing.assert_close(sample_points(maps, centres), expected)


def test_between_pixels_they_blend_and_beyond_the_last_they_fade() -> None:
    row = torch.tensor([2.0, 6.0]).view(1, 1, 1, 2)
    places = torch.tensor([[(0.5, 0.5), (0.0, 0.5), (1.0, 0.5)]])
    torch.testing.assert_close(sample_points(row, places), torch.tensor([[[4.0, 1.0, 3.0]]]))


def test_channels_of_a_map_share_its_points() -> None:
    maps = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    points = drawn(1)(2, 4)
    alone = torch.stack([sample_points(maps[:, c : c + 1], points)[:, 0] for c in range(3)], dim=1)
    torch.testing.assert_close(sample_points(maps, points), alone)


def test_most_points_lie_where_the_mask_hesitates() -> None:
    steps = torch.linspace(-50, 50, 100).expand(2, 20, 100).contiguous()  # zero in the middle column
    log: list[tuple[int, int]] = []
    points = uncertain_points(steps, 40, oversample=3.0, importance=0.75, draw=drawn(0, log))
    assert log == [(2, 120), (2, 10)] and points.shape == (2, 40, 2)
    again = drawn(0)
    candidates, rest = again(2, 120), again(2, 10)
    assert torch.equal(points[:, 30:], rest)
    far = (candidates[..., 0] - 0.5).abs().sort(dim=1).values
    torch.testing.assert_close((points[:, :30, 0] - 0.5).abs().sort(dim=1).values, far[:, :30])


@pytest.mark.parametrize(("importance", "calls"), [(1.0, 1), (0.0, 2)])
def test_all_or_none_may_be_uncertain_ones(importance: float, calls: int) -> None:
    log: list[tuple[int, int]] = []
    points = uncertain_points(
        torch.randn(3, 4, 4), 8, oversample=2, importance=importance, draw=drawn(0, log)
    )
    assert points.shape == (3, 8, 2) and len(log) == calls


def test_masks_become_numbers_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(0)
    masks = torch.rand(40, 30, 50, generator=g) < 0.5
    numbers, own = torch.randperm(40, generator=g)[:33], torch.rand(33, 7, 2, generator=g)
    monkeypatch.setattr(points_module, "_PIXELS_AT_ONCE", 4 * 30 * 50)
    with LargestTensor() as seen:
        each = sample_masks(masks, numbers, own, torch.float32)
        same = sample_masks(masks, numbers, own[:1], torch.float32)
    assert seen.bytes == 4 * 4 * 30 * 50
    assert torch.equal(each, sample_points(masks[numbers][:, None].float(), own)[:, 0])
    assert torch.equal(same, sample_points(masks[numbers][None].float(), own[:1])[0])
    assert sample_masks(masks[:0], numbers[:0], own[:1], torch.float64).shape == (0, 7)
