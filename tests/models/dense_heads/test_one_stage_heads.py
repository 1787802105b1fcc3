"""The heads of ATSS and GFL: shapes, order of cells, shared weights, first scores, gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from imglish.models.dense_heads.atss import AtssHead
from imglish.models.dense_heads.gfl import GflHead
from imglish.structures.dense_boxes import AtssPredictions, GflPredictions
from imglish.structures.pyramid import FeaturePyramid

SIZES = {8: (3, 4), 16: (2, 2), 32: (1, 1)}


def pyramid(sizes: dict[int, tuple[int, int]] | None = None) -> FeaturePyramid:
    g = torch.Generator().manual_seed(5)
    return FeaturePyramid({s: torch.randn(2, 6, *size, generator=g) for s, size in (sizes or SIZES).items()})


def atss() -> AtssHead:
    return AtssHead(in_width=6, num_classes=3, num_levels=3, width=8, num_convs=2, num_groups=4)


def gfl() -> GflHead:
    return GflHead(
        in_width=6, num_classes=3, num_levels=3, width=8, num_convs=2, num_groups=4, max_distance=7
    )


def test_every_cell_of_every_level_is_spoken_of() -> None:
    found = atss()(pyramid())
    assert isinstance(found, AtssPredictions)
    assert [tuple(x.shape) for x in found.classes] == [(2, 12, 3), (2, 4, 3), (2, 1, 3)]
    assert [tuple(x.shape) for x in found.deltas] == [(2, 12, 4), (2, 4, 4), (2, 1, 4)]
    assert [tuple(x.shape) for x in found.centerness] == [(2, 12), (2, 4), (2, 1)]
    assert found.levels.strides == (8, 16, 32) and found.levels.grids == tuple(SIZES.values())
    assert [len(x) for x in found.levels.anchors] == [12, 4, 1]
    assert found.levels.anchors[1][3].tolist() == [16 - 64, 16 - 64, 16 + 64, 16 + 64]


def test_a_distance_is_the_mean_of_its_distribution() -> None:
    found = gfl()(pyramid())
    assert isinstance(found, GflPredictions)
    assert [tuple(x.shape) for x in found.distributions] == [(2, 12, 4, 8), (2, 4, 4, 8), (2, 1, 4, 8)]
    for logits, distances in zip(found.distributions, found.distances, strict=True):
        torch.testing.assert_close(distances, logits.softmax(dim=3) @ torch.arange(8.0))


@pytest.mark.parametrize("make", [atss, gfl])
def test_cells_come_row_by_row(make: Callable[[], AtssHead | GflHead]) -> None:
    """A convolution sees the next cell but one at most three times over: far cells do not change."""
    head = make()
    sizes = {8: (1, 40), 16: (1, 1), 32: (1, 1)}
    given = pyramid(sizes)
    for stack in (head.towers.classes, head.towers.boxes):
        for part in stack:
            part.norm = torch.nn.Identity()  # group norm sees everything
    before = head(given)
    given[8][:, :, 0, 30] += 1
    changed = (head(given).classes[0] != before.classes[0]).any(dim=2).any(dim=0)
    assert changed.nonzero()[:, 0].tolist() == [27, 28, 29, 30, 31, 32, 33]


@pytest.mark.parametrize("make", [atss, gfl])
def test_levels_share_all_but_their_factor(make: Callable[[], AtssHead | GflHead]) -> None:
    head = make()
    same = torch.randn(1, 6, 2, 2)
    given = FeaturePyramid(dict.fromkeys(SIZES, same))
    torch.nn.init.constant_(head.scales[1], 3.0)
    found = head(given)
    boxes = found.deltas if isinstance(found, AtssPredictions) else found.distributions
    torch.testing.assert_close(boxes[1], 3 * boxes[0])
    torch.testing.assert_close(boxes[2], boxes[0])
    torch.testing.assert_close(found.classes[1], found.classes[0])


@pytest.mark.parametrize("make", [atss, gfl])
def test_objects_are_rare_at_first(make: Callable[[], AtssHead | GflHead]) -> None:
    found = make()(pyramid())
    torch.testing.assert_close(found.classes[0].sigmoid().mean(), torch.tensor(0.01), rtol=0.3, atol=0)


@pytest.mark.parametrize("make", [atss, gfl])
def test_every_parameter_gets_a_gradient(make: Callable[[], AtssHead | GflHead]) -> None:
    head = make()
    found = head(pyramid())
    parts = found[1:4] if isinstance(found, AtssPredictions) else (found.classes, found.distributions)
    torch.stack([x.pow(2).sum() for part in parts for x in part]).sum().backward()
    assert not [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()]


def test_a_pyramid_of_another_height_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        atss()(pyramid({8: (3, 4)}))


def test_groups_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="num_groups"):
        AtssHead(in_width=6, num_classes=3, width=8, num_groups=3)


def test_without_convolutions_widths_must_agree() -> None:
    with pytest.raises(ValueError, match="without convolutions"):
        AtssHead(in_width=6, num_classes=3, width=8, num_convs=0, num_groups=4)
    head = AtssHead(in_width=6, num_classes=3, num_levels=3, width=6, num_convs=0, num_groups=3)
    assert head(pyramid()).classes[0].shape == (2, 12, 3)
