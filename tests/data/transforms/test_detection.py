from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from imglish.data.formats.segmentation import Polygons, RunLengths, encode_mask
from imglish.data.transforms.copy_paste import CopyPaste
from imglish.data.transforms.detection import (
    ChosenScale,
    CropOrNot,
    DetectionTraining,
    DetectionViews,
    LargeScaleJitter,
    ScaleRange,
    Scaling,
    htc_scales,
    large_scale_jitter,
    many_scales,
    one_scale,
)
from imglish.data.transforms.objects import PictureObjects, boxes_of, cropped, flipped, resized
from imglish.data.transforms.outlines import Outline
from imglish.data.transforms.segmentation import fit_into

SIZE = (60, 80)
RECTANGLES = ((10, 20, 30, 40), (0, 0, 80, 12), (50, 30, 79, 59))
# Rounding of a resize moves the edge of a mask by less than a pixel, and that of an enlarged one by less than
# a stored pixel.
NEAR = 1.0


def mask_of(box: tuple[float, ...]) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    left, top, right, bottom = map(int, box)
    mask[top:bottom, left:right] = True
    return mask


def outline(box: tuple[float, ...], kind: str) -> Outline:
    left, top, right, bottom = box
    match kind:
        case "polygons":
            return Outline(Polygons(SIZE, ((left, top, right, top, right, bottom, left, bottom),)))
        case "run lengths":
            return Outline(RunLengths(SIZE, encode_mask(mask_of(box)).decode()))
        case _:
            return Outline(mask_of(box))


