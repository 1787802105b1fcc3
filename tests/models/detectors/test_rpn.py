"""Which anchors the region proposal network is trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from imglish.models.detectors.config import RpnConfig, cascade_mask_rcnn, mask_rcnn, mask_rcnn_upgraded
from imglish.models.detectors.objects import objects_of
from imglish.models.detectors.rpn import RegionProposals
from imglish.ops.box_sampling import BoxSampling
from imglish.structures.pyramid import FeaturePyramid
from tests.models.detectors.tiny import instances, order

BATCH, PICTURE = 256, (70, 40)  # pixels of the padded batch's sides, and (height, width) of the picture in it
STRIDES = (4, 8, 16, 32, 64)
ALL = BoxSampling(number=10**6, foreground_share=0.5)


def trained_on(config: RpnConfig) -> list[tuple[float, float, int]]:
    """(x, y) of the cells that anchors of a picture without objects are drawn from, and their level."""
    torch.manual_seed(0)
    rpn = RegionProposals(8, replace(config, sampling=ALL))
    pyramid = FeaturePyramid(
        {stride: torch.zeros(1, 8, BATCH // stride, BATCH // stride) for stride in STRIDES}
    )
    sample = rpn.sample(rpn(pyramid), [PICTURE], [objects_of(instances([], PICTURE))], order())
    assert not sample.foreground.any()
    centers = (sample.anchors[:, :2] + sample.anchors[:, 2:]) / 2
    return [(x, y, level) for (x, y), level in zip(centers.tolist(), sample.levels.tolist(), strict=True)]


def test_cells_beyond_a_picture_and_its_own_padding_are_left_out() -> None:
    """As mmdetection's valid flags: the sides rounded up to 96 x 64, in cells, rounded up once more."""
    drawn = trained_on(mask_rcnn().rpn)
    # Rows and columns of 96 x 64 pixels at strides 4, 8, 16, 32, 64; three anchors of a cell.
    assert len(drawn) == 3 * (24 * 16 + 12 * 8 + 6 * 4 + 3 * 2 + 2 * 1)
    assert all(x < 64 and y < 96 for x, y, _ in drawn)


def test_pictures_padded_to_one_square_are_trained_on_all_of_it() -> None:
    """Large-scale jitter pads every picture to the square, so that no cell is beyond a picture's padding."""
    assert len(trained_on(mask_rcnn_upgraded().rpn)) == 3 * sum((BATCH // stride) ** 2 for stride in STRIDES)


@pytest.mark.parametrize("on_padding", [False, True])
def test_a_border_of_nothing_wants_whole_anchors_on_the_picture(on_padding: bool) -> None:
    """Squares of 8 cells around each cell: the cascades' border is that of the picture without padding."""
    drawn = trained_on(replace(cascade_mask_rcnn().rpn, on_padding=on_padding))
    # At stride 4 squares of 32 pixels: x of 16, 20 (36 < 40), y of 16 to 52 (68 < 70); the tall ones,
    # 22.6 x 45.3, x of 12 to 28, y of 24 to 44; the wide ones, 45.3 x 22.6, do not fit.
    assert len(drawn) == 2 * 10 + 5 * 6
    assert {level for _, _, level in drawn} == {0}
