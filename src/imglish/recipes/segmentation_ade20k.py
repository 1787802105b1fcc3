"""ViT-Adapter's official configs of ADE20K with 150 classes.

All are named as their configs, ROOT is the folder ADEChallengeData2016. They score at a single scale;
``--task.pictures.scored-at several_scales`` scores at several, flipped as well.
"""

from __future__ import annotations

from dataclasses import replace

from imglish.recipes.config import RunConfig
from imglish.recipes.segmentation_official import (
    AS_COMMENTED,
    AT_896_BEIT_V2,
    BEIT_LARGE,
    BEIT_V2_LARGE,
    Backbone,
    adamw,
    beit_adamw,
    beit_backbone,
    crops,
    crops_of_512,
    crops_of_896,
    mask2former,
    official,
    uniperceiver_backbone,
    upernet,
    vit_backbone,
)
from imglish.train.config import OptimizerConfig

_COCO = "mask2former_beit_adapter_large_896_80k_cocostuff164k"
_COCO_V2 = "mask2former_beitv2_adapter_large_896_80k_cocostuff164k"


def upernet_deit_adapter_tiny_512_160k_ade20k() -> RunConfig:
    """ADE20K, DeiT-T, ViT-Adapter and UPerNet: 42.6 mIoU, 43.6 at several scales.

    Run:      imglish train upernet_deit_adapter_tiny_512_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10); the scores from its documents.
    """
    return _on_vit(
        "upernet_deit_adapter_tiny_512_160k_ade20k",
        vit_backbone("tiny", "deit_tiny_patch16_224", drop_path=0.1),
        adamw(12e-5, 0.01, 0.95),
    )


def upernet_deit_adapter_small_512_160k_ade20k() -> RunConfig:
    """ADE20K, DeiT-S, ViT-Adapter and UPerNet: 46.2 mIoU, 47.1 at several scales.

    Run:      imglish train upernet_deit_adapter_small_512_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10); the scores from its documents.
    """
    return _on_vit(
        "upernet_deit_adapter_small_512_160k_ade20k",
        vit_backbone("small", "deit_small_patch16_224", drop_path=0.2),
        adamw(6e-5, 0.01, 0.95),
    )


def upernet_deit_adapter_base_512_160k_ade20k() -> RunConfig:
    """ADE20K, DeiT-B, ViT-Adapter and UPerNet: 48.8 mIoU, 49.7 at several scales.

    Run:      imglish train upernet_deit_adapter_base_512_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10); the scores from its documents.
    """
    return _on_vit(
        "upernet_deit_adapter_base_512_160k_ade20k",
        vit_backbone("base", "deit_base_patch16_224", drop_path=0.3),
        adamw(6e-5, 0.01, 0.95),
    )


def upernet_deit_adapter_light_base_512_160k_ade20k() -> RunConfig:
    """ADE20K, DeiT-B, the light ViT-Adapter and UPerNet: no score was published.

    One interaction, no feed-forward networks in it, and no maps of the ViT added to the output.

    Run:      imglish train upernet_deit_adapter_light_base_512_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10).
    """
    return _on_vit(
        "upernet_deit_adapter_light_base_512_160k_ade20k",
        vit_backbone("base", "deit_base_patch16_224", drop_path=0.3, light=True),
        adamw(6e-5, 0.01, 0.95),
    )


def upernet_augreg_adapter_tiny_512_160k_ade20k() -> RunConfig:
    """ADE20K, AugReg-T, ViT-Adapter and UPerNet: 43.9 mIoU, 44.8 at several scales.

    Run:      imglish train upernet_augreg_adapter_tiny_512_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10); the scores from its documents.
    """
    return _on_vit(
        "upernet_augreg_adapter_tiny_512_160k_ade20k",
        vit_backbone("tiny", "augreg_tiny_patch16_224", drop_path=0.1),
        adamw(12e-5, 0.01, 0.95),
    )


def upernet_augreg_adapter_base_512_160k_ade20k() -> RunConfig:
    """ADE20K, AugReg-B, ViT-Adapter and UPerNet: 51.9 mIoU, 52.5 at several scales.

    Alone among them it has no layer decay: heads learn ten times as fast, and what decays goes by names.
    Its pictures are in [-1, 1].

    Run:      imglish train upernet_augreg_adapter_base_512_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10); the scores from its documents.
    """
    return _in_model_range(
        "upernet_augreg_adapter_base_512_160k_ade20k",
        vit_backbone("base", "augreg_base_patch16_384", drop_path=0.3, pretrained_size=384),
        OptimizerConfig(
            lr=2e-5,
            betas=(0.9, 0.999),
            eps=1e-8,
            weight_decay=0.01,
            head_lr_scale=10.0,
            decay_by="name",
        ),
    )


def upernet_augreg_adapter_large_512_160k_ade20k() -> RunConfig:
    """ADE20K, AugReg-L, ViT-Adapter and UPerNet: 53.4 mIoU, 54.4 at several scales.

    Its pictures are in [-1, 1].

    Run:      imglish train upernet_augreg_adapter_large_512_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10); the scores from its documents.
    """
    return _in_model_range(
        "upernet_augreg_adapter_large_512_160k_ade20k",
        vit_backbone("large", "augreg_large_patch16_384", drop_path=0.4, pretrained_size=384),
        adamw(2e-5, 0.05, 0.95),
    )


