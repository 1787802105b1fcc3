from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from imglish.losses.mask_set import MaskSetLoss, class_masks, mask_set_terms, uniform_points
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.structures.batches import SegmentationBatch
from imglish.tasks.mask_segmentation import MaskSegmentationTask
from tests.tasks.tiny import CONFIG, check_evaluation_leaves_the_model_alone, fit, scores

ADAPTER = ViTAdapterConfig(num_interactions=2, stem_width=8, num_heads=4, num_points=2)
SEGMENTER = Mask2FormerConfig(
    width=16, num_queries=4, num_pixel_layers=1, num_layers=2, num_heads=4, pixel_feed_forward_width=16,
    feed_forward_width=16, num_groups=4,
)  # fmt: skip
LOSS = MaskSetLoss(num_points=64)


def build() -> MaskSegmentationTask:
    torch.manual_seed(0)
    model = segmenter_on(CONFIG, ADAPTER, SEGMENTER, num_classes=3)
    assert isinstance(model, Mask2Former)
    return MaskSegmentationTask(model, SegmentationIou(("dark", "light", "never")), num_queries=4, loss=LOSS)


def segmentation_batch() -> SegmentationBatch:
    """Two pictures of 32 x 64 pixels: half dark, half light, parted by a column or a row."""
    masks = torch.zeros(2, 32, 64, dtype=torch.int64)
    masks[0, :, 24:] = 1
    masks[1, :16] = 1
    noise = 0.1 * torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    images = masks[:, None] * 1.6 - 0.8 + noise
    return SegmentationBatch(images=images, masks=masks, sample_ids=torch.arange(2))


def test_the_loss_adds_up_all_layers_and_averages_masks() -> None:
    task, batch = build().eval(), segmentation_batch()
    batch = replace(batch, masks=batch.masks.where(torch.arange(64) < 50, 255))
    torch.manual_seed(5)
    out = task.training_step(batch)
    torch.manual_seed(5)
    draw, targets = uniform_points(torch.device("cpu")), [class_masks(row) for row in batch.masks]
    layers = [mask_set_terms(p, targets, LOSS, draw) for p in task.model(batch.images)]
    assert len(layers) == 3
    classes, masks, dice = (sum(terms) for terms in zip(*layers, strict=True))
    torch.testing.assert_close(out.loss, classes + (masks + dice) / 4)
    assert out.sums is not None
    torch.testing.assert_close(list(out.sums.values()), [classes, masks, dice])
    assert out.sums.keys() == task.counts(batch).keys()
    torch.testing.assert_close(out.logs["loss"], out.loss.detach())


@pytest.mark.parametrize(("classes", "matched"), [((0, 0), 2), ((0, 2), 3), ((255, 255), 0), ((255, 1), 1)])
def test_matched_masks_are_counted_from_the_batch_alone(classes: tuple[int, int], matched: int) -> None:
    batch = segmentation_batch()
    masks = torch.tensor(classes)[:, None, None].expand(2, 32, 64).clone()
    masks[1, 0] = classes[0]
    counts = build().counts(replace(batch, masks=masks))
    assert counts == {"class": 1, "mask": matched, "dice": matched}


def test_no_more_masks_are_counted_than_there_are_queries() -> None:
    masks = (torch.arange(32)[:, None] // 4).expand(2, 32, 64).clone()
    assert build().counts(replace(segmentation_batch(), masks=masks))["mask"] == 8


def test_a_batch_without_labels_has_a_finite_loss_and_gradients_everywhere() -> None:
    task, batch = build().train(), segmentation_batch()
    out = task.training_step(replace(batch, masks=torch.full_like(batch.masks, 255)))
    out.loss.backward()
    assert out.loss.isfinite()
    without = {name for name, p in task.model.named_parameters() if p.grad is None}
    assert all("text" in name or name.endswith("mask_token") for name in without)


def test_a_few_steps_lower_the_loss_and_find_the_regions() -> None:
    task, batch = build(), segmentation_batch()
    torch.manual_seed(0)
    losses = fit(task, batch, 60, lr=1e-2)
    assert losses[-1] < 0.3 * losses[0]
    after = scores(task, batch)
    assert after["semantic/pixel_accuracy"] > 0.9
    assert after["semantic/iou/dark"] > 0.8 and after["semantic/iou/light"] > 0.8


def test_evaluation_leaves_the_model_alone() -> None:
    check_evaluation_leaves_the_model_alone(build(), segmentation_batch())
