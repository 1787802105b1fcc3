"""The task of Sparse R-CNN."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from imglish.losses.sparse_rcnn import SparseRcnnLoss
from imglish.metrics.coco_ap import CocoAp
from imglish.models.detectors.on_backbone import detector_on
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.detectors.sparse_rcnn import SparseRcnn
from imglish.structures.batches import PictureView
from imglish.tasks.sparse_detection import SparseDetectionTask
from tests.tasks.test_detection import ADAPTER, CLASSES, batch
from tests.tasks.tiny import CONFIG

SPARSE = SparseRcnnConfig(
    width=32,
    num_proposals=6,
    num_stages=3,
    num_heads=2,
    dynamic_width=8,
    feed_forward_width=64,
    num_box_layers=1,
    grid=5,
    max_boxes=12,
)


def build(loss: SparseRcnnLoss | None = None) -> SparseDetectionTask:
    torch.manual_seed(0)
    model = detector_on(CONFIG, "vit_adapter", ADAPTER, SPARSE, num_classes=2)
    assert isinstance(model, SparseRcnn)
    return SparseDetectionTask(model, CocoAp(CLASSES), loss=loss)


def test_the_loss_is_the_sum_of_its_terms_and_moves_every_parameter() -> None:
    task = build()
    out, counts = task.training_step(batch()), task.counts(batch())
    assert out.sums is not None and counts == {"class": 4, "box": 4, "giou": 4}
    torch.testing.assert_close(out.loss, torch.stack([out.sums[name] / 4 for name in counts]).sum())
    out.loss.backward()  # type: ignore[no-untyped-call]
    unmoved = [name for name, p in task.model.named_parameters() if p.grad is None]
    assert not [name for name in unmoved if "text" not in name and "mask_token" not in name]


def test_weights_of_the_loss_are_those_of_the_settings() -> None:
    plain, weighted = (build(loss).training_step(batch()).sums for loss in (None, SparseRcnnLoss(alpha=0.5)))
    assert plain is not None and weighted is not None
    assert float(plain["class"].detach()) != pytest.approx(float(weighted["class"].detach()))


def test_pictures_without_objects_train_and_are_scored() -> None:
    task, given = build(), batch()
    none = torch.zeros(2, dtype=torch.bool)
    given = replace(given, targets=tuple(one.take(none) for one in given.targets))
    out = task.train().training_step(given)
    out.loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(out.loss) and task.counts(given) == {"class": 0, "box": 0, "giou": 0}
    assert not [
        name for name, p in task.model.named_parameters() if p.grad is None and name.startswith("sta")
    ]
    task.eval().evaluation_step(given)
    assert task.metrics.compute()["box/ap"] < 0.5


def test_crowds_are_not_learned() -> None:
    task, given = build().train(), batch()
    all_crowd = tuple(replace(one, crowd=torch.ones(2, dtype=torch.bool)) for one in given.targets)
    given = replace(given, targets=all_crowd)
    out = task.training_step(given)
    assert torch.isfinite(out.loss) and out.sums is not None and task.counts(given)["box"] == 0
    assert float(out.sums["box"].detach()) == float(out.sums["giou"].detach()) == 0


def test_more_objects_than_proposals_are_counted_as_matched() -> None:
    given = batch()
    many = given.targets[0].take(torch.arange(20) % 2)
    given = replace(given, targets=(many, given.targets[1]))
    task = build().train()
    assert task.counts(given) == {"class": 8, "box": 8, "giou": 8}
    assert torch.isfinite(task.training_step(given).loss)


def test_a_view_of_the_picture_itself_finds_what_the_batch_finds() -> None:
    task, given = build().eval(), batch()
    second = replace(
        given, images=given.images[1:], sizes=given.sizes[1:], original_sizes=given.original_sizes[1:]
    )
    view = PictureView(images=second.images, inside=(64, 48))
    (expected,), (found,) = task.found(second), task.found(replace(second, views=(view,)))
    assert len(expected.objects) == 12 and expected.masks is None
    torch.testing.assert_close(found.objects.boxes, expected.objects.boxes)
    torch.testing.assert_close(found.objects.scores, expected.objects.scores)


@pytest.mark.slow
def test_two_pictures_are_learned_by_heart() -> None:
    task, given = build(), batch()
    optimizer = torch.optim.AdamW(task.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 250)
    losses = []
    for _ in range(250):
        optimizer.zero_grad()
        loss = task.train().training_step(given).loss
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 20
    task.eval().evaluation_step(given)
    assert task.metrics.compute()["box/ap"] > 0.9
