from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from imglish.data.formats.segmentation import encode_mask
from imglish.metrics.coco_ap import NUMBERS, CocoAp
from imglish.structures.instances import Detections, EncodedMask, ScoredTruth

SIZE = (140, 160)  # large enough for COCO's large objects, of 96 x 96 pixels and more
CLASSES = ("cat", "dog", "cow", "unseen")
NUM_PICTURES = 12
# Both are sums of the same double precision numbers, taken in other orders.
CLOSE = 1e-9

Picture = tuple[Detections, tuple[EncodedMask, ...], ScoredTruth]


def ellipse(box: np.ndarray) -> np.ndarray:
    left, top, right, bottom = box
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = ((x - (left + right) / 2) / (right - left)) ** 2
    inside += ((y - (top + bottom) / 2) / (bottom - top)) ** 2
    return np.asarray(inside <= 0.25)


def encoded(boxes: np.ndarray) -> tuple[EncodedMask, ...]:
    return tuple(EncodedMask(SIZE, encode_mask(ellipse(box))) for box in boxes)


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    sides = rng.choice([12.0, 40.0, 110.0], (count, 1)) * rng.uniform(0.8, 1.2, (count, 2))
    corner = rng.uniform(0, 1, (count, 2)) * (np.array(SIZE[::-1]) - sides).clip(1)
    return np.concatenate([corner, corner + sides], axis=1)


def picture(rng: np.random.Generator) -> Picture:
    """True objects, crowds among them, and detections near them and elsewhere with many equal scores."""
    count = int(rng.integers(0, 12))
    boxes = random_boxes(rng, count)
    truth = ScoredTruth(
        boxes=boxes,
        labels=rng.integers(0, 3, count),
        crowd=rng.random(count) < 0.2,
        areas=np.array([float(ellipse(box).sum()) for box in boxes]),
        masks=encoded(boxes),
    )
    near = np.repeat(boxes, 3, axis=0) + rng.normal(0, 2, (3 * count, 4))
    found = np.concatenate([near, random_boxes(rng, 130 if rng.random() < 0.3 else 4)]).astype(np.float32)
    labels = np.concatenate([np.repeat(truth.labels, 3), rng.integers(0, 4, len(found) - len(near))])
    detections = Detections(
        boxes=torch.from_numpy(found),
        scores=torch.from_numpy(rng.integers(0, 6, len(found)).astype(np.float32) / 6),
        labels=torch.from_numpy(labels),
    )
    return detections, encoded(found.astype(np.float64)), truth


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    rng = np.random.default_rng(5)
    return [picture(rng) for _ in range(NUM_PICTURES)]


def scored(pictures: list[Picture]) -> dict[str, float]:
    metric = CocoAp(CLASSES, ("box", "mask"))
    for number, (found, masks, truth) in enumerate(pictures):
        metric.update(number, found, truth, masks)
    metric.reduce()
    return metric.compute()


def official(pictures: list[Picture], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """pycocotools' twelve numbers, and its AP of each class."""
    ids = [10, 3, 77, 5]  # labels in another order than the ids would show up here
    ids.sort()
    annotations, results = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, (found, masks, truth) in enumerate(pictures):
        for place in range(len(truth)):
            assert truth.masks is not None
            left, top, right, bottom = truth.boxes[place].tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[truth.labels[place]],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float(truth.areas[place]),
                    "iscrowd": int(truth.crowd[place]),
                    "segmentation": truth.masks[place]._asdict(),
                }
            )
        for place, (left, top, right, bottom) in enumerate(found.boxes.double().tolist()):
            shape = (
                {"bbox": [left, top, right - left, bottom - top]}
                if kind == "bbox"
                else {"segmentation": masks[place]._asdict()}
            )
            results.append(
                {
                    "image_id": number,
                    "category_id": ids[int(found.labels[place])],
                    "score": float(found.scores[place]),
                    **shape,
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO()
        truths.dataset = {
            "images": [
                {"id": number, "height": SIZE[0], "width": SIZE[1]} for number in range(len(pictures))
            ],
            "categories": [{"id": key, "name": name} for key, name in zip(ids, CLASSES, strict=True)],
            "annotations": annotations,
        }
        truths.createIndex()
        evaluation = COCOeval(truths, truths.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return evaluation.stats, np.array(
        [p[p > -1].mean() if (p > -1).any() else -1 for p in precision.transpose(2, 0, 1)]
    )


@pytest.mark.parametrize(("compared", "kind"), [("box", "bbox"), ("mask", "segm")])
def test_all_numbers_are_those_of_pycocotools(pictures: list[Picture], compared: str, kind: str) -> None:
    scores = scored(pictures)
    stats, per_class = official(pictures, kind)
    assert (stats > 0).all() and (stats[:6] < 1).all()  # every number says something
    for name, value in zip(NUMBERS, stats, strict=True):
        assert scores[f"{compared}/{name}"] == pytest.approx(value, abs=CLOSE), name
    for name, value in zip(CLASSES, per_class, strict=True):
        assert scores.get(f"{compared}/ap/{name}", -1) == pytest.approx(value, abs=CLOSE), name
    assert f"{compared}/ap/unseen" not in scores


def test_masks_are_encoded_as_pycocotools_encodes_them() -> None:
    mask = ellipse(np.array([10.0, 20.0, 90.0, 60.0]))
    assert encode_mask(mask) == coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def test_a_picture_that_two_ranks_have_seen_counts_once(pictures: list[Picture]) -> None:
    metric = CocoAp(CLASSES)
    for number in [0, 1, 2, 1, 0]:
        metric.update(number, pictures[number][0], pictures[number][2])
    once = CocoAp(CLASSES)
    for number in [2, 0, 1]:
        once.update(number, pictures[number][0], pictures[number][2])
    assert metric.compute() == once.compute()


def test_no_detections_and_no_objects_score_nothing(pictures: list[Picture]) -> None:
    nothing = Detections(
        boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64)
    )
    metric = CocoAp(CLASSES, ("box", "mask"))
    for number, (_, _, truth) in enumerate(pictures):
        metric.update(number, nothing, truth, ())
    scores = metric.compute()
    assert scores["box/ap"] == scores["mask/ar100"] == 0.0 and scores["box/ap/cat"] == 0.0
    empty = next(truth for _, _, truth in pictures if not len(truth))
    metric.reset()
    metric.update(0, pictures[0][0], empty, pictures[0][1])
    assert metric.compute() == {"box/ap": 0.0, "mask/ap": 0.0}
    assert CocoAp(CLASSES).compute() == {"box/ap": 0.0}


def test_masks_that_are_wanted_must_be_there(pictures: list[Picture]) -> None:
    with pytest.raises(ValueError, match="the detections of picture 4 have no masks"):
        CocoAp(CLASSES, ("mask",)).update(4, pictures[0][0], pictures[0][2])
