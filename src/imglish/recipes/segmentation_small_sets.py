"""ViT-Adapter's official configs of Potsdam (aerial pictures) and CHASE-DB1 (vessels of the eye).

The adapter's FACTS do not tell sizes of pictures and batches of these two: they are taken from the configs
and documents of the official repository (segmentation/configs/potsdam and chase_db1), as is the width of
2048 of the pixel decoder's feed-forward networks, where the other configs of width 256 have 1024.
"""

from __future__ import annotations

from dataclasses import replace

from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.recipes.config import RunConfig
from imglish.recipes.segmentation_official import (
    BEIT_LARGE,
    beit_adamw,
    beit_backbone,
    crops,
    crops_of_512,
    mask2former,
    official,
)


def mask2former_beit_adapter_large_512_80k_potsdam() -> RunConfig:
    """Potsdam, BEiT-L, ViT-Adapter and Mask2Former: 80.0 mIoU.

    Run:      imglish train mask2former_beit_adapter_large_512_80k_potsdam --data.root data/potsdam
    Needs:    8 pictures of 512 pixels a step; officially 8 GPUs.
    Source:   its config in potsdam, _ss (adapter FACTS, section 10); size of pictures and batch and the
              score from the config itself and its documents. None of several scales was published.
    """
    return official(
        "mask2former_beit_adapter_large_512_80k_potsdam",
        beit_backbone(BEIT_LARGE, 512),
        _mask2former(),
        beit_adamw(),
        crops_of_512(),
        "potsdam",
        num_steps=80_000,
        batch_size=8,
    )


def mask2former_beit_adapter_large_128_40k_chase_db1() -> RunConfig:
    """CHASE-DB1, BEiT-L, ViT-Adapter and Mask2Former: a mean dice of 89.4.

    That is ``semantic/mean_dice`` among the scores.

    Run:      imglish train mask2former_beit_adapter_large_128_40k_chase_db1 --data.root data/chase_db1
    Needs:    16 pictures of 128 pixels a step; officially 4 GPUs with four each.
    Source:   its config in chase_db1, _ss (adapter FACTS, section 10); size of pictures and batch and the
              score from the config itself and its documents. None of several scales was published.
    """
    return official(
        "mask2former_beit_adapter_large_128_40k_chase_db1",
        beit_backbone(BEIT_LARGE, 128),
        _mask2former(),
        beit_adamw(),
        crops(128, 85, (999, 960)),
        "chase_db1",
        num_steps=40_000,
    )


def _mask2former() -> Mask2FormerConfig:
    return replace(mask2former(100, width=256), pixel_feed_forward_width=2048)
