"""ViT-Adapter's official configs of COCO-Stuff 10k and 164k, both with 171 classes."""

from __future__ import annotations

from imglish.recipes.config import RunConfig
from imglish.recipes.segmentation_official import (
    BEIT_BASE,
    BEIT_LARGE,
    BEIT_V2_LARGE,
    adamw,
    beit_adamw,
    beit_backbone,
    crops,
    crops_of_512,
    crops_of_896,
    mask2former,
    official,
    upernet,
)


def mask2former_beit_adapter_base_512_40k_cocostuff10k() -> RunConfig:
    """COCO-Stuff 10k, BEiT-B, ViT-Adapter and Mask2Former: 50.0 mIoU, 50.5 at several scales.

    Run:      imglish train mask2former_beit_adapter_base_512_40k_cocostuff10k --data.root data/coco_stuff10k
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in coco_stuff10k, _ss and _ms (adapter FACTS, sections 8 and 10); the scores from its
              documents.
    """
    return official(
        "mask2former_beit_adapter_base_512_40k_cocostuff10k",
        beit_backbone(BEIT_BASE, 512, drop_path=0.2),
        mask2former(100, width=256),
        adamw(3e-5, 0.05, 0.95),
        crops_of_512(),
        "coco_stuff10k",
        num_steps=40_000,
    )


def mask2former_beit_adapter_large_512_40k_cocostuff10k() -> RunConfig:
    """COCO-Stuff 10k, BEiT-L, ViT-Adapter and Mask2Former: 53.2 mIoU, 54.2 at several scales.

    Run:      imglish train mask2former_beit_adapter_large_512_40k_cocostuff10k --data.root data/coco_stuff10k
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in coco_stuff10k, _ss and _ms (adapter FACTS, sections 8 and 10); the scores from its
              documents.
    """
    return official(
        "mask2former_beit_adapter_large_512_40k_cocostuff10k",
        beit_backbone(BEIT_LARGE, 512),
        mask2former(100),
        beit_adamw(),
        crops_of_512(),
        "coco_stuff10k",
        num_steps=40_000,
    )


def upernet_beit_adapter_large_512_80k_cocostuff10k() -> RunConfig:
    """COCO-Stuff 10k, BEiT-L, ViT-Adapter and UPerNet: 51.0 mIoU, 51.4 at several scales.

    Run:      imglish train upernet_beit_adapter_large_512_80k_cocostuff10k --data.root data/coco_stuff10k
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in coco_stuff10k, _ss and _ms (adapter FACTS, sections 8 and 10); the scores from its
              documents.
    """
    return official(
        "upernet_beit_adapter_large_512_80k_cocostuff10k",
        beit_backbone(BEIT_LARGE, 512),
        upernet(width=1024),
        beit_adamw(),
        crops_of_512(),
        "coco_stuff10k",
        num_steps=80_000,
    )


def upernet_beit_adapter_large_640_80k_cocostuff164k() -> RunConfig:
    """COCO-Stuff 164k, BEiT-L, ViT-Adapter and UPerNet: 50.5 mIoU, 50.7 at several scales.

    Run:      imglish train upernet_beit_adapter_large_640_80k_cocostuff164k --data.root data/coco_stuff164k
    Needs:    16 pictures of 640 pixels a step; officially 8 GPUs with two each.
    Source:   its config in coco_stuff164k, _ss and _ms (adapter FACTS, sections 8 and 10); the scores from
              its documents.
    """
    return official(
        "upernet_beit_adapter_large_640_80k_cocostuff164k",
        beit_backbone(BEIT_LARGE, 640),
        upernet(width=1024),
        beit_adamw(),
        crops(640, 426, (2560, 640)),
        "coco_stuff164k",
        num_steps=80_000,
    )


def mask2former_beit_adapter_large_896_80k_cocostuff164k() -> RunConfig:
    """COCO-Stuff 164k, BEiT-L, ViT-Adapter and Mask2Former: 51.7 mIoU, 52.0 at several scales.

    Run:      imglish train mask2former_beit_adapter_large_896_80k_cocostuff164k --data.root ROOT
    Needs:    16 pictures of 896 pixels a step; officially 16 GPUs.
    Source:   its config in coco_stuff164k, _ss and _ms (adapter FACTS, sections 8 and 10); the scores from
              its documents.
    """
    return _at_896("mask2former_beit_adapter_large_896_80k_cocostuff164k", BEIT_LARGE)


def mask2former_beitv2_adapter_large_896_80k_cocostuff164k() -> RunConfig:
    """COCO-Stuff 164k, BEiT v2-L, ViT-Adapter and Mask2Former: 52.3 mIoU.

    Run:      imglish train mask2former_beitv2_adapter_large_896_80k_cocostuff164k --data.root ROOT
    Needs:    16 pictures of 896 pixels a step; officially 16 GPUs.
    Source:   its config in coco_stuff164k, _ss (adapter FACTS, sections 8 and 10); the score from its
              documents. None of several scales was published: those settings are the BEiT's.
    """
    return _at_896("mask2former_beitv2_adapter_large_896_80k_cocostuff164k", BEIT_V2_LARGE)


def _at_896(name: str, init: str) -> RunConfig:
    return official(
        name,
        beit_backbone(init, 896),
        mask2former(200),
        beit_adamw(),
        crops_of_896(),
        "coco_stuff164k",
        num_steps=80_000,
    )