def scene(kind: str = "mask") -> PictureObjects:
    """Rectangles whose places can be read from the picture: each pixel holds its column and its row."""
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    return PictureObjects(
        image=torch.stack([columns, rows, rows]).to(torch.uint8),
        boxes=torch.tensor(RECTANGLES, dtype=torch.float32),
        labels=torch.arange(3),
        crowd=torch.zeros(3, dtype=torch.bool),
        outlines=tuple(outline(box, kind) for box in RECTANGLES),
        semantic=(columns // 8).to(torch.uint8),
    )


def assert_together(changed: PictureObjects, near: float = NEAR) -> None:
    """Boxes lie around masks, and masks where the picture has their pixels."""
    masks = changed.masks()
    seen = masks.flatten(1).any(1)
    assert (changed.boxes - boxes_of(masks))[seen].abs().max() <= near
    assert masks.shape[1:] == changed.image.shape[1:]
    for label, mask in zip(changed.labels.tolist(), masks, strict=True):
        left, top, right, bottom = RECTANGLES[label]
        inner = changed.image[:2][:, mask].float()  # bilinear resizing blurs by a stored pixel
        if inner.numel():
            assert left - 2 <= inner[0].min() and inner[0].max() <= right + 1
            assert top - 2 <= inner[1].min() and inner[1].max() <= bottom + 1


@pytest.mark.parametrize("kind", ["polygons", "run lengths", "mask"])
def test_outlines_of_every_kind_follow_the_picture(kind: str) -> None:
    start = scene(kind)
    assert torch.equal(start.masks(), torch.from_numpy(np.stack([mask_of(box) for box in RECTANGLES])))
    small = flipped(cropped(resized(start, (120, 160)), 10, 30, (100, 70)))
    assert small.size == (100, 70) and small.labels.tolist() == [0, 1]  # the third has been cut off
    assert_together(small)
    # Doubled and moved by whole pixels, rectangles stay exact.
    expected = torch.zeros(2, 100, 70, dtype=torch.bool)
    expected[0, 30:70, 40:70] = True  # columns 20 to 60 less 30, cut off at the left and then turned
    expected[1, :14] = True
    assert torch.equal(small.masks(), expected)
    assert small.boxes.tolist() == [[40, 30, 70, 70], [0, 0, 70, 14]]
    assert start.semantic is not None and small.semantic is not None
    doubled = start.semantic.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(small.semantic, doubled[10:110, 30:100].flip(-1))


def test_changes_of_a_mask_do_not_add_up_errors() -> None:
    there_and_back = resized(resized(scene(), (131, 97)), SIZE)
    assert torch.equal(there_and_back.masks(), scene().masks())


SCALINGS: dict[str, Scaling] = {
    "1x": ChosenScale(scales=((133, 80),)),
    "3x": CropOrNot(scales=((133, 48), (133, 80)), first=(40, 50, 60), crop=(38, 60)),
    "jitter": LargeScaleJitter(side=102),
    "htc": ScaleRange(longer=(160, 160), shorter=(40, 140)),
}


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("crop", [None, (64, 64)])
def test_pictures_boxes_and_masks_stay_together(name: str, crop: tuple[int, int] | None) -> None:
    transform = DetectionTraining(scaling=SCALINGS[name], crop=crop, pictures="model")
    sizes, flips = set(), 0
    for seed in range(12):
        ready = transform(scene(), np.random.default_rng(seed))
        assert_together(ready.scene, near=max(NEAR, ready.size[0] / SIZE[0] + 0.01))
        assert ready.image.shape[-2] % 32 == ready.image.shape[-1] % 32 == 0
        assert ready.size == ready.scene.size and ready.image.dtype == torch.float32
        height, width = ready.size
        assert not ready.image[:, height:].any() and not ready.image[:, :, width:].any()
        assert torch.equal(ready.image[:, :height, :width], ready.scene.image.float() / 127.5 - 1)
        assert crop is None or (height <= crop[0] and width <= crop[1])
        flips += bool(ready.scene.image[0, 0, 0] > ready.scene.image[0, 0, -1])
        sizes.add(ready.size)
    assert 1 <= flips <= 11 and (len(sizes) > 1 or name == "1x")


def test_a_sample_is_decided_by_its_generator() -> None:
    for transform in (many_scales(), htc_scales(paste=True), large_scale_jitter(96), one_scale()):
        first, again = (
            transform(scene(), np.random.default_rng(9), other=lambda: scene("polygons")) for _ in range(2)
        )
        assert torch.equal(first.image, again.image) and torch.equal(first.scene.boxes, again.scene.boxes)


def test_the_published_sizes() -> None:
    assert one_scale()(scene(), np.random.default_rng(0)).size == fit_into(SIZE, (1333, 800)) == (800, 1067)
    shorter = {min(htc_scales(paste=False)(scene(), np.random.default_rng(seed)).size) for seed in range(8)}
    assert len(shorter) > 4 and min(shorter) >= 400 and max(shorter) <= 1200  # 1600 x 1200 is the largest 4:3
    for seed in range(6):
        ready = many_scales()(scene(), np.random.default_rng(seed))
        assert max(ready.size) <= 1024 and min(ready.size) >= 256


def test_large_scale_jitter_pads_small_pictures_and_crops_large_ones() -> None:
    transform = large_scale_jitter(96)
    found = [transform(scene(), np.random.default_rng(seed)) for seed in range(30)]
    assert {ready.image.shape[-2:] for ready in found} == {(96, 96)}
    widths = [ready.size[1] for ready in found]
    assert min(widths) < 40 and max(widths) == 96
    for ready in found:
        boxes = ready.scene.boxes
        torch.testing.assert_close(boxes, boxes_of(ready.scene.masks()), atol=0, rtol=0)
        assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all()


def test_objects_that_a_crop_cuts_off_are_dropped_and_others_clipped() -> None:
    left = cropped(scene(), 30, 0, (30, 40))
    assert left.labels.tolist() == [0] and left.boxes.tolist() == [[10, 0, 30, 10]]
    nothing = cropped(scene(), 45, 0, (15, 40))
    assert len(nothing.boxes) == 0 and nothing.masks().shape == (0, 15, 40)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_the_smallest_pictures_pass(size: tuple[int, int]) -> None:
    height, width = size
    tiny = PictureObjects(
        image=torch.zeros(3, *size, dtype=torch.uint8),
        boxes=torch.tensor([[0.0, 0.0, width, height]]),
        labels=torch.zeros(1, dtype=torch.int64),
        crowd=torch.zeros(1, dtype=torch.bool),
        outlines=(Outline(np.ones(size, np.bool_)),),
    )
    for transform, seed in itertools.product((one_scale(), large_scale_jitter(64)), range(3)):
        ready = transform(tiny, np.random.default_rng(seed))
        assert min(ready.size) >= 1 and len(ready.scene.masks()) == len(ready.scene.boxes)


def test_views_are_scaled_flipped_within_and_padded() -> None:
    views = DetectionViews(scales=((100, 60), (133, 80)), flip=True, pictures="model")(scene().image)
    assert [view.size for view in views] == [(60, 80), (60, 80), (80, 107), (80, 107)]
    assert [view.image.shape[-2:] for view in views] == [(64, 96), (64, 96), (96, 128), (96, 128)]
    for plain, turned in ((views[0], views[1]), (views[2], views[3])):
        height, width = plain.size
        assert (plain.flipped, turned.flipped) == (False, True)
        assert torch.equal(plain.image[:, :height, :width].flip(-1), turned.image[:, :height, :width])
        assert not turned.image[:, height:].any() and not turned.image[:, :, width:].any()


def pasted_onto(
    target: PictureObjects, other: PictureObjects, paste: CopyPaste, seeds: int = 6
) -> list[PictureObjects]:
    return [paste(target, other, np.random.default_rng(seed)) for seed in range(seeds)]


def test_pasted_objects_cover_what_lies_under_them() -> None:
    # The other picture is white; its only thing covers most of the first rectangle, and its crowd stays away.
    other = PictureObjects(
        image=torch.full((3, 50, 100), 255, dtype=torch.uint8),
        boxes=torch.tensor([[8.0, 18.0, 27.0, 42.0], [0.0, 0.0, 100.0, 50.0]]),
        labels=torch.tensor([7, 8]),
        crowd=torch.tensor([False, True]),
        outlines=(outline((8, 18, 27, 42), "mask"), Outline(np.ones((50, 100), np.bool_))),
        semantic=torch.full((50, 100), 99, dtype=torch.uint8),
    )
    found = pasted_onto(scene(), other, CopyPaste(chance=1.0, least_pixels=50))
    changed = [one for one in found if 7 in one.labels]
    assert 0 < len(changed) < len(found)  # how many are pasted is drawn, none too
    for one in changed:
        assert one.labels.tolist() == [0, 1, 2, 7]
        white = torch.from_numpy(mask_of((8, 18, 27, 42)))
        assert torch.equal((one.image == 255).all(0), white) and torch.equal(one.semantic == 99, white)  # type: ignore[arg-type]
        assert one.boxes.tolist() == [[27, 20, 30, 40], [0, 0, 80, 12], [50, 30, 79, 59], [8, 18, 27, 42]]
        assert torch.equal(one.masks()[0], torch.from_numpy(mask_of((27, 20, 30, 40))))
        assert torch.equal(scene().image[:, ~white], one.image[:, ~white])
    # 60 pixels of the first rectangle are left: too few now.
    dropped = pasted_onto(scene(), other, CopyPaste(chance=1.0, least_pixels=61))
    assert {tuple(one.labels.tolist()) for one in dropped} == {(0, 1, 2), (1, 2, 7)}


def test_pasting_wants_masks() -> None:
    bare = PictureObjects(
        image=scene().image, boxes=scene().boxes, labels=torch.arange(3), crowd=torch.zeros(3) > 0
    )
    with pytest.raises(ValueError, match="no outlines"):
        CopyPaste()(scene(), bare, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ChosenScale(scales=()), "at least one"),
        (lambda: ScaleRange(shorter=(800, 400)), "ascending"),
        (lambda: CropOrNot(crop=(0, 3)), "ascending"),
        (lambda: LargeScaleJitter(ratios=(0.0, 1.0)), "positive"),
        (lambda: DetectionTraining(flip=1.5), "flip"),
        (lambda: DetectionTraining(padded=(32, 32)), "padded"),
        (lambda: DetectionTraining(crop=(64, 64), padded=(64, 32)), "padded"),
        (lambda: DetectionViews(scales=((0, 1),)), "scales"),
        (lambda: CopyPaste(chance=2), "chance"),
    ],
)
def test_illegal_settings_are_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]
