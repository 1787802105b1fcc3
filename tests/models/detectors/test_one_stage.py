"""ATSS and GFL from pictures to boxes: whole detectors over a small convolutional backbone."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from imglish.decoding.boxes import DenseSelection, select_boxes
from imglish.losses.one_stage import OneStageLoss, dense_targets, mean_terms, one_stage_terms
from imglish.models.detectors.one_stage import OneStageDetector, build_one_stage
from imglish.models.detectors.one_stage_config import STRIDES, OneStageConfig
from imglish.ops.anchors import level_sizes, square_levels
from imglish.ops.boxes import pairwise_overlaps
from imglish.structures.dense_boxes import AtssPredictions, GflPredictions
from imglish.structures.instances import Instances
from imglish.structures.pyramid import FeaturePyramid

Kind = Literal["atss", "gfl"]
KINDS: tuple[Kind, ...] = ("atss", "gfl")


class Backbone(nn.Module):
    """Four levels by strided convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [3, width // 2, width, width, width, width]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.ReLU())
            for before, after in pairwise(widths)
        )

    def forward(self, images: Tensor) -> FeaturePyramid:
        maps, x = {}, images
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            maps[2**number] = x
        del maps[2]
        return FeaturePyramid(maps)


def detector(kind: Kind, num_classes: int = 2) -> OneStageDetector:
    torch.manual_seed(3)
    config = OneStageConfig(kind=kind, width=32, num_convs=1, num_groups=4, anchor_scale=4)
    return build_one_stage(Backbone(32), 32, config, num_classes=num_classes)


def pictures(number: int) -> tuple[Tensor, list[Instances]]:
    """A bright rectangle in each half, red ones of class 0 and blue ones of class 1."""
    g = torch.Generator().manual_seed(8)
    images, objects = torch.zeros(number, 3, 64, 128), []
    for image in images:
        boxes, labels = [], torch.randint(2, (2,), generator=g)
        for half, label in enumerate(labels):
            x, y, width, height = torch.randint(0, 18, (4,), generator=g).tolist()
            box = [64 * half + x, y, 64 * half + x + width + 20, y + height + 20]
            image[2 * int(label), box[1] : box[3], box[0] : box[2]] = 1
            boxes.append(box)
        crowd = torch.zeros(2, dtype=torch.bool)
        objects.append(Instances(boxes=torch.tensor(boxes).float(), labels=labels, crowd=crowd))
    return images, objects


@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_those_that_pictures_of_that_size_give(kind: Kind) -> None:
    found = detector(kind)(torch.zeros(1, 3, 96, 160))
    assert isinstance(found, AtssPredictions if kind == "atss" else GflPredictions)
    expected = square_levels(level_sizes((96, 160), STRIDES), 4)
    assert found.levels.grids == expected.grids and found.levels.strides == STRIDES
    assert all(map(torch.equal, found.levels.anchors, expected.anchors))
    assert [x.shape[1] for x in found.classes] == [240, 60, 15, 6, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_objects_of_a_few_pictures_are_learned_and_found(kind: Kind) -> None:
    model, loss = detector(kind), OneStageLoss()
    images, objects = pictures(2)
    sizes = [(64, 128)] * 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    levels = square_levels(level_sizes((64, 128), STRIDES), 4)
    targets = dense_targets(levels, objects, sizes, loss)
    for _ in range(70):
        terms = mean_terms(one_stage_terms(model(images), targets, loss))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    model.eval()
    for own, found in zip(objects, select_boxes(model(images), sizes, DenseSelection()), strict=True):
        overlaps, best = pairwise_overlaps(own.boxes, found.boxes[:2]).max(dim=1)
        assert overlaps.min() > 0.75  # of sides of 20 to 38 pixels, at stride 8
        assert torch.equal(found.labels[:2][best], own.labels)
        assert found.scores[:2].min() > 0.3 and (found.scores[2:] < found.scores[1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_detector_exports(kind: Kind) -> None:
    model, images = detector(kind).eval(), torch.randn(1, 3, 64, 96)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))


@pytest.mark.parametrize(
    "values",
    [{"kind": "fcos"}, {"width": 30}, {"num_convs": -1}, {"anchor_scale": 0.0}, {"max_distance": 0}],
)
def test_settings_out_of_range_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"fcos|width|num_convs|max_distance"):
        OneStageConfig(**values)  # type: ignore[arg-type]
