"""ViT-Adapter's official Cityscapes config, and the pretraining on Mapillary that it starts from."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from imglish.recipes.config import RunConfig
from imglish.recipes.segmentation_config import CroppedPictures, SeveralViews
from imglish.recipes.segmentation_official import (
    BEIT_LARGE,
    beit_adamw,
    beit_backbone,
    crops,
    mask2former,
    official,
)

_SEVERAL = SeveralViews(ratios=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0))


def mask2former_beit_adapter_large_896_80k_mapillary() -> RunConfig:
    """Mapillary with Cityscapes' 19 classes, BEiT-L, ViT-Adapter and Mask2Former: no score was published.

    Its config scores Cityscapes' validation pictures; here Mapillary's own are scored.

    Run:      imglish train mask2former_beit_adapter_large_896_80k_mapillary --data.root data/mapillary
    Needs:    16 pictures of 896 pixels a step; officially 16 GPUs.
    Source:   cityscapes/mask2former_beit_adapter_large_896_80k_mapillary_ss (adapter FACTS, section 10).
    """
    return _run("mask2former_beit_adapter_large_896_80k_mapillary", "mapillary", _pictures())


def mask2former_beit_adapter_large_896_80k_cityscapes() -> RunConfig:
    """Cityscapes, BEiT-L, ViT-Adapter and Mask2Former, after Mapillary: 84.9 mIoU, 85.8 at several scales.

    It starts from the official run on Mapillary; --init RUN names your own.

    Run:      imglish train mask2former_beit_adapter_large_896_80k_cityscapes --data.root data/cityscapes
    Needs:    16 pictures of 896 pixels a step; officially 16 GPUs.
    Source:   cityscapes/mask2former_beit_adapter_large_896_80k_cityscapes_ss and _ms (adapter FACTS,
              sections 8 and 10); the scores from its documents.
    """
    name = "mask2former_beit_adapter_large_896_80k_cityscapes"
    mapillary = "mask2former_beit_adapter_large_896_80k_mapillary"
    return _run(name, "cityscapes", replace(_pictures(), fit="plain"), init=mapillary)


def _pictures() -> CroppedPictures:
    return crops(896, 512, (2048, 1024), several=_SEVERAL)


def _run(
    name: str, data: Literal["cityscapes", "mapillary"], pictures: CroppedPictures, *, init: str = ""
) -> RunConfig:
    return official(
        name,
        beit_backbone(BEIT_LARGE, 896),
        mask2former(100),
        beit_adamw(),
        pictures,
        data,
        num_steps=80_000,
        init=init,
    )
