from __future__ import annotations

import torch

from imglish.models.necks.fpn import Fpn
from imglish.structures.pyramid import FeaturePyramid


def pyramid(widths: tuple[int, ...] = (6, 6, 6, 6)) -> FeaturePyramid:
    g = torch.Generator().manual_seed(1)
    return FeaturePyramid(
        {4 << i: torch.randn(2, c, 16 >> i, 24 >> i, generator=g) for i, c in enumerate(widths)}
    )


def test_all_levels_get_one_width_and_keep_their_sizes() -> None:
    given = pyramid((3, 4, 5, 6))
    found = Fpn((3, 4, 5, 6), 8)(given)
    assert found.sizes() == given.sizes()
    assert {x.shape[1] for x in found.maps.values()} == {8}


def test_a_level_learns_of_the_coarser_ones_only() -> None:
    neck, given = Fpn((6,) * 4, 8), pyramid()
    before = neck(given)
    changed = FeaturePyramid({**given.maps, 16: given[16] + 1})
    after = neck(changed)
    differs = {stride: not torch.equal(after[stride], before[stride]) for stride in given.strides}
    assert differs == {4: True, 8: True, 16: True, 32: False}


def test_a_cell_is_handed_down_to_the_cells_below_it() -> None:
    neck = Fpn((1, 1), 1)
    for conv in (*neck.laterals, *neck.outputs):
        torch.nn.init.dirac_(conv.weight)
    coarse = torch.tensor([[1.0, 2.0]]).view(1, 1, 1, 2)
    found = neck(FeaturePyramid({4: torch.zeros(1, 1, 2, 3), 8: coarse}))
    torch.testing.assert_close(found[4][0, 0], torch.tensor([[1.0, 1.0, 2.0]] * 2))  # nearest, cut to size
