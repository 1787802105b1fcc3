"""Scoring a detector picture by picture, and the report of it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from imglish.data.detection import DetectionDataset, collate_detection, read_picture_of
from imglish.decoding.found_objects import FoundObjects, mask_pixels
from imglish.errors import ConfigError
from imglish.evaluation.detection_report import (
    DetectedClass,
    DetectedPicture,
    DetectionReport,
    ScoredNumber,
    write_detection_report,
)
from imglish.evaluation.report import Drawing
from imglish.inference.drawing import draw_objects
from imglish.inference.palettes import class_colors
from imglish.metrics.coco_ap import NUMBERS, CocoAp
from imglish.recipes.assembly.base import Scored
from imglish.recipes.config import RunConfig
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.detection_predictions import ObjectsTask
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.scored_pictures import BestAndWorst, Progress, Rated, whole_samples
from imglish.recipes.scoring import Ready, scored_alone
from imglish.structures.instances import ScoredTruth

_MIN_SCORE = 0.3  # of objects that are drawn
_MEANINGS = dict(
    zip(
        NUMBERS,
        (
            "AP, mean over IoU 0.5 to 0.95",
            "AP at IoU 0.5",
            "AP at IoU 0.75",
            "AP of small objects (under 32 x 32 pixels)",
            "AP of medium objects (under 96 x 96 pixels)",
            "AP of large objects",
            "AR with 1 object of a class",
            "AR with 10 objects of a class",
            "AR with 100 objects of a class",
            "AR of small objects",
            "AR of medium objects",
            "AR of large objects",
        ),
        strict=True,
    )
)


class _Seen(NamedTuple):
    """What is true of a picture and what was found."""

    truth: ScoredTruth
    found: FoundObjects


def report_detection(
    config: RunConfig, weights: Path | str, split: Scored, out: Path, progress: Progress
) -> dict[str, float]:
    """Score a detector and write its report.

    Args:
        config: The settings of the run, or of the recipe on whose data official weights are scored.
        weights: The folder of the run as a path; official weights by name, or a file of them, as a text.
        split: "validation" or "test".
        out: The folder for ``report.html`` and ``results.json``.
        progress: Called with the pictures done and all.

    Returns:
        The scores, as `evaluate_recipe` gives them.

    Raises:
        CheckpointError: The run is not finished, or there are no such weights.
        ConfigError: It finds no objects, there is no such split, or there are several ranks.
        DataFormatError: A file or folder of the data is missing, or every picture is damaged.
    """
    if not isinstance(config.task, DetectionTask) or config.task.panoptic:
        raise ConfigError(f"a run of {config.task.kind} finds no objects; expected one that does")
    with scored_alone(config, weights, split) as ready:
        return _report(ready, str(weights), split, out, progress)


@torch.no_grad()
def _report(ready: Ready, title: str, split: str, out: Path, progress: Progress) -> dict[str, float]:
    task, data = ready.assembly.task.eval(), ready.assembly.evaluation_set
    assert isinstance(task, ObjectsTask) and isinstance(data, DetectionDataset)
    assert isinstance(task.metrics, CocoAp)
    names = _class_names(ready.folder)
    counts = np.zeros(len(names), np.int64)
    task.metrics.reset()
    kept, num_skipped = BestAndWorst[_Seen](), len(data)
    for number, sample in whole_samples(data, progress):
        num_skipped -= 1
        batch = collate_detection([sample]).to(ready.ranks.device)
        (found,), (truth,) = task.found(batch), batch.truths
        task.metrics.update(number, found.objects, truth, found.masks)
        counts += np.bincount(truth.labels[~truth.crowd], minlength=len(names))
        if (~truth.crowd).any():  # else there is nothing to be found
            kept.add(Rated(number, _box_ap(names, found, truth), _Seen(truth, found)))
    scores = task.metrics.compute()
    best, worst = kept.ends()
    report = DetectionReport(
        title=title,
        split=split,
        num_pictures=len(data) - num_skipped,
        num_skipped=num_skipped,
        with_masks="mask/ap" in scores,
        min_score=_MIN_SCORE,
        numbers=tuple(
            ScoredNumber(
                name=name,
                meaning=_MEANINGS[name],
                box=scores.get(f"box/{name}"),
                mask=scores.get(f"mask/{name}"),
            )
            for name in NUMBERS
        ),
        classes=_classes(names, scores, counts),
        best=tuple(_drawn(data, names, rated) for rated in best),
        worst=tuple(_drawn(data, names, rated) for rated in worst),
    )
    write_detection_report(report, out)
    return scores | {"num_skipped": float(num_skipped)} if num_skipped else scores


def _class_names(folder: RunFolder) -> tuple[str, ...]:
    return tuple(folder.classes_path.read_text(encoding="utf-8").splitlines())


def _box_ap(names: tuple[str, ...], found: FoundObjects, truth: ScoredTruth) -> float:
    metric = CocoAp(names)
    metric.update(0, found.objects, truth)
    return metric.compute()["box/ap"]


def _classes(
    names: tuple[str, ...], scores: dict[str, float], counts: NDArray[np.int64]
) -> tuple[DetectedClass, ...]:
    colors = class_colors(names)
    return tuple(
        DetectedClass(
            name=name,
            color=f"#{colors[label].tobytes().hex()}",
            num_objects=int(counts[label]),
            box=scores.get(f"box/ap/{name}"),
            mask=scores.get(f"mask/ap/{name}"),
        )
        for label, name in enumerate(names)
    )


def _drawn(data: DetectionDataset, names: tuple[str, ...], rated: Rated[_Seen]) -> DetectedPicture:
    """The picture with its true objects, and with those that were found."""
    record, (truth, found) = data.records[rated.number], rated.shown
    image = read_picture_of(record).permute(1, 2, 0).numpy()
    boxes, labels = truth.boxes.tolist(), truth.labels.tolist()
    true = draw_objects(image, boxes, labels, names, masks=map(mask_pixels, truth.masks or ()))
    sure = int((found.objects.scores >= _MIN_SCORE).sum())
    scores = found.objects.scores[:sure].tolist()
    seen = draw_objects(
        image,
        found.objects.boxes[:sure].tolist(),
        found.objects.labels[:sure].tolist(),
        names,
        scores=scores,
        masks=map(mask_pixels, (found.masks or [])[:sure]),
    )
    return DetectedPicture(
        name=record.image.path.name,
        box_ap=rated.score,
        num_true=len(truth),
        num_found=sure,
        truth=Drawing.of(true),
        found=Drawing.of(seen),
    )
