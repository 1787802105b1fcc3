"""ViT-Adapter's official configs of Pascal Context with 59 classes."""

from __future__ import annotations

from imglish.recipes.config import RunConfig
from imglish.recipes.segmentation_config import CroppedPictures
from imglish.recipes.segmentation_official import (
    BEIT_BASE,
    BEIT_LARGE,
    adamw,
    beit_adamw,
    beit_backbone,
    crops,
    mask2former,
    official,
    upernet,
)


def mask2former_beit_adapter_base_480_40k_pascal_context_59() -> RunConfig:
    """Pascal Context, BEiT-B, ViT-Adapter and Mask2Former: 64.0 mIoU, 64.4 at several scales.

    Run:      imglish train mask2former_beit_adapter_base_480_40k_pascal_context_59 --data.root data/VOC2010
    Needs:    16 pictures of 480 pixels a step; officially 8 GPUs with two each.
    Source:   its config in pascal_context, _ss and _ms (adapter FACTS, sections 8 and 10); the scores from
              its documents.
    """
    return official(
        "mask2former_beit_adapter_base_480_40k_pascal_context_59",
        beit_backbone(BEIT_BASE, 480, drop_path=0.2),
        mask2former(100, width=256),
        adamw(3e-5, 0.05, 0.95),
        _pictures(),
        "pascal_context",
        num_steps=40_000,
    )


def mask2former_beit_adapter_large_480_40k_pascal_context_59() -> RunConfig:
    """Pascal Context, BEiT-L, ViT-Adapter and Mask2Former: 67.8 mIoU, 68.2 at several scales.

    Run:      imglish train mask2former_beit_adapter_large_480_40k_pascal_context_59 --data.root data/VOC2010
    Needs:    16 pictures of 480 pixels a step; officially 8 GPUs with two each.
    Source:   its config in pascal_context, _ss and _ms (adapter FACTS, sections 8 and 10); the scores from
              its documents.
    """
    return official(
        "mask2former_beit_adapter_large_480_40k_pascal_context_59",
        beit_backbone(BEIT_LARGE, 480),
        mask2former(100),
        beit_adamw(),
        _pictures(),
        "pascal_context",
        num_steps=40_000,
    )


def upernet_beit_adapter_large_480_80k_pascal_context_59() -> RunConfig:
    """Pascal Context, BEiT-L, ViT-Adapter and UPerNet: 67.0 mIoU, 67.5 at several scales.

    Run:      imglish train upernet_beit_adapter_large_480_80k_pascal_context_59 --data.root data/VOC2010
    Needs:    16 pictures of 480 pixels a step; officially 8 GPUs with two each.
    Source:   its config in pascal_context, _ss and _ms (adapter FACTS, sections 8 and 10); the scores from
              its documents.
    """
    return official(
        "upernet_beit_adapter_large_480_80k_pascal_context_59",
        beit_backbone(BEIT_LARGE, 480),
        upernet(width=1024),
        beit_adamw(),
        _pictures(),
        "pascal_context",
        num_steps=80_000,
    )


def _pictures() -> CroppedPictures:
    return crops(480, 320, (520, 520), scored_scale=(4096, 520))
