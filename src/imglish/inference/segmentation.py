"""Class maps of pictures of any size, shown to a segmenter as in its evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from imglish.data.transforms.segmentation import ScoringViews
from imglish.decoding.masks import class_scores
from imglish.decoding.scored_views import views_class_map
from imglish.decoding.sliding import View, Windows
from imglish.errors import CheckpointError, ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.batches import Batches
from imglish.inference.class_map import largest_at_size
from imglish.inference.drawing import draw_classes, present_classes
from imglish.inference.pictures import Picture, open_picture
from imglish.inference.run_lengths import coco_masks
from imglish.models.segmenters.semantic import SemanticSegmenter
from imglish.models.vit_adapter.model import ViTAdapter


class Segmentation(NamedTuple):
    """The class of each pixel, int64 (H, W), as an index into ``names``."""

    classes: NDArray[np.int64]
    names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The class map as values that ``json.dumps`` takes: each class with its share and COCO's mask."""
        height, width = self.classes.shape
        present = present_classes(self.classes, len(self.names))
        masks = coco_masks(self.classes == number for number in present)
        return {
            "names": list(self.names),
            "size": [height, width],
            "classes": [
                {
                    "name": self.names[number],
                    "share": float((self.classes == number).mean()),
                    "mask": mask,
                }
                for number, mask in zip(present, masks, strict=True)
            ],
        }

    def draw(self, picture: Picture, *, opacity: float = 0.6, legend: bool = True) -> Image.Image:
        """The picture under the colours of its classes, which are those of ADE20K or Cityscapes for theirs.

        Args:
            picture: The one that was segmented.
            opacity: Of the colours, in [0, 1].
            legend: True adds the names of the classes that are there at the right.

        Raises:
            DataFormatError: The picture cannot be used.
            ValueError: It has another size than the class map, or the opacity is outside [0, 1].
        """
        pixels = open_picture(picture).permute(1, 2, 0).numpy()
        return draw_classes(pixels, self.classes, self.names, opacity=opacity, legend=legend)


class Shown(NamedTuple):
    """How pictures are shown: the views of each, and the windows that views are cut into; None: whole."""

    views: ScoringViews
    windows: Windows | None


def shown_pictures(run: LoadedRun, scales: Sequence[float] | None, flip: bool | None) -> Shown | None:
    """How a segmenter is shown pictures; None where it sees them whole, at the size of its training.

    Args:
        run: The segmenter; ``pictures`` among its settings are those of the run's task.
        scales: Factors of the size at which pictures are scored; None takes the run's own.
        flip: Whether flipped pictures are shown as well; None takes the run's own answer.

    Raises:
        CheckpointError: The settings are damaged.
        ConfigError: A scale is not positive or there is none, or pictures are shown whole.
    """
    settings = run.settings.get("pictures") or {"kind": "whole"}
    if isinstance(settings, Mapping) and settings.get("kind") == "whole":
        if scales is not None or flip:
            raise ConfigError(
                "this model was trained on whole pictures of one size, and takes neither scales nor flip; "
                "leave them out, or train with task.pictures.kind cropped"
            )
        return None
    try:
        one, several, windows = _one_scale(settings), _several_scales(settings), _windows(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"task.pictures of the run: damaged ({type(error).__name__}: {error}); expected the settings of "
            "its training: train the run anew"
        ) from error
    views = several if settings.get("scored_at") == "several_scales" else one
    if scales is not None:
        views = replace(_at(scales, one, several), flip=views.flip)
    return Shown(views if flip is None else replace(views, flip=flip), windows)


def segment_seen(run: LoadedRun, batches: Batches, pictures: list[Picture]) -> list[NDArray[np.int64]]:
    """Class maps with the part of a joint run, from what its encoder has seen of the pictures."""
    model = run.model
    assert isinstance(model, SemanticSegmenter) and isinstance(model.backbone, ViTAdapter)
    found: list[NDArray[np.int64]] = []
    for maps in batches.maps(pictures, model.backbone):
        logits = class_scores(model.read(maps.pyramid))
        found += [largest_at_size(one, size) for one, size in zip(logits, maps.sizes, strict=True)]
    return found


def _at(scales: Sequence[float], one: ScoringViews, several: ScoringViews) -> ScoringViews:
    """The views of one scale, or of several, at other ones."""
    try:
        ratios = tuple(float(scale) for scale in scales)
        if not all(map(math.isfinite, ratios)):
            raise ValueError
        return replace(several if len(ratios) > 1 else one, ratios=ratios)
    except (TypeError, ValueError):
        raise ConfigError(f"scales are {scales!r}; expected positive numbers, such as (0.5, 1.0)") from None


def segment_picture(run: LoadedRun, image: Tensor, shown: Shown) -> NDArray[np.int64]:
    """The class map int64 (H, W) of a picture uint8 (3, H, W)."""
    like = next(run.model.parameters())

    def predict(images: Tensor) -> Tensor:
        return class_scores(run.model(images))

    views = [
        View(view.image[None].to(like.device, like.dtype), view.flipped, view.size)
        for view in shown.views(image)
    ]
    size = (image.shape[-2], image.shape[-1])
    classes: NDArray[np.int64] = (
        views_class_map(predict, views, size=size, windows=shown.windows)[0].cpu().numpy()
    )
    return classes


def _one_scale(settings: Mapping[str, Any]) -> ScoringViews:
    return ScoringViews(
        scale=_pair(settings["scored_scale"]),
        ratios=tuple(float(ratio) for ratio in settings["scored_ratios"]),
        flip=bool(settings["scored_flip"]),
        fit=settings["fit"],
        crop=_pair(settings["crop"]),
        padding=settings["padding"],
        pictures=settings["range"],
    )


def _several_scales(settings: Mapping[str, Any]) -> ScoringViews:
    one, told = _one_scale(settings), settings["several"]
    ratios = tuple(float(ratio) for ratio in told["ratios"])
    return replace(one, ratios=ratios, flip=bool(told["flip"]), fit=told["fit"], padding=told["padding"])


def _windows(settings: Mapping[str, Any]) -> Windows | None:
    stride = _pair(settings["stride"])
    return Windows(_pair(settings["crop"]), stride) if max(stride) else None


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)
