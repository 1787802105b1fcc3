"""How the released detectors of ViT-Adapter are shown pictures, and what else their use needs."""

from __future__ import annotations

from typing import Any

from imglish.hub.coco_names import THINGS
from imglish.hub.manifest import find
from imglish.hub.weights import Weights

_SCALE = (1333, 800)  # (longer, shorter) side in the tests of all configs but those of HTC++


def detector_settings(weights: Weights, labels: tuple[str, ...]) -> dict[str, Any]:
    """Settings of an official detector, by the names that those of a run's task have.

    Pictures are shown as in the published tests of the file where it is known, else at 1333 x 800 in
    ImageNet's range. Of panoptic segments, things are the classes that COCO's instances have.

    Args:
        weights: Of the detector.
        labels: Names of its classes.
    """
    known = None if weights.official is None else find(weights.official)
    scale = (known.scored_scale if known is not None else None) or _SCALE
    settings: dict[str, Any] = {
        "pictures": {
            "range": weights.pictures or "imagenet",
            "scored_scales": (scale,),
            "scored_flip": False,
            "scored_areas": (),
        }
    }
    if weights.kind == "panoptic":
        settings["things"] = tuple(name in THINGS for name in labels)
    return settings
