"""Two-stage detectors train and find, whatever objects a picture has."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from imglish.decoding.detections import to_detections
from imglish.losses.two_stage import CASCADE_LOSS, HTC_LOSS, Term, TwoStageLoss, two_stage_terms
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.detectors.build import build_two_stage
from imglish.models.detectors.config import StageConfig, TwoStageConfig
from imglish.models.detectors.objects import objects_of
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.models.vit_adapter.backbone import Beit3VisionBackbone
from imglish.models.vit_adapter.last_map import LastMap
from imglish.ops.boxes import pairwise_overlaps
from imglish.structures.instances import Instances
from imglish.structures.two_stage import RawDetections, TwoStagePredictions
from tests.models.detectors.tiny import (
    CONFIGS,
    NUM_CLASSES,
    SIZE,
    detector,
    images,
    instances,
    order,
    semantic,
)
from tests.models.vit_adapter.tiny import BEIT3, beit3_adapter


def beit3_vision(windows: tuple[int, ...]) -> Beit3VisionBackbone:
    return Beit3VisionBackbone(Beit3Encoder(BEIT3), windows=windows)


LOSSES = {"mask_rcnn": TwoStageLoss(), "cascade": CASCADE_LOSS, "htc": HTC_LOSS}
SOME = [[8.0, 8.0, 40.0, 40.0], [50.0, 20.0, 90.0, 60.0]]
SIZES = (SIZE, SIZE)


def predictions(
    model: TwoStageDetector, targets: tuple[Instances, ...], seed: int = 0
) -> TwoStagePredictions:
    found = model(images(len(targets)), SIZES[: len(targets)], targets, draw=order(seed))
    assert isinstance(found, TwoStagePredictions)
    return found


def terms_of(
    kind: str, model: TwoStageDetector, targets: tuple[Instances, ...], seed: int = 0
) -> dict[str, Term]:
    found = predictions(model, targets, seed)
    return two_stage_terms(found, LOSSES[kind], semantic(len(targets)) if kind == "htc" else None)


def total(terms: dict[str, Term]) -> Tensor:
    return torch.stack([term.mean for term in terms.values()]).sum()


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_parameter_learns_of_pictures_with_objects(kind: str) -> None:
    # With the border of the cascades no coarse anchor fits in so small a picture.
    model = detector(replace(CONFIGS[kind], rpn=replace(CONFIGS[kind].rpn, border=None)))
    terms = terms_of(kind, model, (instances(SOME), instances(SOME[:1])))
    stages = len(CONFIGS[kind].stages)
    names = ["rpn_class", "rpn_box"]
    names += [f"{part}{stage}" for stage in range(stages) for part in ("class", "box", "mask")]
    assert list(terms) == names + (["semantic"] if kind == "htc" else [])
    assert all(term.total > 0 and term.divisor >= 1 for term in terms.values())
    total(terms).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


@pytest.mark.parametrize("kind", CONFIGS)
def test_pictures_without_objects_are_all_background(kind: str) -> None:
    model = detector(CONFIGS[kind])
    found = predictions(model, (instances([]), instances([])))
    assert not found.rpn.foreground.any()
    assert all((stage.sample.labels == NUM_CLASSES).all() for stage in found.boxes)
    assert all(stage.masks.shape[0] == 0 and stage.targets.shape[0] == 0 for stage in found.masks)
    # Official: a picture's missing foreground counts as one anchor.
    assert int(found.rpn.divisor) == 2 * (1 + CONFIGS[kind].rpn.sampling.number)
    terms = two_stage_terms(found, LOSSES[kind], semantic() if kind == "htc" else None)
    boxes = [term for name, term in terms.items() if "box" in name or "mask" in name]
    assert all(term.total == 0 for term in boxes)
    total(terms).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kind", CONFIGS)
def test_objects_of_every_size_and_number_train(kind: str) -> None:
    """500 objects, some of one pixel, some without an area or outside of what is drawn."""
    corners = torch.rand(500, 2, generator=torch.Generator().manual_seed(3)) * torch.tensor([94.0, 62.0])
    sides = torch.tensor([1.0, 2.0, 30.0])[torch.arange(500) % 3, None]
    boxes = torch.cat([corners, torch.minimum(corners + sides, torch.tensor([96.0, 64.0]))], dim=1)
    boxes[7] = torch.tensor([5.0, 5.0, 5.0, 9.0])  # no area
    many = instances(boxes.tolist())
    assert len(objects_of(many).boxes) == 499
    model = detector(CONFIGS[kind])
    loss = total(terms_of(kind, model, (many, instances([[3.0, 3.0, 4.0, 4.0]]))))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", CONFIGS)
def test_crowd_regions_are_no_objects(kind: str) -> None:
    """In the official configs they are not looked at at all; with a rule for them they are left out."""
    model = detector(CONFIGS[kind]).eval()  # batch norm would count pictures
    alone = terms_of(kind, model, (instances(SOME),))
    crowd = instances([*SOME, [0.0, 0.0, 96.0, 64.0]], crowd=(False, False, True))
    together = terms_of(kind, model, (crowd,))
    for name, term in alone.items():
        torch.testing.assert_close(together[name], term)


def test_a_rule_for_crowd_regions_leaves_them_out() -> None:
    config = CONFIGS["mask_rcnn"]
    rule = replace(config.rpn.rule, crowd=0.5)
    model = detector(replace(config, rpn=replace(config.rpn, rule=rule)))
    crowd = instances([*SOME, [0.0, 0.0, 48.0, 64.0]], crowd=(False, False, True))
    sample = predictions(model, (crowd,)).rpn
    background = sample.anchors[~sample.foreground]
    inside = (background[:, 2].clamp(max=48) - background[:, 0].clamp(min=0)).clamp(min=0)
    height = (background[:, 3].clamp(max=64) - background[:, 1].clamp(min=0)).clamp(min=0)
    area = (background[:, 2] - background[:, 0]) * (background[:, 3] - background[:, 1])
    assert len(background) and (inside * height / area <= 0.5).all()


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_same_draws_give_the_same_regions(kind: str) -> None:
    model, targets = detector(CONFIGS[kind]).eval(), (instances(SOME), instances(SOME))
    first, again, other = (predictions(model, targets, seed) for seed in (0, 0, 1))
    for stage, same in zip(first.boxes, again.boxes, strict=True):
        torch.testing.assert_close(stage, same)
    torch.testing.assert_close(first.rpn, again.rpn)
    assert first.rpn.anchors.shape != other.rpn.anchors.shape or not first.rpn.anchors.equal(
        other.rpn.anchors
    )


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_found_lies_on_the_picture_and_is_the_same_in_any_batch(kind: str) -> None:
    model = detector(CONFIGS[kind]).eval()
    config = replace(CONFIGS[kind], selection=replace(CONFIGS[kind].selection, min_score=0.0, max_boxes=9))
    model.config = config
    shown, sizes = images(), (SIZE, (40, 50))
    with torch.no_grad():
        both = model(shown, sizes)
        alone = model(shown[1:], sizes[1:])
    assert isinstance(both[1], RawDetections) and len(both[1].boxes) == 9
    torch.testing.assert_close(both[1], alone[0], rtol=1e-4, atol=1e-5)  # sums of another order
    boxes, masks = both[1].boxes, both[1].masks
    assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 50).all() and (boxes[:, [1, 3]] <= 40).all()
    assert masks is not None and masks.shape == (9, 14, 14) and (0 <= masks).all() and (masks <= 1).all()
    assert (both[1].scores.diff() <= 0).all()


@pytest.mark.parametrize("kind", CONFIGS)
def test_there_may_be_no_region_at_all(kind: str) -> None:
    """Neither proposals nor objects: nothing is found, and training goes on with what else there is."""
    model = detector(CONFIGS[kind])
    scene = model.scene(images())
    none = [torch.zeros(0, 4)] * 2
    objects = [objects_of(instances([]))] * 2
    boxes, masks = model.heads.training_stages(scene, none, objects, SIZES, order())
    assert [len(stage.classes) for stage in boxes] == [0] * len(boxes)
    sample = model.rpn.sample(model.rpn(scene.pyramid), SIZES, objects, order())
    found = TwoStagePredictions(sample, boxes, masks, scene.semantic_logits)
    loss = total(two_stage_terms(found, LOSSES[kind], semantic() if kind == "htc" else None))
    loss.backward()
    assert loss.isfinite()
    statistics = [b for name, b in model.named_buffers() if "running" in name]
    assert all(b.isfinite().all() for b in statistics)
    for candidates in model.eval().heads.candidates(scene, none, SIZES):
        assert candidates.scores.shape == (0, NUM_CLASSES)


def test_regions_of_the_objects_own_boxes_do_not_go_to_the_next_stage() -> None:
    model = detector(CONFIGS["cascade"])
    found = predictions(model, (instances(SOME), instances(SOME[:1])))
    first, second = found.boxes[0].sample, found.boxes[1].sample
    assert first.is_truth.sum() == second.is_truth.sum() == 3
    kept = (~first.is_truth).sum()
    assert (~second.is_truth).sum() <= kept


def test_a_cascade_asks_for_more_at_each_stage() -> None:
    """A proposal that overlaps by 0.55 is an object for the first stage only."""
    config = CONFIGS["cascade"]
    model = detector(config)
    objects = [objects_of(instances([[10.0, 10.0, 50.0, 50.0]]))]
    shifted = torch.tensor([[10.0, 10.0, 50.0, 32.0 + 0.0]])  # IoU 22 / 40 = 0.55
    scene = model.scene(images(1))
    for number, foreground in ((0, 2), (1, 1)):
        stages: tuple[StageConfig, ...] = (config.stages[number],)
        model.heads.config = replace(config, stages=stages)
        boxes, _ = model.heads.training_stages(scene, [shifted], objects, SIZES[:1], order())
        assert int((boxes[0].sample.labels < NUM_CLASSES).sum()) == foreground


def test_masks_are_asked_for_where_they_are_learnt() -> None:
    model = detector(CONFIGS["mask_rcnn"])
    bare = replace(instances(SOME), masks=None)
    with pytest.raises(ValueError, match="masks"):
        predictions(model, (bare,))
    boxes_only = detector(replace(CONFIGS["mask_rcnn"], mask_head=None))
    found = predictions(boxes_only, (bare,))
    assert found.masks == () and not any("mask" in name for name in two_stage_terms(found, TwoStageLoss()))
    (raw,) = boxes_only.eval()(images(1), SIZES[:1])
    assert raw.masks is None


def test_the_semantic_branch_asks_for_class_maps() -> None:
    found = predictions(detector(CONFIGS["htc"]), (instances(SOME),))
    with pytest.raises(ValueError, match="class maps"):
        two_stage_terms(found, HTC_LOSS)
    with pytest.raises(ValueError, match="stages"):
        two_stage_terms(found, replace(HTC_LOSS, stages=(1.0,)), semantic(1))


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="mask head"):
        TwoStageConfig(interleaved=True, mask_head=None)
    with pytest.raises(ValueError, match="interleaved"):
        replace(CONFIGS["htc"], interleaved=False)
    with pytest.raises(ValueError, match="stage"):
        TwoStageConfig(stages=())
    with pytest.raises(ValueError, match="num_classes"):
        build_two_stage(torch.nn.Identity(), 8, CONFIGS["mask_rcnn"], num_classes=0)


def test_detectors_stand_on_beit3_with_an_adapter_and_in_the_way_of_vitdet() -> None:
    config = CONFIGS["mask_rcnn"]
    simple = replace(config, neck=replace(config.neck, kind="simple"))
    backbones = ((beit3_adapter(), config), (LastMap(beit3_vision((2, 0, 2, 0))), simple))
    for backbone, settings in backbones:
        torch.manual_seed(0)
        model = build_two_stage(backbone, backbone.width, settings, num_classes=NUM_CLASSES)
        loss = total(two_stage_terms(predictions(model, (instances(SOME),)), TwoStageLoss()))
        loss.backward()
        assert loss.isfinite()
        weight = next(p for name, p in model.backbone.named_parameters() if "blocks" in name and p.ndim == 2)
        assert weight.grad is not None and weight.grad.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_one_picture_is_learnt_by_heart(kind: str) -> None:
    """Boxes by more than 0.75 IoU, classes, and masks that are not boxes."""
    torch.manual_seed(0)
    size = (96, 96)
    targets = instances([[8.0, 8.0, 40.0, 40.0], [44.0, 40.0, 90.0, 80.0]], size)
    assert targets.masks is not None
    disc = (torch.arange(96)[:, None] - 24) ** 2 + (torch.arange(96) - 24) ** 2 < 16**2
    masks = torch.stack([disc, targets.masks[1]])
    targets = replace(targets, masks=masks)
    picture = 0.1 * torch.randn(1, 3, *size)
    picture[0, 0] += 2 * masks[0]
    picture[0, 1] += 2 * masks[1]
    config = replace(CONFIGS[kind], rpn=replace(CONFIGS[kind].rpn, border=None))
    config = replace(config, box_head=replace(config.box_head, norm="none"))
    model = detector(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    classes = torch.zeros(1, *size, dtype=torch.int64)
    for step in range(400):
        found = model(picture, [size], [targets], draw=order(step))
        loss = total(two_stage_terms(found, LOSSES[kind], classes if kind == "htc" else None))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        (raw,) = model.eval()(picture, [size])
    detections = to_detections(raw, size)
    assert detections.masks is not None
    for box, label, mask in zip(targets.boxes, targets.labels, masks, strict=True):
        mine = int(pairwise_overlaps(box[None], detections.boxes)[0].argmax())
        assert pairwise_overlaps(box[None], detections.boxes[mine : mine + 1]) > 0.75
        assert detections.labels[mine] == label and detections.scores[mine] > 0.5
        both, either = (mask & detections.masks[mine]).sum(), (mask | detections.masks[mine]).sum()
        assert both / either > 0.7
