"""The tasks of detection: ATSS and GFL, two-stage detectors, and Mask2Former's instances and segments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from imglish.decoding.boxes import DenseSelection
from imglish.losses.mask_set import MaskSetLoss
from imglish.metrics.coco_ap import CocoAp
from imglish.metrics.panoptic_quality import PanopticQuality
from imglish.models.detectors.config import (
    BoxHeadConfig,
    MaskHeadConfig,
    NeckConfig,
    ProposalConfig,
    RpnConfig,
    TwoStageConfig,
)
from imglish.models.detectors.on_backbone import detector_on
from imglish.models.detectors.one_stage import OneStageDetector
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.ops.anchors import AnchorShapes
from imglish.ops.box_sampling import BoxSampling
from imglish.ops.run_lengths import decode_mask, encode_masks
from imglish.structures.batches import DetectionBatch, PictureView
from imglish.structures.instances import Instances, PanopticMap, ScoredTruth
from imglish.tasks.instance_segmentation import InstanceSegmentationTask
from imglish.tasks.one_stage_detection import OneStageDetectionTask
from imglish.tasks.two_stage_detection import TwoStageDetectionTask
from tests.tasks.test_mask_segmentation import SEGMENTER
from tests.tasks.tiny import CONFIG

ADAPTER = ViTAdapterConfig(num_interactions=2, stem_width=8, num_heads=4, num_points=2)
SMALL = ProposalConfig(before_nms=50, kept=20)
TWO_STAGE = TwoStageConfig(
    neck=NeckConfig(width=16),
    rpn=RpnConfig(
        anchors=AnchorShapes(scales=(4.0,)), sampling=BoxSampling(number=32, foreground_share=0.5),
        training=SMALL, testing=SMALL,
    ),
    box_head=BoxHeadConfig(num_linears=1, width=32),
    sampling=BoxSampling(number=16, foreground_share=0.5),
    mask_head=MaskHeadConfig(num_convs=1, width=16),
)  # fmt: skip
CLASSES = ("dark", "light")
Task = OneStageDetectionTask | TwoStageDetectionTask | InstanceSegmentationTask
KINDS = ("atss", "gfl", "two_stage", "mask2former")


def build(kind: str, metrics: CocoAp | PanopticQuality | None = None) -> Task:
    torch.manual_seed(0)
    settings: OneStageConfig | TwoStageConfig
    if kind == "mask2former":
        segmenter = segmenter_on(CONFIG, ADAPTER, SEGMENTER, num_classes=2)
        assert isinstance(segmenter, Mask2Former)
        metrics = metrics or CocoAp(CLASSES, ("box", "mask"))
        loss = MaskSetLoss(num_points=64)
        return InstanceSegmentationTask(segmenter, metrics, is_thing=[True, False], num_queries=4, loss=loss)
    if kind == "two_stage":
        model = detector_on(CONFIG, "vit_adapter", ADAPTER, TWO_STAGE, num_classes=2)
        assert isinstance(model, TwoStageDetector)
        return TwoStageDetectionTask(model, CocoAp(CLASSES, ("box", "mask")))
    settings = OneStageConfig(kind="atss" if kind == "atss" else "gfl", width=16, num_convs=1, num_groups=4)
    model = detector_on(CONFIG, "vit_adapter", ADAPTER, settings, num_classes=2)
    assert isinstance(model, OneStageDetector)
    # A detector that has learned nothing is sure of nothing.
    return OneStageDetectionTask(model, CocoAp(CLASSES), selection=DenseSelection(min_score=0.0))


def batch() -> DetectionBatch:
    """Two pictures of 64 x 64 with a dark and a light block; the second is 48 wide without padding."""
    boxes = torch.tensor([[4.0, 8, 28, 40], [30, 30, 46, 62]])
    images = 0.1 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    for mask, box, value in zip(masks, boxes.int().tolist(), (-0.9, 0.9), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = True
        images[:, :, mask] = value
    images[1, :, :, 48:] = 0
    objects = Instances(
        boxes=boxes, labels=torch.tensor([0, 1]), crowd=torch.zeros(2, dtype=torch.bool), masks=masks
    )
    return DetectionBatch(
        images=images, sizes=((64, 64), (64, 48)), original_sizes=((64, 64), (128, 96)),
        sample_ids=torch.arange(2), targets=(objects, objects), truths=(truth(1), truth(2)),
    )  # fmt: skip


def truth(scale: int) -> ScoredTruth:
    """The blocks of a picture that is stored so many times as large."""
    boxes = np.array([[4.0, 8, 28, 40], [30, 30, 46, 62]]) * scale
    size = (64, 64) if scale == 1 else (128, 96)
    masks = torch.zeros(2, *size, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = True
    return ScoredTruth(
        boxes=boxes, labels=np.array([0, 1]), crowd=np.array([False, False]),
        areas=masks.flatten(1).sum(1).double().numpy(), masks=tuple(encode_masks(masks)),
    )  # fmt: skip


def train(task: Task, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    losses, given = [], batch()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = task.train().training_step(given).loss
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_sum_of_its_terms_and_moves_every_parameter(kind: str) -> None:
    task = build(kind)
    out = task.training_step(batch())
    if out.sums is None:
        terms = [value for name, value in out.logs.items() if name != "loss"]
        torch.testing.assert_close(out.loss.detach(), torch.stack(terms).sum())
    else:
        counts = dict(task.counts(batch()) or {})
        if kind == "mask2former":
            assert counts == {"class": 1, "mask": 4, "dice": 4}
        else:  # what the batch tells alone, and GFL after it has predicted
            assert counts.keys() == ({"classes"} if kind == "gfl" else {"classes", "boxes", "quality"})
            assert counts["classes"] > 8
        counts |= {name: float(count) for name, count in (out.counts or {}).items()}
        parts = [total / max(1, counts[name]) for name, total in out.sums.items()]
        torch.testing.assert_close(out.loss, torch.stack(parts).sum())
    out.loss.backward()  # type: ignore[no-untyped-call]
    unmoved = [name for name, p in task.model.named_parameters() if p.grad is None]
    # BEiT-3's text side, and the map of stride 4, which one-stage detectors do not read.
    idle = ["text", "mask_token"]
    if kind in ("atss", "gfl"):
        idle += ["spatial_prior.fc1.", "backbone.up.", "backbone.norms.0."]
    assert not [name for name in unmoved if not any(part in name for part in idle)]


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_without_objects_train_and_are_scored(kind: str) -> None:
    task, given = build(kind), batch()
    none = torch.zeros(2, dtype=torch.bool)
    given = replace(given, targets=tuple(one.take(none) for one in given.targets))
    loss = task.train().training_step(given).loss
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    task.eval().evaluation_step(given)
    assert task.metrics.compute()["box/ap"] < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_crowds_are_neither_learned_nor_found_in_vain(kind: str) -> None:
    task, given = build(kind).train(), batch()
    all_crowd = tuple(replace(one, crowd=torch.ones(2, dtype=torch.bool)) for one in given.targets)
    out = task.training_step(replace(given, targets=all_crowd))
    assert torch.isfinite(out.loss)
    box_terms = [value for name, value in out.logs.items() if "box" in name or "quality" in name]
    assert all(float(value) == 0 for value in box_terms)
    for name in {"mask", "boxes", "quality"} & (out.sums or {}).keys():
        assert out.sums is not None and float(out.sums[name].detach()) == 0


def test_stuff_that_a_crop_left_no_pixel_of_is_nothing_to_find_but_a_thing_is() -> None:
    """As mmdetection: stuff comes from the pixels of the class map, things from boxes that a crop reaches."""
    task, given = build("mask2former").eval(), batch()  # of class 0 are things, of class 1 is stuff
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    box, crowd = torch.tensor([[0.0, 0, 64, 64]]), torch.tensor([False])
    unseen_stuff = Instances(boxes=box, labels=torch.tensor([1]), crowd=crowd, masks=masks)
    unseen_thing = replace(unseen_stuff, labels=torch.tensor([0]))
    nothing = unseen_stuff.take(~crowd & False)
    found = {}
    for name, targets in (("stuff", unseen_stuff), ("thing", unseen_thing), ("nothing", nothing)):
        shown = replace(given, targets=(targets, given.targets[1]))
        torch.manual_seed(7)
        out = task.training_step(shown)
        assert out.sums is not None
        found[name] = (dict(task.counts(shown) or {}), out.sums["class"], out.loss)
    assert [counts["mask"] for counts, *_ in found.values()] == [2, 3, 2]
    torch.testing.assert_close(found["stuff"], found["nothing"])
    assert found["thing"][1] != found["nothing"][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "steps", "wanted"),
    # The second class of Mask2Former is stuff here, which is no object: it finds half of what there is.
    [("atss", 150, 0.7), ("gfl", 150, 0.7), ("two_stage", 200, 0.6), ("mask2former", 250, 0.45)],
)
def test_two_pictures_are_learned_by_heart(kind: str, steps: int, wanted: float) -> None:
    task = build(kind)
    losses = train(task, steps)
    assert losses[-1] < losses[0] / 2
    task.eval().evaluation_step(batch())
    scores = task.metrics.compute()
    assert scores["box/ap"] > wanted, scores
    if "mask/ap" in scores:
        assert scores["mask/ap"] > wanted / 2, scores


@pytest.mark.parametrize("kind", ["atss", "gfl", "two_stage"])
def test_a_view_of_the_picture_itself_finds_what_the_batch_finds(kind: str) -> None:
    task, given = build(kind).eval(), batch()
    assert not isinstance(task, InstanceSegmentationTask)
    second = replace(
        given, images=given.images[1:], sizes=given.sizes[1:], original_sizes=given.original_sizes[1:]
    )
    view = PictureView(images=second.images, inside=(64, 48))
    (expected,), (found,) = task.found(second), task.found(replace(second, views=(view,)))
    assert len(expected.objects) > 0
    torch.testing.assert_close(found.objects.boxes, expected.objects.boxes)
    torch.testing.assert_close(found.objects.scores, expected.objects.scores)
    assert found.masks == expected.masks
    height, width = 128, 96
    assert (found.objects.boxes <= torch.tensor([width, height, width, height]) + 1e-3).all()
    # A flipped view of a flipped picture is in the place of the first, and several are merged.
    both = (view, replace(view, images=_flipped(second.images), flipped=True))
    assert len(task.found(replace(second, views=both))[0].objects) > 0


def _flipped(images: torch.Tensor) -> torch.Tensor:
    flipped = images.clone()
    flipped[..., :48] = images[..., :48].flip(-1)
    return flipped


def test_masks_lie_where_the_boxes_are() -> None:
    task = build("two_stage").eval()
    assert isinstance(task, TwoStageDetectionTask)
    for found, size in zip(task.found(batch()), batch().original_sizes, strict=True):
        assert found.masks is not None and len(found.masks) == len(found.objects)
        for mask, box in zip(found.masks[:5], found.objects.boxes, strict=False):
            assert mask.size == size
            rows, columns = decode_mask(mask).nonzero(as_tuple=True)
            left, top, right, bottom = box.tolist()
            if len(rows):
                assert top - 1 <= rows.min() and rows.max() <= bottom + 1
                assert left - 1 <= columns.min() and columns.max() <= right + 1


def test_panoptic_segments_have_the_size_of_the_stored_picture() -> None:
    task = build("mask2former", PanopticQuality(CLASSES, [True, False])).eval()
    assert isinstance(task, InstanceSegmentationTask)
    given = batch()
    maps = task.segments(given)
    assert [one.ids.shape for one in maps] == [(64, 64), (128, 96)]
    whole = tuple(
        PanopticMap(
            ids=np.ones(size, np.int32), segment_ids=np.array([1]), labels=np.array([0]),
            crowd=np.array([False]),
        )
        for size in given.original_sizes
    )  # fmt: skip
    task.evaluation_step(replace(given, panoptic=whole))
    assert 0 <= task.metrics.compute()["panoptic/pq"] <= 1


def test_run_lengths_come_back() -> None:
    masks = torch.rand(5, 7, 11, generator=torch.Generator().manual_seed(0)) < 0.4
    masks[2] = False
    for mask, encoded in zip(masks, encode_masks(masks), strict=True):
        assert encoded.size == (7, 11)
        assert torch.equal(decode_mask(encoded), mask)
    assert encode_masks(masks[:0]) == []
