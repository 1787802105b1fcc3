"""The released BEiT, BEiT v2 and VQ-KD files, and timm's copies of BEiT-3's vision side.

BEiT and BEiT v2 after the tables of microsoft/unilm, ``beit/README.md``, ``beit2/README.md``,
``beit2/PRETRAINING.md``, ``beit2/TOKENIZER.md`` and ``beit2/get_started_for_image_classification.md`` (as of
2025-12); where two of them differ on what a large model was trained from, the last one is followed. Their
UPerNet segmenters are not among these: no model here reads them. timm's names, addresses and sizes are those
of its version 1.0.31. The documents give no licence, size or digest of a file, so there is none here.
"""

from __future__ import annotations

from typing import Literal

from imglish.hub.official_file import Kind, OfficialFile, PictureRange, Score
from imglish.models.beit3.config import beit3_base, beit3_large
from imglish.models.vit.config import RelativePositions, ViTConfig
from imglish.models.vit.weights import INDEX
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.weights import VQKD_MAP

_BEIT = "https://github.com/addf400/files/releases/download/v1.0/"
_BEIT_V2 = "https://github.com/addf400/files/releases/download/BEiT-v2/"
_TIMM = "https://huggingface.co/timm/"

NUM_CODES = 8192


def _config(name: str, relative_positions: RelativePositions) -> ViTConfig:
    """Sizes of a file: its name says base or large, and the pictures' side after ``patch16``."""
    side = int(name.partition("patch16_")[2].partition("_")[0])
    large = "_large_" in name
    return ViTConfig(
        image_size=(side, side),
        width=1024 if large else 768,
        depth=24 if large else 12,
        num_heads=16 if large else 12,
        absolute_positions=False,
        relative_positions=relative_positions,
        layer_scale=1e-5 if large else 0.1,
    )


def _address(name: str) -> str:
    return f"{_BEIT_V2 if name.startswith('beitv2') else _BEIT}{name}.pth"


def _pictures(name: str) -> PictureRange:
    """After the commands of the documents: with ``--imagenet_default_mean_and_std``, or without.

    It is given for all of BEiT v2 and for BEiT's pretraining on ImageNet-1k, nowhere else.
    """
    return "imagenet" if name.startswith("beitv2_") or "_pt1k" in name else "model"


def _pretrained(name: str, description: str, config: ViTConfig | None = None) -> OfficialFile:
    """Both codes save the whole model: mask token, head over visual tokens, BEiT v2's second way."""
    return OfficialFile(
        name=name,
        url=_address(name),
        kind="masked_image_modeling",
        description=description,
        config=config or _config(name, "shared"),
        num_labels=NUM_CODES,
        pictures=_pictures(name),
        dropped=(INDEX,),
    )


def _classifier(
    name: str, trained_from: str, top1: float | None, top5: float | None, parameters: float | None
) -> OfficialFile:
    scores = {"ImageNet-1k top-1": top1, "ImageNet-1k top-5": top5}
    wide = name.endswith(("_ft22k", "_ft21k"))
    return OfficialFile(
        name=name,
        url=_address(name),
        kind="image_classification",
        description=f"fine-tuned on ImageNet-{'22k' if wide else '1k'}",
        config=_config(name, "per_block"),
        num_labels=None if wide else 1000,
        pictures=_pictures(name),
        parameters=parameters,
        trained_from=trained_from,
        scores=tuple(Score(metric, value) for metric, value in scores.items() if value is not None),
        dropped=(INDEX,),
    )


def _tokenizer(name: str, digest: str, depth: int, teacher_dim: int, usage: float) -> OfficialFile:
    return OfficialFile(
        name=name,
        url=f"{_BEIT_V2}{name}-{digest}.pth",
        kind="visual_tokenizer",
        description=f"visual tokenizer, taught by {'CLIP' if teacher_dim == 512 else 'DINO'} ViT-B/16",
        config=VqkdConfig(decoder_depth=depth, teacher_dim=teacher_dim),
        num_labels=NUM_CODES,
        scores=(Score("codebook usage", usage),),
        dropped=VQKD_MAP.dropped,
    )


def _timm(tag: str, size: Literal["base", "large"], kind: Kind, description: str) -> OfficialFile:
    name = f"timm/beit3_{size}_patch16_224.{tag}"
    return OfficialFile(
        name=name,
        url=f"{_TIMM}{name.removeprefix('timm/')}/resolve/main/model.safetensors",
        kind=kind,
        description=description,
        layout="timm-vision",
        config=beit3_large() if size == "large" else beit3_base(),
        num_labels=1000 if kind == "image_classification" else None,
    )


_PT22K = "pretrained on ImageNet-22k"
_PT1K = "pretrained on ImageNet-1k with the VQ-KD tokenizer, 1600 epochs"
_PT1K_300 = "pretrained on ImageNet-1k with the VQ-KD tokenizer, 300 epochs"

