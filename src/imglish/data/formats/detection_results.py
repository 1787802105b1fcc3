"""Result files as COCO's servers take them: a json of detections, and PNGs of segments with a json.

[{"image_id", "category_id", "bbox": [x, y, width, height], "score", "segmentation": {"size", "counts"}}]

{"annotations": [{"image_id", "file_name", "segments_info": [{"id", "category_id"}]}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from imglish.data.formats.instances import Category
from imglish.structures.instances import Detections, EncodedMask, PanopticMap

_DECIMALS = 2  # of box sides in pixels, as in COCO's own files


class PictureResult(NamedTuple):
    """What was found in a picture.

    Args:
        image_id: Of the picture in its file.
        detections: In pixels of the stored picture.
        masks: Of the detections, or None.
    """

    image_id: int
    detections: Detections
    masks: Sequence[EncodedMask] | None = None


def write_detections(path: Path, found: Iterable[PictureResult], categories: Sequence[Category]) -> int:
    """Write detections; labels become the category ids of the file that ``categories`` are from.

    Returns:
        How many detections there are.
    """
    results = []
    for picture in found:
        boxes = picture.detections.boxes.double().cpu().tolist()
        scores, labels = picture.detections.scores.cpu().tolist(), picture.detections.labels.cpu().tolist()
        for place, (left, top, right, bottom) in enumerate(boxes):
            result: dict[str, object] = {
                "image_id": picture.image_id,
                "category_id": categories[labels[place]].category_id,
                "bbox": [round(side, _DECIMALS) for side in (left, top, right - left, bottom - top)],
                "score": scores[place],
            }
            if picture.masks is not None:
                mask = picture.masks[place]
                result["segmentation"] = {"size": list(mask.size), "counts": mask.counts.decode("ascii")}
            results.append(result)
    path.write_text(json.dumps(results))
    return len(results)


def write_panoptic(
    path: Path, maps: Path, found: Iterable[tuple[int, str, PanopticMap]], categories: Sequence[Category]
) -> int:
    """Write segments: a PNG for each picture in ``maps``, which is made, and the json.

    Args:
        path: The json.
        maps: The folder of the PNGs.
        found: Image id, the stem of the PNG's name, and the segments.
        categories: Of the file that the labels are from.

    Returns:
        How many pictures there are.
    """
    maps.mkdir(parents=True, exist_ok=True)
    annotations = []
    for image_id, stem, segments in found:
        channels = [segments.ids >> shift & 255 for shift in (0, 8, 16)]
        Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)).save(maps / f"{stem}.png")
        annotations.append(
            {
                "image_id": image_id,
                "file_name": f"{stem}.png",
                "segments_info": [
                    {"id": number, "category_id": categories[label].category_id}
                    for number, label in zip(
                        segments.segment_ids.tolist(), segments.labels.tolist(), strict=True
                    )
                ],
            }
        )
    path.write_text(json.dumps({"annotations": annotations}))
    return len(annotations)
