"""Scoring a segmenter picture by picture, and the report of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from imglish.data.mask_classes import read_labels
from imglish.data.pictures import read_picture
from imglish.data.segmentation import SegmentationDataset, collate_segmentation
from imglish.errors import ConfigError
from imglish.evaluation.report import Drawing
from imglish.evaluation.segmentation_report import (
    ScoredClass,
    ScoredPicture,
    SegmentationReport,
    write_segmentation_report,
)
from imglish.inference.drawing import draw_classes, present_classes
from imglish.inference.palettes import class_colors
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.recipes.assembly.base import Scored
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.scored_pictures import BestAndWorst, Progress, Rated, whole_samples
from imglish.recipes.scoring import Ready, scored_alone
from imglish.tasks.mask_segmentation import MaskSegmentationTask
from imglish.tasks.semantic_segmentation import SemanticSegmentationTask


def report_segmentation(
    config: RunConfig, weights: Path | str, split: Scored, out: Path, progress: Progress
) -> dict[str, float]:
    """Score a segmenter and write its report.

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
        ConfigError: It is no segmenter, there is no such split, or there are several ranks.
        DataFormatError: A file or folder of the data is missing, or every picture is damaged.
    """
    if not isinstance(config.task, SegmentationTask):
        raise ConfigError(f"a run of {config.task.kind} has no report; expected semantic_segmentation")
    with scored_alone(config, weights, split) as ready:
        return _report(ready, str(weights), split, out, progress)


@torch.no_grad()
def _report(ready: Ready, title: str, split: str, out: Path, progress: Progress) -> dict[str, float]:
    task, data = ready.assembly.task.eval(), ready.assembly.evaluation_set
    assert isinstance(task, SemanticSegmentationTask | MaskSegmentationTask)
    assert isinstance(data, SegmentationDataset)
    names = data.labels.classes
    task.metrics.reset()
    kept, num_skipped = BestAndWorst[NDArray[np.uint8]](), len(data)
    for number, sample in whole_samples(data, progress):
        num_skipped -= 1
        batch = collate_segmentation([sample]).to(ready.ranks.device)
        found = task.class_map(batch)
        task.metrics.update(found, batch.masks)
        if bool((batch.masks != 255).any()):  # else there is nothing to be right about
            own = _mean_iou(names, found, batch.masks)
            kept.add(Rated(number, own, found[0].to(torch.uint8).cpu().numpy()))
    scores = task.metrics.compute()
    best, worst = kept.ends()
    report = SegmentationReport(
        title=title,
        split=split,
        num_pictures=len(data) - num_skipped,
        num_skipped=num_skipped,
        mean_iou=scores["semantic/mean_iou"],
        mean_dice=scores["semantic/mean_dice"],
        pixel_accuracy=scores["semantic/pixel_accuracy"],
        mean_accuracy=scores["semantic/mean_accuracy"],
        classes=_classes(names, scores, task.metrics.class_shares()),
        best=tuple(_drawn(data, rated) for rated in best),
        worst=tuple(_drawn(data, rated) for rated in worst),
    )
    write_segmentation_report(report, out)
    return scores | {"num_skipped": float(num_skipped)} if num_skipped else scores


def _mean_iou(names: tuple[str, ...], found: Tensor, masks: Tensor) -> float:
    metric = SegmentationIou(names)
    metric.update(found, masks)
    return metric.compute()["semantic/mean_iou"]


def _classes(names: tuple[str, ...], scores: dict[str, float], shares: Tensor) -> tuple[ScoredClass, ...]:
    colors = class_colors(names)
    return tuple(
        ScoredClass(
            name=name,
            color=f"#{colors[number].tobytes().hex()}",
            share=float(shares[number]),
            iou=scores.get(f"semantic/iou/{name}"),
            dice=scores.get(f"semantic/dice/{name}"),
            accuracy=scores.get(f"semantic/accuracy/{name}"),
        )
        for number, name in enumerate(names)
    )


def _drawn(data: SegmentationDataset, rated: Rated[NDArray[np.uint8]]) -> ScoredPicture:
    """The picture by itself, under its mask and under the class map uint8 (H, W) that was found."""
    record, names = data.records[rated.number], data.labels.classes
    image = read_picture(record.path).permute(1, 2, 0).numpy()
    truth = read_labels(record, data.labels, (image.shape[0], image.shape[1]))
    found = rated.shown.astype(np.int64)
    both = np.concatenate([truth.ravel(), found[truth != 255]])
    return ScoredPicture(
        name=record.path.name,
        mean_iou=rated.score,
        picture=Drawing.of(Image.fromarray(image)),
        truth=Drawing.of(draw_classes(image, truth, names, legend=False)),
        found=Drawing.of(draw_classes(image, found, names, legend=False)),
        classes=tuple(present_classes(both, len(names))),
    )
