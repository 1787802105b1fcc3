from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.decoding.sliding import View, Windows, class_map
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.models.segmenters.config import SegmenterConfig, SemanticFpnConfig, UPerNetConfig
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.segmenters.semantic import SemanticSegmenter
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.structures.batches import SegmentationBatch
from imglish.tasks.semantic_segmentation import SemanticSegmentationTask
from tests.tasks.tiny import CONFIG, check_evaluation_leaves_the_model_alone, fit, scores, with_noise

CLASSES = ("dark", "light", "never")
ADAPTER = ViTAdapterConfig(num_interactions=2, stem_width=8, num_heads=4, num_points=2)
IGNORED = 255


FPN = SemanticFpnConfig(neck_width=16, head_width=16)
UPERNET = UPerNetConfig(head_width=16, auxiliary_width=8, dropout=0.0)


def build(config: SegmenterConfig = FPN, windows: Windows | None = None) -> SemanticSegmentationTask:
    torch.manual_seed(0)
    model = segmenter_on(CONFIG, ADAPTER, config, num_classes=3)
    assert isinstance(model, SemanticSegmenter)
    return SemanticSegmentationTask(
        model, SegmentationIou(CLASSES, {"known": (0, 1)}), auxiliary_weight=0.3, windows=windows
    )


def segmentation_batch() -> SegmentationBatch:
    """Two pictures of 32 x 64 pixels: half dark, half light, parted by a column or a row."""
    masks = torch.zeros(2, 32, 64, dtype=torch.int64)
    masks[0, :, 24:] = 1
    masks[1, :16] = 1
    noise = 0.1 * torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    images = masks[:, None] * 1.6 - 0.8 + noise
    return SegmentationBatch(images=images, masks=masks, sample_ids=torch.arange(2))


def some_ignored(batch: SegmentationBatch) -> tuple[SegmentationBatch, Tensor]:
    """The batch with pixels that nobody labelled, and where they are."""
    ignored = torch.zeros_like(batch.masks, dtype=torch.bool)
    ignored[0, 5:20, 10:50] = True
    return replace(batch, masks=batch.masks.masked_fill(ignored, IGNORED)), ignored


def test_a_step_gives_a_finite_loss_and_logs_it() -> None:
    out = build().train().training_step(segmentation_batch())
    assert out.loss.isfinite() and out.loss.ndim == 0
    assert out.logs.keys() == {"loss"}
    torch.testing.assert_close(out.logs["loss"], out.loss.detach())
    assert not out.logs["loss"].requires_grad


def test_the_loss_sums_labelled_pixels_and_divides_by_all() -> None:
    task, whole = build().eval(), segmentation_batch()
    with_noise(task.model)
    batch, ignored = some_ignored(whole)
    logits = F.interpolate(task.model(batch.images), size=(32, 64), mode="bilinear")
    each = -logits.log_softmax(dim=1).gather(1, whole.masks[:, None])[:, 0]
    torch.testing.assert_close(task.training_step(batch).loss, each[~ignored].sum() / each.numel())
    torch.testing.assert_close(task.training_step(whole).loss, each.mean())
    assert abs(each[~ignored].mean() - each.mean()) > 1e-4


def test_a_few_steps_lower_the_loss_and_find_the_regions() -> None:
    task, batch = build(), segmentation_batch()
    losses = fit(task, batch, 25, lr=1e-2)
    after = scores(task, batch)
    assert losses[-1] < 0.3 * losses[0]
    assert after["semantic/pixel_accuracy"] > 0.9
    assert after["semantic/iou/dark"] > 0.8 and after["semantic/iou/light"] > 0.8


def test_the_auxiliary_head_adds_its_weighted_loss() -> None:
    task, batch = build(UPERNET).eval(), segmentation_batch()
    with_noise(task.model)
    out = task.training_step(batch)
    logits, auxiliary = task.model(batch.images, with_auxiliary=True)
    main, helping = (
        F.cross_entropy(F.interpolate(x, size=(32, 64), mode="bilinear"), batch.masks)
        for x in (logits, auxiliary)
    )
    torch.testing.assert_close(out.loss, main + 0.3 * helping)
    torch.testing.assert_close(out.logs["loss_auxiliary"], 0.3 * helping.detach())
    torch.testing.assert_close(out.logs["loss_main"], main.detach())
    assert helping > 0.1


def test_upernet_learns_through_both_heads() -> None:
    task, batch = build(UPERNET), segmentation_batch()
    losses = fit(task, batch, 25, lr=1e-2)
    assert losses[-1] < 0.3 * losses[0]
    assert scores(task, batch)["semantic/pixel_accuracy"] > 0.9


def test_scoring_may_go_by_windows() -> None:
    windows, batch = Windows((32, 32), (32, 16)), segmentation_batch()
    whole, cut = build(), build(windows=windows)
    with_noise(whole.model), with_noise(cut.model)
    assert scores(whole, batch) != scores(cut, batch)
    found = class_map(cut.model, View(batch.images), size=(32, 64), windows=windows)
    accuracy = (found == batch.masks).float().mean().item()
    assert scores(cut, batch)["semantic/pixel_accuracy"] == pytest.approx(accuracy)


def constant(task: SemanticSegmentationTask, chosen: int) -> None:
    """Make the task's model give every pixel one class."""
    classifier = task.model.head.classifier  # type: ignore[union-attr]
    with torch.no_grad():
        classifier.weight.zero_()  # type: ignore[union-attr, operator]
        classifier.bias.copy_(F.one_hot(torch.tensor(chosen), 3))  # type: ignore[union-attr, operator]


def test_the_metric_counts_labelled_pixels_at_the_size_of_the_masks() -> None:
    task, (batch, ignored) = build(), some_ignored(segmentation_batch())
    constant(task, 1)
    found = scores(task, batch)
    light = int((batch.masks == 1).sum())
    known = int((~ignored).sum())
    assert found == pytest.approx(
        {
            "semantic/mean_iou": light / known / 2,  # dark pixels are none found, "never" does not count
            "semantic/mean_iou_known": light / known / 2,
            "semantic/mean_dice": light / (light + known),
            "semantic/pixel_accuracy": light / known,
            "semantic/mean_accuracy": 0.5,
            "semantic/iou/dark": 0.0,
            "semantic/iou/light": light / known,
            "semantic/dice/dark": 0.0,
            "semantic/dice/light": 2 * light / (light + known),
            "semantic/accuracy/dark": 0.0,
            "semantic/accuracy/light": 1.0,
        }
    )


def test_the_metric_takes_the_class_of_the_largest_logit() -> None:
    task, batch = build(), segmentation_batch()
    task.eval()
    with_noise(task.model)
    logits = F.interpolate(task.model(batch.images), size=(32, 64), mode="bilinear")
    predicted = logits.argmax(dim=1)
    accuracy = (predicted == batch.masks).float().mean().item()
    assert predicted.unique().numel() > 1
    assert scores(task, batch)["semantic/pixel_accuracy"] == pytest.approx(accuracy)


def test_pictures_and_masks_may_differ_in_size() -> None:
    task, batch = build(), segmentation_batch()
    large = replace(batch, masks=batch.masks.repeat_interleave(3, 1).repeat_interleave(3, 2))
    constant(task, 0)
    assert scores(task, large)["semantic/pixel_accuracy"] == scores(task, batch)["semantic/pixel_accuracy"]
    assert task.training_step(large).loss.isfinite()


def test_evaluation_leaves_the_model_alone() -> None:
    check_evaluation_leaves_the_model_alone(build(), segmentation_batch())
