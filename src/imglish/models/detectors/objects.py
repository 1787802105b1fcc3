"""The objects of a picture as a two-stage detector is trained on them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from imglish.structures.instances import Instances


class Objects(NamedTuple):
    """Single objects with an area, and crowd regions apart from them; G may be 0.

    Args:
        boxes: (G, 4).
        labels: int64 (G,).
        masks: bool (G, H, W); None where there are none.
        crowd: Boxes (K, 4) of crowd regions.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None
    crowd: Tensor


def objects_of(instances: Instances) -> Objects:
    """Part crowd regions from the others; boxes without an area, which no region can become, are left out."""
    solid = ((instances.boxes[:, 2:] - instances.boxes[:, :2]) > 0).all(dim=1)
    single = instances.take(solid & ~instances.crowd)
    return Objects(
        single.boxes.float(), single.labels, single.masks, instances.boxes[solid & instances.crowd].float()
    )
