"""COCO panoptic segmentation (Kirillov et al. 2019): a json of segments and a PNG of segment ids per picture.

    {"images": as in instances, "categories": [{"id", "name", "isthing"}],
     "annotations": [{"image_id", "file_name": the PNG,
                      "segments_info": [{"id", "category_id", "area", "bbox", "iscrowd"}]}]}

A pixel of the PNG belongs to segment R + 256 G + 65536 B; 0 is unlabelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from imglish.data.formats.coco import AnnotationReader, read_box
from imglish.data.formats.instances import Box, Category, CocoImage, InstanceRecords
from imglish.data.formats.json_entries import Entry, JsonStream
from imglish.data.formats.picture_folder import PictureFolder
from imglish.errors import DataFormatError

_MISSING = "check the folder of the maps, get this one, or remove it from the file"
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


class PanopticRecords(Sequence[PanopticRecord]):
    """Annotated pictures with their segments, in the order of the annotations.

    Args:
        records: All pictures, the segments as objects without outlines.
        maps: The folder of the PNGs.
        names: Image ids of the annotated pictures, and names of their PNGs.
    """

    def __init__(self, records: InstanceRecords, maps: Path, names: dict[int, str]) -> None:
        rows = {image_id: row for row, image_id in enumerate(records.image_ids().tolist())}
        known = [(rows[image_id], name) for image_id, name in names.items() if image_id in rows]
        self._records, self._maps = records, maps
        self._rows, self._names = np.array([row for row, _ in known], np.int64), [name for _, name in known]

    def __len__(self) -> int:
        return len(self._names)

    def sizes(self) -> NDArray[np.int64]:
        """(height, width) of each picture in pixels: (len(self), 2)."""
        return self._records.sizes()[self._rows]

    def trained_on(self, things: Sequence[int], *, least_side: int = 32) -> PanopticRecords:
        """The pictures that the official loader trains on.

        Args:
            things: Labels of things; pictures without any of them are left out, unless there are none.
            least_side: Pictures with a shorter side of fewer pixels are left out.
        """
        chosen = self.sizes().min(1) >= least_side
        if things:
            chosen &= self._records.have_any(things)[self._rows]
        ids = self._records.image_ids()[self._rows].tolist()
        names = {key: name for key, name, kept in zip(ids, self._names, chosen, strict=True) if kept}
        return PanopticRecords(self._records, self._maps, names)

    @overload
    def __getitem__(self, index: int) -> PanopticRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PanopticRecord, ...]: ...
    def __getitem__(self, index: int | slice) -> PanopticRecord | tuple[PanopticRecord, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        record = self._records[int(self._rows[index])]
        segments = tuple(
            PanopticSegment(one.annotation_id, one.label, one.area, one.box_xyxy, one.is_crowd)
            for one in record.instances
        )
        return PanopticRecord(record.image, self._maps / self._names[index], segments)


@dataclass(frozen=True, slots=True)
class PanopticFile:
    """What a panoptic file holds.

    Args:
        categories: Sorted by id.
        records: One for each annotated picture.
        problems: A line for each picture or segment that is left out, in the order of the file.
    """

    categories: tuple[Category, ...]
    records: PanopticRecords
    problems: tuple[str, ...] = ()

    def strict(self) -> PanopticFile:
        """The same; raises DataFormatError where there is a problem."""
        if self.problems:
            raise DataFormatError(self.problems[0])
        return self


def read_panoptic(annotations: Path, images: Path, maps: Path) -> PanopticFile:
    """Read a panoptic file; pictures without their file or map are left out, and segments without a category.

    Args:
        annotations: The json.
        images: The folder of the pictures.
        maps: The folder of the PNGs.

    Raises:
        DataFormatError: The file is missing, damaged or of another layout, or no picture of it can be used.
    """
    reader = _PanopticReader(JsonStream(annotations, _LAYOUT), PictureFolder(images), PictureFolder(maps))
    read = reader.read()
    records = PanopticRecords(read.records, maps, reader.names)
    if not len(records):
        reader.refuse("has no annotations")
    return PanopticFile(read.categories, records, read.problems)


class _PanopticReader(AnnotationReader):
    """Annotations of all segments of a picture each."""

    unique_ids = False  # they are values of the picture's own map

    def __init__(self, stream: JsonStream, folder: PictureFolder, maps: PictureFolder) -> None:
        super().__init__(stream, folder)
        self._maps = maps
        self.names: dict[int, str] = {}  # of the maps, by image id

    def annotation(self, index: int, entry: Entry) -> None:
        """Read the segments of a picture."""
        image_id, name = entry.integer("image_id"), entry.text("file_name")
        if self._maps.find(name) is None:
            entry.fail(f"names map {name!r}, which {self._maps.root} does not have", _MISSING)
        if image_id in self.names:
            entry.fail(f"repeats image id {image_id}")
        segments = [(segment, read_box(segment)) for segment in entry.entries("segments_info")]
        if len({segment.integer("id") for segment, _ in segments}) != len(segments):
            entry.fail("has two segments of the same id")
        for number, (segment, box) in enumerate(segments):
            self.add(index, segment, image_id, box, None, number)
        self.names[image_id] = name
