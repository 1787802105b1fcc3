"""Scoring a segmenter picture by picture, and the report of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from imglish.data.mask_classes import read_labels
from imglish.data.pictures import read_picture
from imglish.data.segmentation import SegmentationDataset, collate_segmentation
from imglish.errors import ConfigError, DataFormatError
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
from imglish.recipes.scoring import Ready, scored_alone
from imglish.tasks.mask_segmentation import MaskSegmentationTask
from imglish.tasks.semantic_segmentation import SemanticSegmentationTask

Progress = Callable[[int, int], None]
_SHOWN = 6  # pictures of each end


@dataclass(frozen=True, slots=True)
class _Rated:
    """A picture's number in the set, its mean IoU, and its class map uint8 (H, W)."""

    number: int
    mean_iou: float
    found: NDArray[np.uint8]


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
    best: list[_Rated] = []
    worst: list[_Rated] = []
    num_skipped = num_rated = 0
    for number in range(len(data)):
        try:
            sample = data.get(number, np.random.default_rng(0))
        except DataFormatError:
            num_skipped += 1
            continue
        finally:
            progress(number + 1, len(data))
        batch = collate_segmentation([sample]).to(ready.ranks.device)
        found = task.class_map(batch)
        task.metrics.update(found, batch.masks)
        if bool((batch.masks != 255).any()):  # else there is nothing to be right about
            rated = _Rated(
                number, _mean_iou(names, found, batch.masks), found[0].to(torch.uint8).cpu().numpy()
            )
            num_rated += 1
            best = sorted([*best, rated], key=lambda r: (-r.mean_iou, -r.number))[:_SHOWN]
            worst = sorted([*worst, rated], key=lambda r: (r.mean_iou, r.number))[:_SHOWN]
    if num_skipped == len(data):
        raise DataFormatError(
            f"none of the {len(data)} pictures to score can be used; imglish data check says why"
        )
    scores = task.metrics.compute()
    num_worst = min(_SHOWN, num_rated // 2)  # so that none of a few pictures is among both
    num_best = min(_SHOWN, num_rated - num_worst)
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
        best=tuple(_drawn(data, rated) for rated in best[:num_best]),
        worst=tuple(_drawn(data, rated) for rated in worst[:num_worst]),
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


def _drawn(data: SegmentationDataset, rated: _Rated) -> ScoredPicture:
    """The picture by itself, under its mask and under what was found."""
    record, names = data.records[rated.number], data.labels.classes
    image = read_picture(record.path).permute(1, 2, 0).numpy()
    truth = read_labels(record, data.labels, (image.shape[0], image.shape[1]))
    found = rated.found.astype(np.int64)
    both = np.concatenate([truth.ravel(), found[truth != 255]])
    return ScoredPicture(
        name=record.path.name,
        mean_iou=rated.mean_iou,
        picture=Drawing.of(Image.fromarray(image)),
        truth=Drawing.of(draw_classes(image, truth, names, legend=False)),
        found=Drawing.of(draw_classes(image, found, names, legend=False)),
        classes=tuple(present_classes(both, len(names))),
    )
