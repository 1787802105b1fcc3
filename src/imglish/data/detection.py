"""Pictures with objects or segments as training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imglish.data.formats.instances import Instance, InstanceRecords, InstancesRecord
from imglish.data.formats.panoptic import PanopticRecord, PanopticRecords
from imglish.data.formats.segmentation import RunLengths
from imglish.data.pictures import read_mask, read_picture, read_segment_ids, turned
from imglish.data.shape_groups import standing
from imglish.data.transforms.detection import DetectionTraining, DetectionViews
from imglish.data.transforms.objects import PictureObjects, clip_boxes
from imglish.data.transforms.outlines import Outline
from imglish.data.transforms.segmentation import IGNORED, ScoredView, pad_to
from imglish.errors import DataFormatError
from imglish.structures.batches import DetectionBatch, PictureView
from imglish.structures.instances import EncodedMask, Instances, PanopticMap, ScoredTruth

Record = InstancesRecord | PanopticRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticMaps:
    """Class maps for a semantic branch: PNGs with the names of the pictures.

    Args:
        folder: Where they are.
        first: The value of class 0; lower ones and 255 are ignored. COCO's stuffthingmaps begin at 0.
    """

    folder: Path
    first: int = 0

    def read(self, picture: Path, size: tuple[int, int]) -> Tensor:
        """The map of a picture of that (height, width): uint8 (H, W), 255 ignored."""
        values = read_mask(self.folder / f"{picture.stem}.png", size).to(torch.int32)
        known = (values >= self.first) & (values != IGNORED) & (values - self.first < IGNORED)
        return torch.where(known, values - self.first, IGNORED).to(torch.uint8)


class DetectionSample(NamedTuple):
    """A picture with its objects.

    Args:
        image: float32 (3, H, W) in the model's range, padded.
        size: (height, width) without the padding.
        original_size: Of the picture as it is stored.
        number: Of the sample.
        targets: Objects in the pixels of ``image``; None where the picture is to be scored.
        semantic: Class map uint8 (h, w) without the padding.
        views: What is shown of a picture to be scored, the first of them ``image``.
        truth: Its objects as they are stored.
        panoptic: Its segments, where the data has them.
    """

    image: Tensor
    size: tuple[int, int]
    original_size: tuple[int, int]
    number: int
    targets: Instances | None = None
    semantic: Tensor | None = None
    views: tuple[ScoredView, ...] = ()
    truth: ScoredTruth | None = None
    panoptic: PanopticMap | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionDataset:
    """Pictures with objects, or with segments, which become objects with masks.

    Args:
        records: Pictures.
        transform: Prepares pictures to be trained on; None where they are scored.
        scoring: Makes the views of pictures to be scored, instead of ``transform``.
        masks: True decodes masks. An object without an outline is then treated as a crowd.
        semantic: Class maps for a semantic branch; None reads none.

    Raises:
        ValueError: There is neither ``transform`` nor ``scoring``, or there are both.
    """

    records: Sequence[Record]
    transform: DetectionTraining | None = None
    scoring: DetectionViews | None = None
    masks: bool = True
    semantic: SemanticMaps | None = None

    def __post_init__(self) -> None:
        if (self.transform is None) == (self.scoring is None):
            raise ValueError("give either a transform, to train, or scoring")

    def __len__(self) -> int:
        return len(self.records)

    def get(self, index: int, rng: np.random.Generator) -> DetectionSample:
        """Sample ``index``.

        Raises:
            DataFormatError: A file is damaged or a size differs from what the annotations say.
        """
        record = self.records[index]
        if self.scoring is not None:
            views = self.scoring(read_picture_of(record))
            panoptic = read_panoptic_map(record) if isinstance(record, PanopticRecord) else None
            truth = truth_of(record, self.masks) if isinstance(record, InstancesRecord) else None
            first = views[0]
            return DetectionSample(
                first.image,
                first.size,
                record.image.size,
                index,
                views=views,
                truth=truth,
                panoptic=panoptic,
            )
        assert self.transform is not None
        ready = self.transform(self._scene(record), rng, partial(self._other, rng))
        return DetectionSample(
            ready.image,
            ready.size,
            record.image.size,
            index,
            targets=ready.scene.to_instances(with_masks=self.masks),
            semantic=ready.scene.semantic,
        )

    def groups(self) -> NDArray[np.int64]:
        """Which pictures may share a batch, for `imglish.data.shape_groups.GroupedSource`: (len(self),)."""
        if isinstance(self.records, (InstanceRecords, ChosenRecords, PanopticRecords)):
            return standing(self.records.sizes())
        sizes = [record.image.size for record in self.records]
        return standing(np.array(sizes, np.int64).reshape(-1, 2))

    def _other(self, rng: np.random.Generator) -> PictureObjects:
        """Any picture with its objects."""
        return self._scene(self.records[int(rng.integers(len(self.records)))])

    def _scene(self, record: Record) -> PictureObjects:
        image = read_picture_of(record)
        pasting = self.transform is not None and self.transform.copy_paste is not None
        scene = objects_of(record, image, with_outlines=self.masks or pasting)
        if self.semantic is None:
            return scene
        return replace(scene, semantic=self.semantic.read(record.image.path, scene.size))


def collate_detection(samples: Sequence[DetectionSample]) -> DetectionBatch:
    """Stack pictures, each padded to the largest at the right and below.

    Raises:
        ValueError: Several samples have views, which may be of any size.
    """
    if len(samples) > 1 and any(sample.views for sample in samples):
        raise ValueError(f"{len(samples)} samples have views of any size; score pictures one at a time")
    height = max(sample.image.shape[-2] for sample in samples)
    width = max(sample.image.shape[-1] for sample in samples)
    whole = (height, width)
    maps = [sample.semantic for sample in samples if sample.semantic is not None]
    return DetectionBatch(
        images=torch.stack([pad_to(sample.image, whole, 0.0) for sample in samples]),
        sizes=tuple(sample.size for sample in samples),
        original_sizes=tuple(sample.original_size for sample in samples),
        sample_ids=torch.tensor([sample.number for sample in samples]),
        targets=tuple(_padded(s.targets, whole) for s in samples if s.targets is not None),
        semantic=torch.stack([pad_to(one, whole, IGNORED).to(torch.int64) for one in maps]) if maps else None,
        truths=tuple(sample.truth for sample in samples if sample.truth is not None),
        panoptic=tuple(sample.panoptic for sample in samples if sample.panoptic is not None),
        views=tuple(
            PictureView(images=view.image[None], inside=view.size, flipped=view.flipped)
            for sample in samples
            for view in sample.views
        ),
    )


def trained_on(records: InstanceRecords, *, skip_empty: bool = True, least_side: int = 32) -> ChosenRecords:
    """The pictures that the official loader trains on.

    Args:
        records: All of them.
        skip_empty: True leaves out those without any object.
        least_side: Those with a shorter side of fewer pixels are left out.
    """
    chosen = records.sizes().min(1) >= least_side
    if skip_empty:
        chosen &= records.counts() > 0
    return ChosenRecords(records, np.flatnonzero(chosen).tolist())


def scored_on(records: InstanceRecords) -> ChosenRecords:
    """All pictures by their ids, the order in which COCO's tools break ties."""
    return ChosenRecords(records, np.argsort(records.image_ids(), kind="stable").tolist())