def upernet_uniperceiver_adapter_large_512_160k_ade20k() -> RunConfig:
    """ADE20K, Uni-Perceiver-L, ViT-Adapter and UPerNet: 55.0 mIoU, 55.4 at several scales.

    Run:      imglish train upernet_uniperceiver_adapter_large_512_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10); the scores from its documents.
    """
    return _on_vit(
        "upernet_uniperceiver_adapter_large_512_160k_ade20k",
        uniperceiver_backbone(drop_path=0.4),
        adamw(6e-5, 0.05, 0.8),
    )


def upernet_beit_large_512_160k_ade20k() -> RunConfig:
    """ADE20K, plain BEiT-L and UPerNet: no score was published.

    The baseline without adapter.

    Run:      imglish train upernet_beit_large_512_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 512 pixels a step; officially 8 GPUs with two each.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10).
    """
    return official(
        "upernet_beit_large_512_160k_ade20k",
        beit_backbone(BEIT_LARGE, 512, drop_path=0.2, plain=True),
        upernet(width=1024),
        beit_adamw(),
        crops_of_512(),
        "ade20k",
        num_steps=160_000,
        out_blocks=(7, 11, 15, 23),
    )


def upernet_beit_adapter_large_640_160k_ade20k() -> RunConfig:
    """ADE20K, BEiT-L, ViT-Adapter and UPerNet: 58.0 mIoU, 58.4 at several scales.

    Run:      imglish train upernet_beit_adapter_large_640_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 640 pixels a step; officially 8 GPUs with two each.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10); the scores from its documents.
    """
    return official(
        "upernet_beit_adapter_large_640_160k_ade20k",
        beit_backbone(BEIT_LARGE, 640),
        upernet(width=1024),
        beit_adamw(),
        crops(640, 426, (2048, 640)),
        "ade20k",
        num_steps=160_000,
    )


def mask2former_beit_adapter_large_640_160k_ade20k() -> RunConfig:
    """ADE20K, BEiT-L, ViT-Adapter and Mask2Former: 58.3 mIoU, 59.0 at several scales.

    Run:      imglish train mask2former_beit_adapter_large_640_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 640 pixels a step; officially 8 GPUs with two each.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10); the scores from its documents.
    """
    return official(
        "mask2former_beit_adapter_large_640_160k_ade20k",
        beit_backbone(BEIT_LARGE, 640),
        mask2former(100),
        beit_adamw(),
        crops(640, 426, (2048, 640)),
        "ade20k",
        num_steps=160_000,
    )


def mask2former_beit_adapter_large_896_80k_ade20k() -> RunConfig:
    """ADE20K, BEiT-L, ViT-Adapter and Mask2Former, after COCO-Stuff: 59.4 mIoU, 60.5 at several.

    It starts from the official run on COCO-Stuff 164k; --init RUN names your own.

    Run:      imglish train mask2former_beit_adapter_large_896_80k_ade20k --data.root ROOT
    Needs:    16 pictures of 896 pixels a step; officially 16 GPUs.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10); the scores from its documents.
    """
    return official(
        "mask2former_beit_adapter_large_896_80k_ade20k",
        beit_backbone(BEIT_LARGE, 896),
        mask2former(200),
        beit_adamw(),
        crops_of_896(),
        "ade20k",
        num_steps=80_000,
        init=_COCO,
    )


def mask2former_beitv2_adapter_large_896_80k_ade20k() -> RunConfig:
    """ADE20K, BEiT v2-L, ViT-Adapter and Mask2Former, after COCO-Stuff: 61.2 mIoU, 61.5 at several.

    It starts from the official run on COCO-Stuff 164k; --init RUN names your own. Its config shows pictures
    flipped at the single scale, too.

    Run:      imglish train mask2former_beitv2_adapter_large_896_80k_ade20k --data.root ROOT
    Needs:    16 pictures of 896 pixels a step; officially 16 GPUs.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10); the scores from its documents.
    """
    return official(
        "mask2former_beitv2_adapter_large_896_80k_ade20k",
        beit_backbone(BEIT_V2_LARGE, 896),
        mask2former(200),
        beit_adamw(),
        replace(crops_of_896(AT_896_BEIT_V2), scored_flip=True),
        "ade20k",
        num_steps=80_000,
        init=_COCO_V2,
    )


def mask2former_beitv2_adapter_large_896_160k_ade20k() -> RunConfig:
    """ADE20K, BEiT v2-L, ViT-Adapter and Mask2Former: no score was published.

    Run:      imglish train mask2former_beitv2_adapter_large_896_160k_ade20k --data.root ROOT
    Needs:    16 pictures of 896 pixels a step; officially 16 GPUs.
    Source:   its config in ade20k (adapter FACTS, sections 8 and 10).
    """
    return official(
        "mask2former_beitv2_adapter_large_896_160k_ade20k",
        beit_backbone(BEIT_V2_LARGE, 896),
        mask2former(200),
        beit_adamw(),
        crops_of_896(AT_896_BEIT_V2),
        "ade20k",
        num_steps=160_000,
    )


def _on_vit(name: str, backbone: Backbone, optimizer: OptimizerConfig) -> RunConfig:
    """UPerNet at 512 pixels, as beside every DeiT, AugReg and Uni-Perceiver."""
    pictures = crops_of_512(AS_COMMENTED)
    return official(name, backbone, upernet(), optimizer, pictures, "ade20k", num_steps=160_000)


def _in_model_range(name: str, backbone: Backbone, optimizer: OptimizerConfig) -> RunConfig:
    """The same for pictures in [-1, 1]."""
    pictures = replace(crops_of_512(AS_COMMENTED), range="model")
    return official(name, backbone, upernet(), optimizer, pictures, "ade20k", num_steps=160_000)
