"""Objects and panoptic segments in pictures of any size, shown to a detector as in its evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter
from torch import Tensor

from imglish.data.transforms.detection import DetectionViews
from imglish.decoding.box_sets import find_by_set
from imglish.decoding.boxes import DenseSelection
from imglish.decoding.detections import Areas, fit_to_picture
from imglish.decoding.found_objects import (
    FoundObjects,
    FoundSegments,
    encode_found,
    find_by_cells,
    find_by_regions,
    find_instances,
    find_segments,
    mask_pixels,
)
from imglish.errors import CheckpointError, ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.batches import Batches
from imglish.inference.drawing import draw_classes, draw_objects
from imglish.inference.pictures import Picture, open_picture
from imglish.inference.run_lengths import coco_masks
from imglish.models.detectors.one_stage import OneStageDetector
from imglish.models.detectors.sparse_rcnn import SparseRcnn
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.structures.batches import PictureView
from imglish.structures.instances import EncodedMask


class ObjectMask(NamedTuple):
    """A mask as COCO's compressed run lengths.

    Args:
        size: (height, width) of the picture in pixels.
        counts: The run lengths, as COCO's tools and servers read them.
    """

    size: tuple[int, int]
    counts: str

    def pixels(self) -> NDArray[np.bool_]:
        """The mask decoded: bool (H, W)."""
        return mask_pixels(EncodedMask(self.size, self.counts.encode("ascii")))


class DetectedObject(NamedTuple):
    """An object.

    Args:
        name: Of its class.
        label: Number of the class.
        score: How sure it is, in [0, 1].
        box: (left, top, right, bottom) in pixels of the picture.
        mask: None where the detector draws none.
    """

    name: str
    label: int
    score: float
    box: tuple[float, float, float, float]
    mask: ObjectMask | None


class Detected(NamedTuple):
    """The objects in a picture.

    Args:
        objects: Best first.
        names: Of all classes.
    """

    objects: tuple[DetectedObject, ...]
    names: tuple[str, ...]

    def draw(self, picture: Picture, *, opacity: float = 0.5, zoom: int | None = None) -> Image.Image:
        """The picture with boxes, names and scores, and with masks where there are any.

        Args:
            picture: The one in which they were found.
            opacity: Of the masks, in [0, 1].
            zoom: Factor by which the picture is enlarged; None enlarges small ones until names can be read.

        Raises:
            DataFormatError: The picture cannot be used.
            ValueError: It has another size than a mask, or opacity or zoom are out of range.
        """
        found = self.objects
        return draw_objects(
            open_picture(picture).permute(1, 2, 0).numpy(),
            [one.box for one in found],
            [one.label for one in found],
            self.names,
            scores=[one.score for one in found],
            masks=(one.mask.pixels() for one in found if one.mask is not None),
            opacity=opacity,
            zoom=zoom,
        )

    def to_json(self) -> list[dict[str, Any]]:
        """The objects as values that ``json.dumps`` takes."""
        return [
            {
                "name": one.name,
                "score": one.score,
                "box": list(one.box),
                "mask": one.mask and {"size": list(one.mask.size), "counts": one.mask.counts},
            }
            for one in self.objects
        ]


class PanopticSegment(NamedTuple):
    """A segment: its value in the map, its class, whether that is a thing, how sure it is in [0, 1]."""

    number: int
    name: str
    is_thing: bool
    score: float


class Panoptic(NamedTuple):
    """The segments of a picture.

    Args:
        ids: int32 (H, W), the segment of each pixel; 0 belongs to none.
        segments: Those that are there.
    """

    ids: NDArray[np.int32]
    segments: tuple[PanopticSegment, ...]

    def to_json(self) -> dict[str, Any]:
        """The segments as values that ``json.dumps`` takes, each with COCO's mask."""
        height, width = self.ids.shape
        masks = coco_masks(self.ids == one.number for one in self.segments)
        return {
            "size": [height, width],
            "segments": [
                one._asdict() | {"mask": mask} for one, mask in zip(self.segments, masks, strict=True)
            ],
        }

    def draw(self, picture: Picture, *, opacity: float = 0.6, legend: bool = True) -> Image.Image:
        """The picture under a colour for each segment.

        Args:
            picture: The one that was cut into segments.
            opacity: Of the colours, in [0, 1].
            legend: True adds the names of the segments at the right.

        Raises:
            DataFormatError: The picture cannot be used.
            ValueError: It has another size than the map, or the opacity is outside [0, 1].
        """
        pixels = open_picture(picture).permute(1, 2, 0).numpy()
        names = [segment.name for segment in self.segments]
        return draw_classes(pixels, self.ids.astype(np.int64) - 1, names, opacity=opacity, legend=legend)


class Shown(NamedTuple):
    """How pictures are shown: their views, and which boxes each gives; empty takes all."""

    views: DetectionViews
    areas: tuple[Areas, ...] = ()


