"""The plain ViTs that ViT-Adapter starts from, besides the BEiTs: DeiT, AugReg, MAE, DINOv2, Uni-Perceiver.

After the tables of czczup/ViT-Adapter, ``segmentation/README.md``, ``detection/README.md`` and the configs'
``pretrained``, of facebookresearch/dinov2, ``README.md``, and of facebookresearch/deit, ``README_deit.md``
(as of 2025-12). The documents give no size or digest of a file, so there is none here. DINOv2's giant is not
among these: its feed-forward network has gates, which no model here has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from imglish.hub.official_file import OfficialFile, PictureRange, Score
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.plain_weights import DROPPED, HEAD, UNIPERCEIVER_DROPPED
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.presets import Size

_META = "https://dl.fbaipublicfiles.com/"
_ADAPTER = "https://github.com/czczup/ViT-Adapter/releases/download/"
_GOOGLE = "https://storage.googleapis.com/vit_models/augreg/"
_DINOV2_SIDE, _DINOV2_PATCH = 518, 14
_AUGREG = "pretrained on ImageNet-21k and tuned on ImageNet-1k with augmentation and regularisation"
_LARGE_AUGREG = (
    "L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1--imagenet2012-steps_20k-lr_0.01-res_384"
)


def _vit(size: Size, side: int, *, patch_size: int = 16, layer_scale: bool = False) -> ViTConfig:
    """The ViT as it was pretrained: with class token and last norm."""
    vit = presets.vit(size, layer_scale=layer_scale)
    return replace(vit, image_size=(side, side), patch_size=patch_size, class_token=True, output_norm=True)


def _backbone(
    name: str,
    url: str,
    config: ViTConfig,
    description: str,
    pictures: PictureRange,
    licence: str | None = None,
) -> OfficialFile:
    """An entry of which the ViT alone is used."""
    return OfficialFile(
        name=name,
        url=url,
        kind="backbone",
        description=description,
        config=config,
        pictures=pictures,
        licence=licence,
        dropped=UNIPERCEIVER_DROPPED if config.embedding_norm else (*DROPPED, HEAD),
    )


def _deit(size: Size, digest: str, top1: float, top5: float, parameters: float) -> OfficialFile:
    name = f"deit_{size}_patch16_224"
    return OfficialFile(
        name=name,
        url=f"{_META}deit/{name}-{digest}.pth",
        kind="image_classification",
        description="supervised on ImageNet-1k, 300 epochs",
        config=_vit(size, 224),
        num_labels=1000,
        pictures="imagenet",
        parameters=parameters,
        scores=(Score("ImageNet-1k top-1", top1), Score("ImageNet-1k top-5", top5)),
        licence="Apache-2.0",
        dropped=DROPPED,
    )


def _dinov2(size: Literal["small", "base", "large"]) -> OfficialFile:
    name = f"dinov2_vit{size[0]}14"
    return _backbone(
        f"dinov2_{size}_patch14_518",
        f"{_META}dinov2/{name}/{name}_pretrain.pth",
        _vit(size, _DINOV2_SIDE, patch_size=_DINOV2_PATCH, layer_scale=True),
        "self-supervised by distillation on LVD-142M",
        "imagenet",
        "Apache-2.0",
    )


def _augreg(name: str, url: str, size: Size) -> OfficialFile:
    """Google's ViTs take pictures in [-1, 1]."""
    side = int(name.partition("patch16_")[2].partition("_")[0])
    return _backbone(name, url, _vit(size, side), _AUGREG, "model")


def _uniperceiver(size: Literal["base", "large"], released: str) -> OfficialFile:
    return _backbone(
        f"uniperceiver_{size}_patch16_224",
        f"{_ADAPTER}v0.3.1/uni-perceiver-{released}_converted.pth",
        presets.uniperceiver(size),
        "pretrained on many tasks of pictures, videos and texts",
        "imagenet",
    )


BACKBONE_FILES: tuple[OfficialFile, ...] = (
    _deit("tiny", "a1311bcf", 72.2, 91.1, 5),
    _deit("small", "cd65a155", 79.9, 95.0, 22),
    _deit("base", "b5f2ef4d", 81.8, 95.6, 86),
    _augreg(
        "augreg_tiny_patch16_224",
        f"{_ADAPTER}v0.3.1/Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-"
        "lr_0.03-res_224.pth",
        "tiny",
    ),
    _augreg(
        "augreg_base_patch16_384",
        f"{_ADAPTER}v0.3.1/B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-"
        "lr_0.01-res_384.pth",
        "base",
    ),
    _augreg("augreg_large_patch16_384", f"{_ADAPTER}v0.1.6/{_LARGE_AUGREG}.pth", "large"),
    _augreg("augreg_large_patch16_384_npz", f"{_GOOGLE}{_LARGE_AUGREG}.npz", "large"),
    _backbone(
        "mae_base_patch16_224",
        f"{_META}mae/pretrain/mae_pretrain_vit_base.pth",
        _vit("base", 224),
        "pretrained on ImageNet-1k to paint hidden patches, 1600 epochs",
        "imagenet",
        "CC-BY-NC-4.0",
    ),
    _dinov2("small"),
    _dinov2("base"),
    _dinov2("large"),
    _uniperceiver("base", "base-L12-H768-224size-torch-pretrained"),
    _uniperceiver("large", "large-L24-H1024-224size-pretrained"),
)
