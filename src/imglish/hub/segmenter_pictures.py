"""How the released segmenters of ViT-Adapter are shown pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from imglish.hub.manifest import find, find_released
from imglish.hub.official_file import OfficialFile, ScoredPictures
from imglish.hub.weights import Weights
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig

# Side of the crops of all official segmenters whose backbone's tables do not tell it (adapter's FACTS, 10).
CROP = 512
# Windows of the configs of 896 pixels; the others' overlap by a third.
_LARGE, _LARGE_STRIDE = 896, 512


def file_of(path: Path) -> OfficialFile | None:
    """The official file that has this name, downloaded by whomever; None where there is none."""
    named = find(path.name.partition(".pth")[0] if ".pth" in path.name else path.stem)
    return named or find_released(path.name)


def segmenter_pictures(
    weights: Weights, config: ViTSegmenterConfig, asked: tuple[int, int] | None
) -> dict[str, Any]:
    """Settings of an official segmenter's pictures, by the names that ``task.pictures`` of a run has.

    They are those of the published tests where the file's name tells which it is, else those of ADE20K at the
    crop that the tables tell, or at 512 pixels.

    Args:
        weights: Of the segmenter.
        config: Its settings.
        asked: (height, width) of the windows, where they shall differ from training's.
    """
    file = file_of(Path(weights.where))
    scored = None if file is None else file.scored
    crop = asked or (config.vit.image_size if config.family == "beit" else (CROP, CROP))
    if scored is None:
        scored = ScoredPictures(crop=min(crop), scale=_scale(crop))
    elif asked is not None:
        scored = replace(scored, crop=min(crop), scale=_scale(crop))
    return {
        "kind": "cropped",
        "crop": crop,
        "stride": tuple(_LARGE_STRIDE if side == _LARGE else side * 2 // 3 for side in crop),
        "range": weights.pictures or "imagenet",
        "scored_scale": scored.scale,
        "scored_ratios": (1.0,),
        "scored_flip": scored.flip,
        "fit": scored.fit,
        "padding": "none",
        "scored_at": "one_scale",
        "several": {
            "ratios": scored.ratios,
            "flip": True,
            "fit": "at_least_crop" if scored.padding == "none" else scored.fit,
            "padding": scored.padding,
        },
    }


def _scale(crop: tuple[int, int]) -> tuple[int, int]:
    """(longer, shorter) side as in the configs for ADE20K: as many pixels as the crop, and hardly a limit."""
    return 4 * min(crop), min(crop)