class ChosenRecords(Sequence[InstancesRecord]):
    """Some of many records: those at ``places``."""

    def __init__(self, records: InstanceRecords, places: Sequence[int]) -> None:
        self._records, self._places = records, np.array(places, np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def sizes(self) -> NDArray[np.int64]:
        """(height, width) of each picture in pixels: (len(self), 2)."""
        return self._records.sizes()[self._places]

    @overload
    def __getitem__(self, index: int) -> InstancesRecord: ...
    @overload
    def __getitem__(self, index: slice) -> ChosenRecords: ...
    def __getitem__(self, index: int | slice) -> InstancesRecord | ChosenRecords:
        if isinstance(index, slice):
            return ChosenRecords(self._records, self._places[index].tolist())
        return self._records[int(self._places[index])]


def objects_of(record: Record, image: Tensor, *, with_outlines: bool) -> PictureObjects:
    """The objects of a picture that can be trained on, as the official loader chooses them.

    Boxes are cut off at the picture's edges. Objects that lie outside, or are less than a pixel wide or high,
    or have no area, are left out.

    Args:
        record: The picture.
        image: uint8 (3, H, W).
        with_outlines: True keeps the outlines; objects without one are then treated as crowds.

    Raises:
        DataFormatError: Run lengths, or a map of segments, are damaged.
    """
    if isinstance(record, PanopticRecord):
        return _segments_of(record, image)
    kept = [instance for instance in record.instances if is_trainable(instance, record.image.size)]
    if with_outlines:
        for instance in kept:
            check_outline(record, instance)
    boxes = torch.tensor([instance.box_xyxy for instance in kept], dtype=torch.float32).reshape(-1, 4)
    crowd = [i.is_crowd or (with_outlines and i.segmentation is None) for i in kept]
    nothing = np.zeros((1, 1), np.bool_)
    return PictureObjects(
        image=image,
        boxes=clip_boxes(boxes, record.image.size),
        labels=torch.tensor([instance.label for instance in kept], dtype=torch.int64),
        crowd=torch.tensor(crowd, dtype=torch.bool),
        outlines=tuple(Outline(i.segmentation or nothing) for i in kept) if with_outlines else (),
    )


def check_outline(record: InstancesRecord, instance: Instance) -> None:
    """Raise DataFormatError, which names picture and object, where run lengths do not add up."""
    if isinstance(instance.segmentation, RunLengths):
        try:
            instance.segmentation.check()
        except DataFormatError as error:
            raise DataFormatError(f"{record.image.path}: object {instance.annotation_id}: {error}") from None


def is_trainable(instance: Instance, size: tuple[int, int]) -> bool:
    """Whether a detector can be trained on an object of a picture of that (height, width)."""
    left, top, right, bottom = instance.box_xyxy
    inside = min(right, size[1]) > max(left, 0) and min(bottom, size[0]) > max(top, 0)
    return inside and right - left >= 1 and bottom - top >= 1 and instance.area > 0


def truth_of(record: InstancesRecord, with_masks: bool) -> ScoredTruth:
    """All objects of a picture as they are scored; masks only where each has an outline.

    Raises:
        DataFormatError: Run lengths are damaged.
    """
    objects = record.instances
    masks = None
    if with_masks and all(instance.segmentation is not None for instance in objects):
        for instance in objects:
            check_outline(record, instance)
        masks = tuple(
            EncodedMask(record.image.size, i.segmentation.to_coco()) for i in objects if i.segmentation
        )
    return ScoredTruth(
        boxes=np.array([instance.box_xyxy for instance in objects], np.float64).reshape(-1, 4),
        labels=np.array([instance.label for instance in objects], np.int64),
        crowd=np.array([instance.is_crowd for instance in objects], np.bool_),
        areas=np.array([instance.area for instance in objects], np.float64),
        masks=masks,
    )


def read_panoptic_map(record: PanopticRecord) -> PanopticMap:
    """The segments of a picture; pixels of ids that the json does not list belong to none.

    Raises:
        DataFormatError: The map is damaged, or has another size than the picture.
    """
    ids = read_segment_ids(record.map_path, record.image.size).numpy()
    known = np.array([segment.segment_id for segment in record.segments], np.int64)
    return PanopticMap(
        ids=np.where(np.isin(ids, known), ids, 0).astype(np.int32),
        segment_ids=known,
        labels=np.array([segment.label for segment in record.segments], np.int64),
        crowd=np.array([segment.is_crowd for segment in record.segments], np.bool_),
    )


def _segments_of(record: PanopticRecord, image: Tensor) -> PictureObjects:
    """Things and stuff as objects with masks; segments without a pixel are left out."""
    found = read_panoptic_map(record)
    masks = [found.ids == number for number in found.segment_ids]
    kept = [place for place, mask in enumerate(masks) if mask.any()]
    rows = [np.flatnonzero(masks[place].any(1)) for place in kept]
    columns = [np.flatnonzero(masks[place].any(0)) for place in kept]
    boxes = [(x[0], y[0], x[-1] + 1, y[-1] + 1) for x, y in zip(columns, rows, strict=True)]
    return PictureObjects(
        image=image,
        boxes=torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        labels=torch.from_numpy(found.labels[kept]),
        crowd=torch.from_numpy(found.crowd[kept]),
        outlines=tuple(Outline(masks[place]) for place in kept),
    )


def read_picture_of(record: Record) -> Tensor:
    """The picture of a record: uint8 (3, H, W).

    Raises:
        DataFormatError: It is damaged, or has another size than its annotations are of.
    """
    image = read_picture(record.image.path)
    size, expected = (image.shape[-2], image.shape[-1]), record.image.size
    if size != expected:
        raise DataFormatError(
            f"{record.image.path}: is {size[0]} high and {size[1]} wide, but its annotations are of "
            f"{expected[0]} high and {expected[1]} wide; expected the same: "
            f"{turned(size, expected) or 'get both again, or leave it out'}"
        )
    return image


def _padded(objects: Instances, size: tuple[int, int]) -> Instances:
    """The same with masks of that (height, width)."""
    if objects.masks is None:
        return objects
    masks = torch.zeros(len(objects), *size, dtype=torch.bool)
    masks[:, : objects.masks.shape[-2], : objects.masks.shape[-1]] = objects.masks
    return replace(objects, masks=masks)