def shown_views(run: LoadedRun, scales: Sequence[float] | None, flip: bool | None) -> Shown:
    """How a detector is shown pictures.

    Args:
        run: The detector; ``pictures`` among its settings are those of the run's task.
        scales: Factors of the first size at which pictures are scored; None takes the run's own sizes, and
            which boxes each of them gives.
        flip: Whether flipped pictures are shown as well; None takes the run's own answer.

    Raises:
        CheckpointError: The settings are damaged.
        ConfigError: A scale is not positive or there is none, or the detector takes one view only.
    """
    try:
        told = run.settings["pictures"]
        own = DetectionViews(
            scales=tuple((int(longer), int(shorter)) for longer, shorter in told["scored_scales"]),
            flip=bool(told["scored_flip"]),
            pictures=told["range"],
        )
        areas = tuple((float(low), float(high)) for low, high in told["scored_areas"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"task.pictures of the run: damaged ({type(error).__name__}: {error}); expected the settings of "
            "its training: train the run anew"
        ) from error
    views = replace(own, flip=own.flip if flip is None else flip)
    if scales is not None:
        views, areas = replace(views, scales=_scaled(own.scales[0], scales)), ()
    if isinstance(run.model, Mask2Former | SparseRcnn) and (len(views.scales) > 1 or views.flip):
        kind = "mask2former" if isinstance(run.model, Mask2Former) else "sparse_rcnn"
        raise ConfigError(f"{kind} looks at one view of a picture; give one scale and no flip")
    return Shown(views, tuple(area for area in areas for _ in range(2 if views.flip else 1)))


def detect_picture(run: LoadedRun, image: Tensor, shown: Shown, min_score: float = 0.0) -> FoundObjects:
    """The objects in a picture uint8 (3, H, W); masks are made of those only that are so sure."""
    views, size = _views(run, image, shown), (image.shape[-2], image.shape[-1])
    match run.model:
        case TwoStageDetector() as model:
            selection = model.config.selection
            return find_by_regions(model, views, size, selection, shown.areas, min_score=min_score)
        case OneStageDetector() as model:
            return find_by_cells(model, views, size, dense_selection(run))
        case SparseRcnn() as model:
            return find_by_set(model, views[0], size, model.config.max_boxes)
        case Mask2Former() as model:
            return find_instances(model, views[0], size, [True] * len(run.labels))
        case _:
            raise AssertionError(f"a {type(run.model).__name__} is no detector")


def detect_seen(
    run: LoadedRun, batches: Batches, pictures: list[Picture], shown: Shown, min_score: float = 0.0
) -> Iterator[FoundObjects]:
    """`detect_picture` with the part of a joint run, from what its encoder has seen of the pictures.

    Raises:
        ConfigError: Other views are asked for than the one that the encoder sees.
    """
    model = run.model
    assert isinstance(model, TwoStageDetector) and isinstance(model.backbone, ViTAdapter)
    if (
        len(shown.views.scales) > 1
        or shown.views.flip
        or max(shown.views.scales[0]) != max(run.config.image_size)
    ):
        raise ConfigError(
            "this model sees a picture once, for all that is asked about it: leave scales and flip out"
        )
    for maps in batches.maps(pictures, model.backbone):
        count = len(maps.sizes)
        every = model.find(model.read(maps.pyramid), [maps.shown] * count)
        for found, size in zip(every, maps.sizes, strict=True):
            yield encode_found(fit_to_picture(found, maps.shown, size), size, min_score)


def plain_objects(found: FoundObjects, names: tuple[str, ...], min_score: float) -> Detected:
    """What was found as plain values, but for what is less sure than ``min_score``."""
    boxes, scores = found.objects.boxes.double().tolist(), found.objects.scores.double().tolist()
    masks: Sequence[EncodedMask | None] = found.masks or [None] * len(scores)
    rows = zip(boxes, scores, found.objects.labels.tolist(), masks, strict=True)
    return Detected(
        tuple(
            DetectedObject(names[label], label, score, (box[0], box[1], box[2], box[3]), _plain_mask(mask))
            for box, score, label, mask in rows
            if score >= min_score
        ),
        names,
    )


def panoptic_picture(run: LoadedRun, image: Tensor, shown: Shown) -> Panoptic:
    """The segments of a picture uint8 (3, H, W)."""
    assert isinstance(run.model, Mask2Former)  # its kind says so
    things: tuple[bool, ...] = run.settings["things"]
    size = (image.shape[-2], image.shape[-1])
    found: FoundSegments = find_segments(run.model, _views(run, image, shown)[0], size, things)
    numbers, labels = found.segments.segment_ids.tolist(), found.segments.labels.tolist()
    segments = tuple(
        PanopticSegment(number, run.labels[label], things[label], score)
        for number, label, score in zip(numbers, labels, found.scores.double().tolist(), strict=True)
    )
    return Panoptic(found.segments.ids, segments)


def _views(run: LoadedRun, image: Tensor, shown: Shown) -> list[PictureView]:
    like = next(run.model.parameters())
    # Colours that lie together in memory would take convolutions another way, which sums in another order.
    views = shown.views(image.contiguous())
    return [
        PictureView(
            images=view.image[None].to(like.device, like.dtype), inside=view.size, flipped=view.flipped
        )
        for view in views
    ]


def dense_selection(run: LoadedRun) -> DenseSelection:
    """Which boxes of ATSS and GFL are kept; those of the official configs where the settings say nothing.

    Raises:
        CheckpointError: The settings are damaged.
    """
    try:
        told: Mapping[str, Any] = run.settings.get("selection") or {}
        return TypeAdapter(DenseSelection).validate_python(told)
    except ValueError as error:
        raise CheckpointError(
            f"task.selection of the run: damaged ({' '.join(str(error).split())}); expected the settings of "
            "its training: train the run anew"
        ) from error


def _scaled(size: tuple[int, int], scales: Sequence[float]) -> tuple[tuple[int, int], ...]:
    """A (longer, shorter) size times each of some factors, rounded."""
    try:
        factors = [float(scale) for scale in scales]
        if not factors or not all(math.isfinite(factor) and factor > 0 for factor in factors):
            raise ValueError
    except (TypeError, ValueError):
        raise ConfigError(f"scales are {scales!r}; expected positive numbers, such as (0.5, 1.0)") from None
    return tuple((max(1, round(size[0] * by)), max(1, round(size[1] * by))) for by in factors)


def _plain_mask(mask: EncodedMask | None) -> ObjectMask | None:
    return mask and ObjectMask(mask.size, mask.counts.decode("ascii"))
