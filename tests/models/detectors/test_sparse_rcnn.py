"""Sparse R-CNN from pictures to sets of boxes, over a small convolutional backbone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align as torchvision_roi_align

from imglish.models.detectors.dynamic_head import DynamicConv, DynamicHead
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.detectors.sparse_rcnn import DELTA_STDS, LearnedProposals, SparseRcnn
from imglish.ops.box_coding import NO_SHIFT, decode_boxes
from imglish.ops.roi_align import pyramid_roi_align
from tests.models.detectors.tiny import NUM_CLASSES, SIZE, WIDTH, Strides, images

CONFIG = SparseRcnnConfig(
    width=16,
    num_proposals=6,
    num_stages=3,
    num_heads=2,
    dynamic_width=4,
    feed_forward_width=32,
    num_box_layers=2,
    grid=3,
    max_boxes=10,
)
SIZES = [SIZE, (50, 80)]


def detector(config: SparseRcnnConfig = CONFIG) -> SparseRcnn:
    torch.manual_seed(0)
    return SparseRcnn(Strides(), WIDTH, config, num_classes=NUM_CLASSES)


def head(model: SparseRcnn, stage: int) -> DynamicHead:
    found = model.stages[stage]
    assert isinstance(found, DynamicHead)
    return found


def without_changes(model: SparseRcnn) -> SparseRcnn:
    """Heads that leave every box where it is."""
    for stage in range(len(model.stages)):
        torch.nn.init.zeros_(head(model, stage).deltas.weight)
    return model


def test_every_stage_has_classes_and_boxes_of_all_proposals() -> None:
    found = detector()(images(), SIZES)
    assert len(found) == 3
    for one in found:
        assert one.classes.shape == (2, 6, NUM_CLASSES) and one.boxes.shape == (2, 6, 4)


def test_before_training_boxes_are_the_picture_and_scores_are_low() -> None:
    model = without_changes(detector())
    whole = torch.tensor([[0.0, 0, width, height] for height, width in SIZES])
    for one in model(images(), SIZES):
        torch.testing.assert_close(one.boxes, whole[:, None].expand(-1, 6, -1))
        # Their logits are around log(1 / 99), whose sigmoid is 0.01; the weights before them are small.
        assert 0.0005 < one.classes.sigmoid().median() < 0.1


def test_learned_boxes_are_shares_of_each_picture() -> None:
    proposals = LearnedProposals(2, 4)
    proposals.boxes.data = torch.tensor([[0.5, 0.25, 0.5, 0.5], [0.1, 0.2, 0.2, 0.4]])
    boxes, features = proposals([(100, 200), (50, 10)])
    expected = [[[50.0, 0, 150, 50], [0, 0, 40, 40]], [[2.5, 0, 7.5, 25], [0, 0, 2, 20]]]
    torch.testing.assert_close(boxes, torch.tensor(expected))
    assert torch.equal(features[0], proposals.features) and torch.equal(features[1], proposals.features)


def test_each_stage_corrects_the_boxes_of_the_one_before() -> None:
    model = without_changes(detector())
    moves = torch.tensor([[0.2, -0.1, -0.7, -0.5], [-0.3, 0.4, 0.2, -0.2], [0.1, 0.1, 0.1, 0.1]])
    for stage, move in enumerate(moves):
        head(model, stage).deltas.bias.data = move
    boxes, _ = model.proposals(SIZES)
    for one, move in zip(model(images(), SIZES), moves, strict=True):
        boxes = decode_boxes(boxes, move.expand_as(boxes), NO_SHIFT, (0.5, 0.5, 1.0, 1.0))
        torch.testing.assert_close(one.boxes, boxes)
    assert DELTA_STDS == (0.5, 0.5, 1.0, 1.0)


def test_regions_are_those_of_the_corrected_boxes() -> None:
    model, given = detector(), images()
    seen: list[Tensor] = []
    for stage in model.stages:
        stage.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1]))
    found = model(given, SIZES)
    pyramid = model.neck(model.backbone(given))
    boxes, _ = model.proposals(SIZES)
    for regions, one in zip(seen, found, strict=True):
        parts = [
            pyramid_roi_align(
                [pyramid[stride][i : i + 1] for stride in (4, 8, 16, 32)], (4, 8, 16, 32), own,
                torch.zeros(6, dtype=torch.int64), size=3, sampling_ratio=2,
            )
            for i, own in enumerate(boxes)
        ]  # fmt: skip
        torch.testing.assert_close(regions, torch.cat(parts))
        boxes = one.boxes


@pytest.mark.parametrize("ratio", [0, 2])
def test_the_sampling_ratio_reaches_the_regions(ratio: int) -> None:
    g = torch.Generator().manual_seed(0)
    features, boxes = torch.randn(1, 4, 16, 24, generator=g), torch.tensor([[3.0, 5, 90, 60]])
    own = pyramid_roi_align(
        [features], [4], boxes, torch.zeros(1, dtype=torch.int64), size=3, sampling_ratio=ratio
    )
    expected = torchvision_roi_align(features, [boxes], 3, 0.25, ratio or -1, aligned=True)
    torch.testing.assert_close(own, expected)
    other = torchvision_roi_align(features, [boxes], 3, 0.25, 2 if ratio == 0 else -1, aligned=True)
    assert not torch.allclose(own, other)


def test_the_dynamic_convolution_filters_each_region_by_its_own_proposal() -> None:
    torch.manual_seed(0)
    conv = DynamicConv(6, 4, 2).double()
    proposals, regions = torch.randn(3, 6).double(), torch.randn(3, 6, 2, 2).double()
    rows = []
    for proposal, region in zip(proposals, regions, strict=True):
        numbers = F.linear(proposal, conv.weights.weight, conv.weights.bias)
        into, out = numbers[:24].reshape(6, 4), numbers[24:].reshape(4, 6)
        cells = []
        for y in range(2):
            for x in range(2):
                hidden = F.layer_norm(region[:, y, x] @ into, (4,)).relu()
                cells.append(F.layer_norm(hidden @ out, (6,)).relu())
        flat = torch.cat(cells)  # cell by cell, the features of one after the other
        rows.append(F.layer_norm(conv.output(flat), (6,)).relu())
    torch.testing.assert_close(conv(proposals, regions), torch.stack(rows))


def test_a_head_is_attention_then_its_region_then_a_feed_forward_network() -> None:
    torch.manual_seed(0)
    stage = DynamicHead(CONFIG, NUM_CLASSES).double()
    for parameter in stage.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    features, regions = torch.randn(2, 6, 16).double(), torch.randn(12, 16, 3, 3).double()
    attention = torch.nn.MultiheadAttention(16, 2, batch_first=True).double()  # what the official code calls
    attention.load_state_dict(
        {
            "in_proj_weight": stage.attention.projection.weight,
            "in_proj_bias": stage.attention.projection.bias,
            "out_proj.weight": stage.attention.output.weight,
            "out_proj.bias": stage.attention.output.bias,
        }
    )
    x = stage.attention_norm(features + attention(features, features, features)[0])
    seen = stage.interaction(x.reshape(12, 16), regions).reshape(2, 6, 16)
    x = stage.interaction_norm(x + seen)
    first, _, second = stage.feed_forward
    x = stage.feed_forward_norm(x + second(first(x).relu()))
    for_classes, for_boxes = x, x
    for i in range(0, len(stage.class_layers), 3):
        for_classes = stage.class_layers[i + 1](stage.class_layers[i](for_classes)).relu()
    for i in range(0, len(stage.box_layers), 3):
        for_boxes = stage.box_layers[i + 1](stage.box_layers[i](for_boxes)).relu()
    found, classes, deltas = stage(features, regions)
    torch.testing.assert_close(found, x)
    torch.testing.assert_close(classes, stage.classes(for_classes))
    torch.testing.assert_close(deltas, stage.deltas(for_boxes))
    assert len(stage.class_layers) == 3 and len(stage.box_layers) == 6


def test_boxes_learn_from_their_own_stage_and_features_from_all_after() -> None:
    model = detector()
    model(images(), SIZES)[-1].boxes.sum().backward()
    first, last = head(model, 0), head(model, 2)
    assert first.deltas.weight.grad is None and last.deltas.weight.grad is not None
    grad = first.interaction.weights.weight.grad
    assert grad is not None and grad.abs().sum() > 0
    assert model.proposals.features.grad is not None and model.proposals.boxes.grad is None
    model.zero_grad()
    model(images(), SIZES)[0].boxes.sum().backward()
    assert model.proposals.boxes.grad is not None and model.proposals.boxes.grad.abs().sum() > 0


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    model, given = detector().eval(), images()
    together = model(given, [SIZE, SIZE])
    for i in range(2):
        for one, all_ in zip(model(given[i : i + 1], [SIZE]), together, strict=True):
            torch.testing.assert_close(one.boxes[0], all_.boxes[i], atol=1e-3, rtol=1e-4)
            torch.testing.assert_close(one.classes[0], all_.classes[i], atol=1e-4, rtol=1e-4)


def test_boxes_stay_exact_where_features_are_coarse() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = detector()(images(), SIZES)
    assert all(x.dtype == torch.float32 and x.isfinite().all() for one in found for x in one)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_proposals", 0), ("num_stages", 0), ("max_boxes", 0), ("num_heads", 3), ("num_box_layers", -1)],
)
def test_settings_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name):
        replace(CONFIG, **{name: value})  # type: ignore[arg-type]


def test_a_detector_of_no_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        SparseRcnn(Strides(), WIDTH, CONFIG, num_classes=0)
