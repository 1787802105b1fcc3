"""Objects in pictures as they are on disk, kept in columns.

A file of COCO's size has a million objects: as Python objects they would take gigabytes, and every worker
process would come to own a copy of them. So they are numbers in arrays here, and become objects when a
picture is asked for.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from imglish.data.formats.segmentation import Polygons, RunLengths
from imglish.errors import DataFormatError

Box = tuple[float, float, float, float]

_NONE, _POLYGONS, _STRING, _COUNTS = range(4)


@dataclass(frozen=True, slots=True)
class Category:
    """A class of things (or of stuff in panoptic files).

    Args:
        category_id: Its id in the file.
        name: Its name.
        is_thing: False for stuff.
    """

    category_id: int
    name: str
    is_thing: bool


def class_names(categories: Sequence[Category]) -> tuple[str, ...]:
    """Names of categories, each of its own: where several are called alike, their ids follow."""
    uses = Counter(category.name for category in categories)
    return tuple(
        category.name if uses[category.name] == 1 else f"{category.name} ({category.category_id})"
        for category in categories
    )


@dataclass(frozen=True, slots=True)
class CocoImage:
    """A picture: its id in the file, its path, its (height, width) in pixels."""

    image_id: int
    path: Path
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Instance:
    """One object.

    Args:
        annotation_id: Its id in the file.
        label: Index into the file's categories, which are sorted by id.
        box_xyxy: Left, top, right, bottom in pixels, as in the file: it may reach out of the picture.
        area: In pixels, as in the file; of the box where the file has none.
        is_crowd: The outline holds many objects that were not told apart.
        segmentation: The outline, not yet decoded; None in files of boxes only.
    """

    annotation_id: int
    label: int
    box_xyxy: Box
    area: float
    is_crowd: bool
    segmentation: RunLengths | Polygons | None


@dataclass(frozen=True, slots=True)
class InstancesRecord:
    """A picture and its objects, in the order of the file."""

    image: CocoImage
    instances: tuple[Instance, ...]


class InstanceColumns:
    """Collects pictures and objects, which may come in any order; `build` joins them."""

    def __init__(self) -> None:
        self._images: dict[int, int] = {}  # image id to its row
        self._sizes = array("q")
        self._names, self._name_ends = bytearray(), array("q")
        self._heads = array("q")  # annotation id, image id, category id, crowd, kind, and a size, of each
        self._numbers = array("d")  # box and area of each
        self._points, self._point_ends = array("d"), array("q")
        self._pieces, self._piece_ends = array("q"), array("q")
        self._runs, self._run_ends = bytearray(), array("q")

    def add_image(self, image_id: int, name: str, size: tuple[int, int]) -> None:
        """Add a picture whose id is new; ``name`` is relative to the folder given to `build`."""
        self._images[image_id] = len(self._images)
        self._sizes.extend(size)
        self._names += name.encode("utf-8", "surrogateescape")
        self._name_ends.append(len(self._names))

    @property
    def num_images(self) -> int:
        """Pictures that were added."""
        return len(self._images)

    def has_image(self, image_id: int) -> bool:
        """Whether the picture was added."""
        return image_id in self._images

    def add(
        self,
        *,
        annotation_id: int,
        image_id: int,
        category_id: int,
        box_xyxy: Box,
        area: float,
        is_crowd: bool,
        segmentation: RunLengths | Polygons | None,
    ) -> None:
        """Add an object; its fields are those of `Instance`."""
        kind, size = _NONE, (0, 0)
        match segmentation:
            case Polygons(points=points):
                kind = _POLYGONS
                for piece in points:
                    self._points.extend(piece)
                    self._pieces.append(len(piece))
            case RunLengths(size=size, counts=str(counts)):
                kind = _STRING
                self._runs += counts.encode("latin-1", "replace")
            case RunLengths(size=size, counts=counts):
                kind = _COUNTS
                self._points.extend(counts)  # type: ignore[arg-type]  # the string was the case before
        self._heads.extend((annotation_id, image_id, category_id, int(is_crowd), kind, *size))
        self._numbers.extend((*box_xyxy, area))
        self._point_ends.append(len(self._points))
        self._piece_ends.append(len(self._pieces))
        self._run_ends.append(len(self._runs))

    def build(self, root: Path, labels: Mapping[int, int], *, unique_ids: bool) -> BuiltInstances:
        """Join pictures and objects.

        Args:
            root: The folder of the pictures.
            labels: Label of each category id.
            unique_ids: True leaves out objects whose annotation id has come before.
        """
        heads = np.frombuffer(self._heads, np.int64).reshape(-1, 7)
        sizes = np.frombuffer(self._sizes, np.int64).reshape(-1, 2)
        known = np.array(sorted(labels), np.int64)
        label_of = np.array([labels[key] for key in known.tolist()], np.int64)
        image_ids = np.fromiter(self._images, np.int64, len(self._images))
        rows = _rows_of(heads[:, 1], image_ids)
        places = np.searchsorted(known, heads[:, 2]).clip(max=max(len(known) - 1, 0))
        strange_class = (known[places] != heads[:, 2]) if len(known) else np.ones(len(heads), np.bool_)
        outlined = np.isin(heads[:, 4], (_STRING, _COUNTS)) & (rows >= 0)
        strange_size = outlined & (heads[:, 5:] != sizes[rows]).any(1) if len(sizes) else outlined
        repeated = np.zeros(len(heads), np.bool_)
        if unique_ids:
            repeated[:] = True
            repeated[np.unique(heads[:, 0], return_index=True)[1]] = False
        kept = np.flatnonzero((rows >= 0) & ~strange_class & ~strange_size & ~repeated)
        kept = kept[np.argsort(rows[kept], kind="stable")]
        records = InstanceRecords(
            root=root,
            image_ids=image_ids,
            sizes=sizes,
            names=bytes(self._names),
            name_ends=np.frombuffer(self._name_ends, np.int64),
            starts=np.searchsorted(rows[kept], np.arange(len(sizes) + 1)),
            places=kept,
            labels=label_of[places[kept]] if len(known) else np.zeros(0, np.int64),
            heads=heads,
            numbers=np.frombuffer(self._numbers, np.float64).reshape(-1, 5),
            outlines=_Outlines(
                points=np.frombuffer(self._points, np.float64),
                point_ends=np.frombuffer(self._point_ends, np.int64),
                pieces=np.frombuffer(self._pieces, np.int64),
                piece_ends=np.frombuffer(self._piece_ends, np.int64),
                runs=bytes(self._runs),
                run_ends=np.frombuffer(self._run_ends, np.int64),
            ),
        )
        left_out = {
            number: f"has category id {heads[number, 2]}, which is not among the categories"
            for number in np.flatnonzero(strange_class & (rows >= 0)).tolist()
        }
        for number in np.flatnonzero(strange_size).tolist():
            (height, width), size = heads[number, 5:].tolist(), sizes[rows[number]].tolist()
            left_out[number] = (
                f"has a mask {height} high and {width} wide, its picture is {size[0]} high, {size[1]} wide"
            )
        for number in np.flatnonzero(repeated).tolist():
            left_out[number] = f"repeats annotation id {heads[number, 0]}"
        orphans = {
            number: int(heads[number, 1]) for number in np.flatnonzero((rows < 0) & ~repeated).tolist()
        }
        return BuiltInstances(records, left_out, orphans)


@dataclass(frozen=True, slots=True)
class BuiltInstances:
    """What `InstanceColumns` built; objects have numbers in the order in which they were added.

    Args:
        records: The pictures with their objects.
        left_out: Why an object was left out, by its number.
        orphans: Image ids of the objects whose picture was never added.
    """

    records: InstanceRecords
    left_out: dict[int, str]
    orphans: dict[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outlines:
    """All outlines, one after the other; those of object i end where the i-th end says."""

    points: NDArray[np.float64]
    point_ends: NDArray[np.int64]
    pieces: NDArray[np.int64]
    piece_ends: NDArray[np.int64]
    runs: bytes
    run_ends: NDArray[np.int64]

    def get(self, number: int, kind: int, size: tuple[int, int]) -> RunLengths | Polygons | None:
        """The outline of an object in a picture of that (height, width)."""
        if kind == _NONE:
            return None
        if kind == _STRING:
            return RunLengths(size, self.runs[_span(self.run_ends, number)].decode("latin-1"))
        points = self.points[_span(self.point_ends, number)]
        if kind == _COUNTS:
            return RunLengths(size, tuple(points.astype(np.int64).tolist()))
        ends = np.cumsum(self.pieces[_span(self.piece_ends, number)])
        return Polygons(size, tuple(tuple(piece.tolist()) for piece in np.split(points, ends[:-1])))


class InstanceRecords(Sequence[InstancesRecord]):
    """Pictures with their objects, in the order of the file; made by `InstanceColumns`."""

    def __init__(
        self,
        *,
        root: Path,
        image_ids: NDArray[np.int64],
        sizes: NDArray[np.int64],
        names: bytes,
        name_ends: NDArray[np.int64],
        starts: NDArray[np.int64],
        places: NDArray[np.int64],
        labels: NDArray[np.int64],
        heads: NDArray[np.int64],
        numbers: NDArray[np.float64],
        outlines: _Outlines,
    ) -> None:
        self._root, self._image_ids, self._sizes = root, image_ids, sizes
        self._names, self._name_ends = names, name_ends
        self._starts, self._places, self._labels = starts, places, labels
        self._heads, self._numbers, self._outlines = heads, numbers, outlines

    def __len__(self) -> int:
        return len(self._image_ids)

    @property
    def num_objects(self) -> int:
        """Objects in all pictures, crowds included."""
        return len(self._places)

    @property
    def num_outlines(self) -> int:
        """Objects that have an outline."""
        return int((self._heads[self._places, 4] != _NONE).sum())

    def image_ids(self) -> NDArray[np.int64]:
        """Id of each picture in the file: (len(self),)."""
        return self._image_ids

    def counts(self) -> NDArray[np.int64]:
        """Objects of each picture, crowds included: (len(self),)."""
        return np.diff(self._starts)

    def have_any(self, labels: Sequence[int]) -> NDArray[np.bool_]:
        """Whether each picture has an object of one of these classes: (len(self),)."""
        so_far = np.concatenate([[0], np.isin(self._labels, labels).cumsum()])
        return so_far[self._starts[1:]] > so_far[self._starts[:-1]]

    def sizes(self) -> NDArray[np.int64]:
        """(height, width) of each picture in pixels: (len(self), 2)."""
        return self._sizes

    @overload
    def __getitem__(self, index: int) -> InstancesRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[InstancesRecord, ...]: ...
    def __getitem__(self, index: int | slice) -> InstancesRecord | tuple[InstancesRecord, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        index %= len(self)
        name = self._names[_span(self._name_ends, index)].decode("utf-8", "surrogateescape")
        height, width = self._sizes[index].tolist()
        image = CocoImage(int(self._image_ids[index]), self._root / name, (height, width))
        return InstancesRecord(image, tuple(self._instances(index, (height, width))))

    def _instances(self, index: int, size: tuple[int, int]) -> Iterator[Instance]:
        for row in range(int(self._starts[index]), int(self._starts[index + 1])):
            number = int(self._places[row])
            annotation_id, _, _, crowd, kind, _, _ = self._heads[number].tolist()
            left, top, right, bottom, area = self._numbers[number].tolist()
            yield Instance(
                annotation_id=annotation_id,
                label=int(self._labels[row]),
                box_xyxy=(left, top, right, bottom),
                area=area,
                is_crowd=bool(crowd),
                segmentation=self._outlines.get(number, kind, size),
            )


@dataclass(frozen=True, slots=True)
class InstancesFile:
    """What a file of objects holds.

    Args:
        categories: Sorted by id.
        records: One for each picture, also for those without objects.
        problems: A line for each picture or object that is left out or mended, in the order of the file.
    """

    categories: tuple[Category, ...]
    records: InstanceRecords
    problems: tuple[str, ...] = ()

    def strict(self) -> InstancesFile:
        """The same; raises DataFormatError where there is a problem."""
        if self.problems:
            raise DataFormatError(self.problems[0])
        return self


def _rows_of(keys: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each key among the ids, all of them different; -1 where it is none of them."""
    if not len(ids):
        return np.full(len(keys), -1)
    order = np.argsort(ids)
    places = order[np.searchsorted(ids, keys, sorter=order).clip(max=len(ids) - 1)]
    return np.where(ids[places] == keys, places, -1)


def _span(ends: NDArray[np.int64], number: int) -> slice:
    return slice(int(ends[number - 1]) if number else 0, int(ends[number]))
