"""What a detector finds in the pictures of a split, in the format of COCO's servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from imglish.data.detection import DetectionDataset, collate_detection
from imglish.data.formats.detection_results import PictureResult, write_detections, write_panoptic
from imglish.recipes.assembly.base import Scored
from imglish.recipes.config import RunConfig
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.detection_records import detection_files, segment_categories
from imglish.recipes.scoring import Ready
from imglish.structures.batches import DetectionBatch
from imglish.structures.instances import PanopticMap
from imglish.tasks.instance_segmentation import InstanceSegmentationTask
from imglish.tasks.one_stage_detection import OneStageDetectionTask
from imglish.tasks.sparse_detection import SparseDetectionTask
from imglish.tasks.two_stage_detection import TwoStageDetectionTask

ObjectsTask = OneStageDetectionTask | TwoStageDetectionTask | SparseDetectionTask | InstanceSegmentationTask


def write_found(
    config: RunConfig, ready: Ready, split: Scored, out: Path, progress: Callable[[int, int], None]
) -> int:
    """Write the objects or segments of every picture of a split.

    Args:
        config: Of the run.
        ready: Its weights in their model, with the split.
        split: "validation" or "test".
        out: The json, which appears whole or not at all; of segments the PNGs lie in a folder of its name.
        progress: Called with the pictures done and all.

    Returns:
        How many objects there are, or how many pictures of segments.

    Raises:
        DataFormatError: A picture is missing or damaged.
    """
    task, data = ready.assembly.task.eval(), ready.assembly.evaluation_set
    assert isinstance(config.task, DetectionTask) and isinstance(task, ObjectsTask)
    assert isinstance(data, DetectionDataset)
    if not ready.ranks.is_main:
        return 0
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    if isinstance(task, InstanceSegmentationTask) and config.task.panoptic:
        categories = segment_categories(config.data, split)
        segments = _segments(task, data, ready, progress)
        count = write_panoptic(partial, out.with_suffix(""), segments, categories)
    else:
        found = _objects(task, data, ready, progress)
        count = write_detections(partial, found, detection_files(config.data, split).categories)
    partial.replace(out)
    return count


def _objects(
    task: ObjectsTask, data: DetectionDataset, ready: Ready, progress: Callable[[int, int], None]
) -> Iterator[PictureResult]:
    for number, batch in _batches(data, ready, progress):
        (found,) = task.found(batch)
        yield PictureResult(data.records[number].image.image_id, found.objects, found.masks)


def _segments(
    task: InstanceSegmentationTask,
    data: DetectionDataset,
    ready: Ready,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[int, str, PanopticMap]]:
    for number, batch in _batches(data, ready, progress):
        (found,) = task.segments(batch)
        image = data.records[number].image
        yield image.image_id, image.path.stem, found


def _batches(
    data: DetectionDataset, ready: Ready, progress: Callable[[int, int], None]
) -> Iterator[tuple[int, DetectionBatch]]:
    """Each picture by itself with its number."""
    for number in range(len(data)):
        batch = collate_detection([data.get(number, np.random.default_rng(0))])
        yield number, batch.to(ready.ranks.device)
        progress(number + 1, len(data))
