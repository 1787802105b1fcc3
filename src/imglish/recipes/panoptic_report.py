"""Scoring panoptic segments picture by picture, and the report of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from imglish.data.detection import DetectionDataset, collate_detection, read_picture_of
from imglish.errors import ConfigError
from imglish.evaluation.panoptic_report import (
    PanopticReport,
    SegmentedClass,
    SegmentedPicture,
    SegmentQuality,
    write_panoptic_report,
)
from imglish.evaluation.report import Drawing
from imglish.inference.drawing import draw_segments
from imglish.inference.palettes import class_colors
from imglish.metrics.panoptic_quality import ClassQuality, PanopticQuality
from imglish.recipes.assembly.base import Scored
from imglish.recipes.config import RunConfig
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.scored_pictures import BestAndWorst, Progress, Rated, whole_samples
from imglish.recipes.scoring import Ready, scored_alone
from imglish.structures.instances import PanopticMap
from imglish.tasks.instance_segmentation import InstanceSegmentationTask


class _Seen(NamedTuple):
    """The true segments of a picture and those that were found."""

    truth: PanopticMap
    found: PanopticMap


def report_panoptic(
    config: RunConfig, weights: Path | str, split: Scored, out: Path, progress: Progress
) -> dict[str, float]:
    """Score what finds panoptic segments and write its report.

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
        ConfigError: It finds no segments, there is no such split, or there are several ranks.
        DataFormatError: A file or folder of the data is missing, every picture is damaged, or nobody has told
            what is right.
    """
    if not isinstance(config.task, DetectionTask) or not config.task.panoptic:
        raise ConfigError(f"a run of {config.task.kind} finds no segments; expected one with task.panoptic")
    with scored_alone(config, weights, split) as ready:
        return _report(ready, str(weights), split, out, progress)


@torch.no_grad()
def _report(ready: Ready, title: str, split: str, out: Path, progress: Progress) -> dict[str, float]:
    task, data = ready.assembly.task.eval(), ready.assembly.evaluation_set
    assert isinstance(task, InstanceSegmentationTask) and isinstance(data, DetectionDataset)
    assert isinstance(task.metrics, PanopticQuality)
    names = tuple(ready.folder.classes_path.read_text(encoding="utf-8").splitlines())
    task.metrics.reset()
    kept, num_skipped = BestAndWorst[_Seen](), len(data)
    for number, sample in whole_samples(data, progress):
        num_skipped -= 1
        batch = collate_detection([sample]).to(ready.ranks.device)
        (found,), (truth,) = task.segments(batch), batch.panoptic
        task.metrics.update(found, truth)
        if (~truth.crowd).any():  # else there is nothing to be found
            alone = PanopticQuality(names, task.is_thing)
            alone.update(found, truth)
            kept.add(Rated(number, alone.compute()["panoptic/pq"], _Seen(truth, found)))
    scores, qualities = task.metrics.compute(), task.metrics.of_classes()
    things, stuff = (
        [quality for quality, thing in zip(qualities, task.is_thing, strict=True) if thing == wanted]
        for wanted in (True, False)
    )
    best, worst = kept.ends()
    report = PanopticReport(
        title=title,
        split=split,
        num_pictures=len(data) - num_skipped,
        num_skipped=num_skipped,
        means=(
            _mean("all", qualities, scores),
            _mean("things", things, scores),
            _mean("stuff", stuff, scores),
        ),
        classes=_classes(names, task.is_thing, qualities),
        best=tuple(_drawn(data, names, rated) for rated in best),
        worst=tuple(_drawn(data, names, rated) for rated in worst),
    )
    write_panoptic_report(report, out)
    return scores | {"num_skipped": float(num_skipped)} if num_skipped else scores


def _mean(name: str, qualities: Sequence[ClassQuality | None], scores: dict[str, float]) -> SegmentQuality:
    """What the metric says of these classes; nothing where none of them was true or found."""
    count = sum(quality is not None for quality in qualities)
    ending = "" if name == "all" else f"_{name}"
    pq, sq, rq = (scores[f"panoptic/{kind}{ending}"] if count else None for kind in ("pq", "sq", "rq"))
    return SegmentQuality(name=name, num_classes=count, pq=pq, sq=sq, rq=rq)


def _classes(
    names: tuple[str, ...], is_thing: Sequence[bool], qualities: Sequence[ClassQuality | None]
) -> tuple[SegmentedClass, ...]:
    colors = class_colors(names)
    return tuple(
        SegmentedClass(
            name=name,
            color=f"#{colors[label].tobytes().hex()}",
            is_thing=is_thing[label],
            num_true=quality.num_true if quality else 0,
            num_found=quality.num_found if quality else 0,
            pq=quality.pq if quality else None,
            sq=quality.sq if quality else None,
            rq=quality.rq if quality else None,
        )
        for label, (name, quality) in enumerate(zip(names, qualities, strict=True))
    )


def _drawn(data: DetectionDataset, names: tuple[str, ...], rated: Rated[_Seen]) -> SegmentedPicture:
    """The picture under its true segments, and under those that were found."""
    record, (truth, found) = data.records[rated.number], rated.shown
    image = read_picture_of(record).permute(1, 2, 0).numpy()
    areas = np.zeros(len(names), np.int64)
    for segments in (truth, found):
        for number, label in zip(segments.segment_ids.tolist(), segments.labels.tolist(), strict=True):
            areas[label] += (segments.ids == number).sum()
    return SegmentedPicture(
        name=record.image.path.name,
        pq=rated.score,
        num_true=len(truth.segment_ids),
        num_found=len(found.segment_ids),
        truth=Drawing.of(draw_segments(image, truth, names)),
        found=Drawing.of(draw_segments(image, found, names)),
        classes=tuple(int(label) for label in np.argsort(-areas, kind="stable") if areas[label]),
    )