BEIT_FILES: tuple[OfficialFile, ...] = (
    _pretrained("beit_base_patch16_224_pt22k", _PT22K),
    _pretrained("beit_large_patch16_224_pt22k", _PT22K),
    _pretrained(
        "beit_base_patch16_224_pt1k_800ep",
        "pretrained on ImageNet-1k, 800 epochs; absolute positions, no layer scale",
        ViTConfig(),
    ),
    _classifier("beit_base_patch16_224_pt22k_ft22k", "beit_base_patch16_224_pt22k", None, None, None),
    _classifier("beit_large_patch16_224_pt22k_ft22k", "beit_large_patch16_224_pt22k", None, None, None),
    _classifier("beit_base_patch16_224_pt22k_ft1k", "beit_base_patch16_224_pt22k", 83.7, 96.6, 87),
    _classifier("beit_base_patch16_224_pt22k_ft22kto1k", "beit_base_patch16_224_pt22k_ft22k", 85.2, 97.6, 87),
    _classifier("beit_base_patch16_384_pt22k_ft22kto1k", "beit_base_patch16_224_pt22k_ft22k", 86.8, 98.1, 87),
    _classifier("beit_large_patch16_224_pt22k_ft1k", "beit_large_patch16_224_pt22k", 86.0, 97.6, 304),
    _classifier(
        "beit_large_patch16_224_pt22k_ft22kto1k", "beit_large_patch16_224_pt22k_ft22k", 87.4, 98.3, 304
    ),
    _classifier(
        "beit_large_patch16_384_pt22k_ft22kto1k", "beit_large_patch16_224_pt22k_ft22k", 88.4, 98.6, 305
    ),
    _classifier(
        "beit_large_patch16_512_pt22k_ft22kto1k", "beit_large_patch16_224_pt22k_ft22k", 88.60, 98.66, 306
    ),
    _pretrained("beitv2_base_patch16_224_pt1k_300e", _PT1K_300),
    _pretrained("beitv2_base_patch16_224_pt1k", _PT1K),
    _pretrained("beitv2_large_patch16_224_pt1k_300e", _PT1K_300),
    _pretrained("beitv2_large_patch16_224_pt1k", _PT1K),
    _classifier("beitv2_base_patch16_224_pt1k_ft21k", "beitv2_base_patch16_224_pt1k", None, None, None),
    _classifier("beitv2_large_patch16_224_pt1k_ft21k", "beitv2_large_patch16_224_pt1k", None, None, None),
    _classifier(
        "beitv2_base_patch16_224_pt1k_300e_ft1k", "beitv2_base_patch16_224_pt1k_300e", 85.0, None, None
    ),
    _classifier("beitv2_base_patch16_224_pt1k_ft1k", "beitv2_base_patch16_224_pt1k", 85.5, 97.5, 86.5),
    _classifier(
        "beitv2_base_patch16_224_pt1k_ft21kto1k", "beitv2_base_patch16_224_pt1k_ft21k", 86.5, 98.0, 86.5
    ),
    _classifier(
        "beitv2_large_patch16_224_pt1k_300e_ft1k", "beitv2_large_patch16_224_pt1k_300e", 86.6, None, None
    ),
    _classifier("beitv2_large_patch16_224_pt1k_ft1k", "beitv2_large_patch16_224_pt1k", 87.3, 98.2, 304),
    _classifier(
        "beitv2_large_patch16_224_pt1k_ft21kto1k", "beitv2_large_patch16_224_pt1k_ft21k", 88.4, 98.6, 304
    ),
    _tokenizer("vqkd_encoder_base_decoder_1x768x12_clip", "d93179da", 1, 512, 100),
    _tokenizer("vqkd_encoder_base_decoder_3x768x12_clip", "d5036aa7", 3, 512, 97),
    _tokenizer("vqkd_encoder_base_decoder_1x768x12_dino", "663c55d7", 1, 768, 100),
)

_VISION_SIDE = "vision side of the pretrained BEiT-3"
_FINE_TUNED = "vision side of BEiT-3 fine-tuned on ImageNet-1k"

TIMM_FILES: tuple[OfficialFile, ...] = (
    _timm("pt", "base", "backbone", _VISION_SIDE),
    _timm("indomain_pt", "base", "backbone", _VISION_SIDE),
    _timm("pt", "large", "backbone", _VISION_SIDE),
    _timm("indomain_pt", "large", "backbone", _VISION_SIDE),
    _timm("in22k_ft_in1k", "base", "image_classification", _FINE_TUNED),
    _timm("indomain_in22k_ft_in1k", "base", "image_classification", _FINE_TUNED),
    _timm("in22k_ft_in1k", "large", "image_classification", _FINE_TUNED),
    _timm("indomain_in22k_ft_in1k", "large", "image_classification", _FINE_TUNED),
)
