"""COCO panoptic segmentation (Kirillov et al. 2019): a json of segments and a PNG of segment ids per picture.

    {"images": as in instances, "categories": [{"id", "name", "isthing"}],
     "annotations": [{"image_id", "file_name": the PNG,
                      "segments_info": [{"id", "category_id", "area", "bbox", "iscrowd"}]}]}

A pixel of the PNG belongs to segment R + 256 G + 65536 B; 0 is unlabelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imglish.data.formats.coco import (
    Box,
    Category,
    CocoImage,
    image_of,
    label_of,
    read_box,
    read_categories,
    read_images,
)
from imglish.data.formats.json_entries import Entry, load_json
from imglish.data.formats.picture_folder import PictureFolder

_LAYOUT = "COCO panoptic json (images, annotations with segments_info, categories)"


@dataclass(frozen=True, slots=True)
class PanopticSegment:
    """One segment.

    Args:
        segment_id: Its value in the map.
        label: Index into the file's categories, which are sorted by id.
        area: In pixels.
        box_xyxy: Left, top, right, bottom in pixels.
        is_crowd: The segment holds many things that were not told apart.
    """

    segment_id: int
    label: int
    area: float
    box_xyxy: Box
    is_crowd: bool


@dataclass(frozen=True, slots=True)
class PanopticRecord:
    """A picture, the PNG of its segment ids (for `imglish.data.pictures.read_segment_ids`), its segments."""

    image: CocoImage
    map_path: Path
    segments: tuple[PanopticSegment, ...]


@dataclass(frozen=True, slots=True)
class PanopticFile:
    """Categories sorted by id, and one record for each annotated picture."""

    categories: tuple[Category, ...]
    records: tuple[PanopticRecord, ...]


def read_panoptic(annotations: Path, images: Path, maps: Path) -> PanopticFile:
    """Read a panoptic file.

    Args:
        annotations: The json.
        images: The folder of the pictures.
        maps: The folder of the PNGs.

    Raises:
        DataFormatError: The file is missing, damaged or of another layout, or names a picture, map, image id
            or category id that does not exist.
    """
    file = load_json(annotations, _LAYOUT)
    categories = read_categories(file)
    labels = {category.category_id: label for label, category in enumerate(categories)}
    pictures, folder = read_images(file, PictureFolder(images)), PictureFolder(maps)
    records = []
    for entry in file.entries("annotations"):
        map_path = folder.find(entry.text("file_name"))
        if map_path is None:
            entry.fail(f"names map {entry.text('file_name')!r}, which {maps} does not have")
        segments = tuple(_segment(segment, labels) for segment in entry.entries("segments_info"))
        if len({segment.segment_id for segment in segments}) != len(segments):
            entry.fail("has two segments of the same id")
        records.append(PanopticRecord(image_of(entry, pictures), map_path, segments))
    if not records:
        file.fail("has no annotations")
    return PanopticFile(categories, tuple(records))


def _segment(entry: Entry, labels: dict[int, int]) -> PanopticSegment:
    return PanopticSegment(
        segment_id=entry.integer("id"),
        label=label_of(entry, labels),
        area=entry.number("area"),
        box_xyxy=read_box(entry),
        is_crowd=entry.integer("iscrowd") == 1,
    )
