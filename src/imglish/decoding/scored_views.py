"""Class maps of pictures that are shown in one view, or averaged over several."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from imglish.decoding.sliding import Predict, Size, View, Windows, class_map, most_probable_classes
from imglish.structures.batches import SegmentationBatch


def views_class_map(
    predict: Predict, views: Sequence[View], *, size: Size, windows: Windows | None = None
) -> Tensor:
    """The most probable class of each pixel, int64 (B, *size).

    Args:
        predict: The network.
        views: Of the same pictures; the scores of one are compared, the probabilities of several averaged.
        size: (height, width) of the map.
        windows: How they are cut; None shows them whole.

    Raises:
        ValueError: There is no view.
    """
    if len(views) == 1:
        return class_map(predict, views[0], size=size, windows=windows)
    return most_probable_classes(predict, views, size=size, windows=windows)


def batch_class_map(predict: Predict, batch: SegmentationBatch, windows: Windows | None = None) -> Tensor:
    """The most probable class of each pixel, int64 (B, H, W), at the size of the batch's masks.

    Args:
        predict: The network.
        batch: Its views are shown one after the other; the probabilities of several are averaged.
        windows: How they are cut; None shows them whole.
    """
    height, width = batch.masks.shape[-2:]
    views = [View(view.images, view.flipped, view.inside) for view in batch.views] or [View(batch.images)]
    return views_class_map(predict, views, size=(height, width), windows=windows)
