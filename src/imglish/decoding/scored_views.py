"""Class maps of a batch to be scored: of one view, or averaged over several."""

from __future__ import annotations

from torch import Tensor

from imglish.decoding.sliding import Predict, View, Windows, class_map, mean_probabilities
from imglish.structures.batches import SegmentationBatch


def batch_class_map(predict: Predict, batch: SegmentationBatch, windows: Windows | None = None) -> Tensor:
    """The most probable class of each pixel, int64 (B, H, W), at the size of the batch's masks.

    Args:
        predict: The network.
        batch: Its views are shown one after the other; the probabilities of several are averaged.
        windows: How they are cut; None shows them whole.
    """
    height, width = batch.masks.shape[-2:]
    views = [View(view.images, view.flipped, view.inside) for view in batch.views] or [View(batch.images)]
    if len(views) == 1:
        return class_map(predict, views[0], size=(height, width), windows=windows)
    return mean_probabilities(predict, views, size=(height, width), windows=windows).argmax(dim=1)
