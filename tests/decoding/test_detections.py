"""Detections of one view and of several, in pixels of the stored picture."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from imglish.decoding.detections import (
    ALL_AREAS,
    HTC_VIEWS,
    detect_views,
    fit_to_picture,
    to_detections,
)
from imglish.ops.box_selection import BoxSelection, select
from imglish.structures.batches import PictureView
from imglish.structures.two_stage import Candidates, RawDetections
from tests.models.detectors.tiny import CONFIGS, detector

SIZE = (64, 96)
KEEP = BoxSelection(min_score=0.0, max_boxes=12)


def pictures(height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(4))


def view(images: Tensor, inside: tuple[int, int] = SIZE) -> PictureView:
    return PictureView(images=images, inside=inside)


@pytest.mark.parametrize("kind", CONFIGS)
def test_one_view_is_what_the_detector_itself_finds(kind: str) -> None:
    config = replace(CONFIGS[kind], selection=replace(CONFIGS[kind].selection, min_score=0.0, max_boxes=12))
    model = detector(config).eval()
    shown, size = pictures(), (128, 144)
    with torch.no_grad():
        (own,) = model(shown, [SIZE])
    merged = detect_views(model, [view(shown)], size, config.selection)
    expected = fit_to_picture(own, SIZE, size)
    torch.testing.assert_close(expected.boxes[:, 0], own.boxes[:, 0] * 1.5)
    torch.testing.assert_close(expected.boxes[:, 3], own.boxes[:, 3] * 2)
    # Suppression runs on boxes of another size here; rounding is all that differs.
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-3)


def test_a_flipped_view_is_turned_back() -> None:
    """Shown already flipped, a flipped view is the picture itself once more: everything is mirrored."""
    model = detector(CONFIGS["mask_rcnn"]).eval()
    selection = replace(CONFIGS["mask_rcnn"].selection, min_score=0.0, max_boxes=8)
    inside = (60, 90)  # the padding must not be mirrored
    plain = detect_views(model, [view(pictures(), inside)], inside, selection)
    said = PictureView(images=pictures(), inside=inside, flipped=True)
    mirrored = detect_views(model, [said], inside, selection)
    order = mirrored.scores.argsort(descending=True, stable=True)
    torch.testing.assert_close(mirrored.boxes[order][:, 0], 90 - plain.boxes[:, 2], rtol=1e-4, atol=1e-3)
    assert plain.masks is not None and mirrored.masks is not None
    # Regions scaled and flipped differ by rounding from those of the first pass.
    torch.testing.assert_close(mirrored.masks[order].flip(-1), plain.masks, rtol=1e-3, atol=1e-3)


def test_views_give_boxes_of_their_areas_and_average_masks() -> None:
    model = detector(CONFIGS["htc"]).eval()
    selection = BoxSelection(min_score=0.0, nms=KEEP.nms, max_boxes=400)
    first, second = view(pictures()), view(pictures(96, 160), (96, 144))
    limit = 600.0
    merged = detect_views(model, [first, second], SIZE, selection, [(limit, float("inf")), (0.0, limit)])
    areas = (merged.boxes[:, 2:] - merged.boxes[:, :2]).prod(dim=1)
    assert (areas > limit).any() and (areas <= limit).any()
    for one, wanted in ((first, areas > limit), (second, areas <= limit)):
        with torch.no_grad():
            (own,) = model.candidates(model.scene(one.images), [one.inside])
        there = own.boxes[:, 0] * SIZE[0] / one.inside[0]
        far = (merged.boxes[wanted][:, None] - there).abs().amax(dim=2).amin(dim=1)
        assert (far < 1e-3).all()  # each comes from its own view; rounding
    small = detect_views(model, [first], SIZE, selection, [(0.0, limit)]).boxes
    assert len(small) and ((small[:, 2:] - small[:, :2]).prod(dim=1) <= limit).all()
    assert merged.masks is not None
    both = [
        model.mask_probabilities(
            model.scene(one.images), [merged.boxes * one.inside[0] / SIZE[0]], [merged.labels]
        )
        for one in (first, second)
    ]
    assert both[0] is not None and both[1] is not None
    torch.testing.assert_close(merged.masks, (both[0][0] + both[1][0]) / 2, rtol=1e-4, atol=1e-5)


def test_the_published_views_share_every_area() -> None:
    for area in (5.0, 32.0**2, 40.0**2, 96.0**2, 300.0**2):
        shown = [side for side, (low, high) in HTC_VIEWS.items() if low < area <= high]
        assert shown == ([1200, 1400, 1600] if area <= 32**2 else
                         [1000, 1200, 1400, 1600] if area <= 96**2 else [600, 800, 1000])  # fmt: skip
    assert all(a < b for a, b in pairwise(HTC_VIEWS))
    assert ALL_AREAS[0] < 0


def test_views_that_cannot_be_merged_are_refused() -> None:
    model = detector(CONFIGS["mask_rcnn"]).eval()
    with pytest.raises(ValueError, match="view"):
        detect_views(model, [], SIZE, KEEP)
    with pytest.raises(ValueError, match="one picture"):
        detect_views(model, [view(pictures().expand(2, -1, -1, -1))], SIZE, KEEP)
    with pytest.raises(ValueError, match="areas"):
        detect_views(model, [view(pictures())], SIZE, KEEP, [ALL_AREAS, ALL_AREAS])


def test_masks_are_pasted_where_they_are_wanted() -> None:
    boxes = torch.tensor([[2.0, 3.0, 12.0, 13.0], [20.0, 10.0, 30.0, 40.0]])
    raw = RawDetections(boxes, torch.tensor([0.9, 0.4]), torch.tensor([1, 0]), torch.ones(2, 7, 7))
    found = to_detections(raw, (50, 60))
    assert found.masks is not None and found.masks.shape == (2, 50, 60)
    assert found.masks.sum(dim=(1, 2)).tolist() == [100, 300]
    assert to_detections(raw, (50, 60), with_masks=False).masks is None
    assert to_detections(raw._replace(masks=None), (50, 60)).masks is None
    none = RawDetections(boxes[:0], raw.scores[:0], raw.labels[:0], torch.ones(0, 7, 7))
    empty = to_detections(none, (50, 60)).masks
    assert empty is not None and empty.shape == (0, 50, 60)


def test_classes_may_share_a_box_or_have_their_own() -> None:
    scores = torch.tensor([[0.9, 0.2], [0.1, 0.8]])
    shared = torch.tensor([[[0.0, 0.0, 10.0, 10.0]], [[20.0, 0.0, 30.0, 10.0]]])
    kept = select(Candidates(shared, scores), replace(KEEP, min_score=0.5))
    assert kept.labels.tolist() == [0, 1] and kept.boxes.tolist() == shared[:, 0].tolist()
    own = shared.expand(-1, 2, -1).clone()
    own[1, 1, 3] = 12.0
    kept = select(Candidates(own, scores), replace(KEEP, min_score=0.5))
    assert kept.boxes[1].tolist() == [20.0, 0.0, 30.0, 12.0]
    with pytest.raises(ValueError, match="max_boxes"):
        BoxSelection(max_boxes=0)
