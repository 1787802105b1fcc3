"""The released segmenters of ViT-Adapter.

After the tables of czczup/ViT-Adapter, ``segmentation/README.md`` and the READMEs of its ``configs`` (as of
2025-12), and the settings of those configs (parity FACTS of the adapter, section 10). The scores are mIoU of
one scale, and of several scales with flips, on the validation set. The documents give no licence, size or
digest of a file, so there is none here. Released semantic segmenters only: the detectors and the panoptic
Mask2Former are not among these, nor the configs without a file.
"""

from __future__ import annotations

from typing import Literal

from imglish.hub.official_file import OfficialFile, PictureRange, Score, ScoredPictures
from imglish.models.segmenters.config import Mask2FormerConfig, UPerNetConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig
from imglish.models.vit.weights import INDEX
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.presets import Size

_ADDRESS = "https://github.com/czczup/ViT-Adapter/releases/download/"

DataSet = Literal[
    "ADE20K", "Cityscapes", "Mapillary", "COCO-Stuff 10k", "COCO-Stuff 164k", "Pascal Context 59"
]
_CLASSES: dict[DataSet, int] = {
    "ADE20K": 150,
    "Cityscapes": 19,
    "Mapillary": 19,  # its 66 classes are mapped to those of Cityscapes (FACTS, section 8)
    "COCO-Stuff 10k": 171,
    "COCO-Stuff 164k": 171,
    "Pascal Context 59": 59,
}
# Released names of the ViTs' files that are no models here.
_VITS = {"deit": "DeiT", "augreg": "AugReg", "uniperceiver": "Uni-Perceiver"}
_LARGE = 896  # crops from which on the configs pad small pictures, which they enlarge otherwise
_BEIT = "beit_large_patch16_224_pt22k_ft22k"
_BEIT_BASE = "beit_base_patch16_224_pt22k_ft22k"
_BEIT_V2 = "beitv2_large_patch16_224_pt1k_ft21k"


def _file(
    path: str,
    config: ViTSegmenterConfig,
    data: DataSet,
    crop: int,
    scores: tuple[float, ...],
    *,
    parameters: float,
    began_with: str,
    trained_from: str | None = None,
    pictures: PictureRange = "imagenet",
) -> OfficialFile:
    """An entry; ``scores`` are mIoU of one scale and of several."""
    columns = (f"{data} mIoU", f"{data} mIoU, multi-scale and flip")
    head = "Mask2Former" if isinstance(config.segmenter, Mask2FormerConfig) else "UPerNet"
    return OfficialFile(
        name=path.partition("/")[2].removesuffix(".zip").removesuffix(".tar").removesuffix(".pth"),
        url=f"{_ADDRESS}{path}",
        kind="semantic_segmentation",
        description=f"{head} with ViT-Adapter, from {began_with}; {data}, crops of {crop} pixels",
        config=config,
        num_labels=config.num_classes,
        pictures=pictures,
        scored=_scored(path, data, crop),
        parameters=parameters,
        trained_from=trained_from,
        scores=tuple(Score(column, value) for column, value in zip(columns, scores, strict=False)),
        dropped=(INDEX,),
    )


def _scored(path: str, data: DataSet, crop: int) -> ScoredPictures:
    """How the config's tests show pictures (FACTS, sections 8 and 10)."""
    if data in ("Cityscapes", "Mapillary"):
        ratios = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
        return ScoredPictures(crop=crop, scale=(2048, 1024), fit="plain", ratios=ratios)
    if data == "Pascal Context 59":
        return ScoredPictures(crop=crop, scale=(4096, 520))
    if crop < _LARGE:
        longest = 2048 if data == "ADE20K" else 4 * crop
        return ScoredPictures(crop=crop, scale=(longest, crop))
    second, scale = "beitv2" in path, (4 * crop, crop)
    if not second:
        return ScoredPictures(crop=crop, scale=scale, ratios=(640 / crop, 768 / crop, 1.0), padding="black")
    return ScoredPictures(
        crop=crop,
        scale=scale,
        flip=data == "ADE20K",  # the config of a single scale flips
        ratios=(800 / crop, 832 / crop, 864 / crop, 1.0),
        padding="mean",
    )


def _vit(path: str, size: Size, scores: tuple[float, float], parameters: float) -> OfficialFile:
    """UPerNet over a DeiT, AugReg or Uni-Perceiver, on ADE20K."""
    kind = path.partition("/upernet_")[2].partition("_")[0]
    # AugReg's base and large were trained on pictures of 384 pixels with values in [-1, 1].
    large_augreg = kind == "augreg" and size != "tiny"
    if kind == "uniperceiver":
        vit, adapter = presets.uniperceiver(size), presets.uniperceiver_adapter(size, "segmentation")
    else:
        vit = presets.vit(size, pretrained_size=384 if large_augreg else 224)
        adapter = presets.vit_adapter(size, "segmentation")
    config = ViTSegmenterConfig(
        family="uniperceiver" if kind == "uniperceiver" else "vit",
        vit=vit,
        adapter=adapter,
        segmenter=UPerNetConfig(),
        num_classes=_CLASSES["ADE20K"],
    )
    return _file(
        path,
        config,
        "ADE20K",
        512,
        scores,
        parameters=parameters,
        began_with=f"{_VITS[kind]}-{size.title()}",
        pictures="model" if large_augreg else "imagenet",
    )


def _beit(
    path: str,
    data: DataSet,
    crop: int,
    scores: tuple[float, ...],
    parameters: float,
    *,
    trained_from: str = _BEIT,
    queries: int = 100,
) -> OfficialFile:
    """UPerNet or Mask2Former over a BEiT or BEiT v2; width and head are told by the path."""
    size: Size = "base" if "_adapter_base_" in path else "large"
    segmenter: UPerNetConfig | Mask2FormerConfig = UPerNetConfig(head_width=1024)
    if "mask2former" in path:
        segmenter = Mask2FormerConfig(num_queries=queries)
        if size == "large":
            segmenter = Mask2FormerConfig(
                width=1024,
                num_queries=queries,
                num_heads=32,
                pixel_feed_forward_width=4096,
                feed_forward_width=4096,
            )
    config = ViTSegmenterConfig(
        family="beit",
        vit=presets.beit(size, "segmentation", image_size=crop),
        adapter=presets.beit_adapter(size, "segmentation"),
        segmenter=segmenter,
        num_classes=_CLASSES[data],
    )
    return _file(
        path,
        config,
        data,
        crop,
        scores,
        parameters=parameters,
        began_with=trained_from,
        trained_from=trained_from,
    )


_COCO = "mask2former_beit_adapter_large_896_80k_cocostuff164k"
_COCO_V2 = "mask2former_beitv2_adapter_large_896_80k_cocostuff164k"
_MAPILLARY = "mask2former_beit_adapter_large_896_80k_mapillary"

VIT_ADAPTER_FILES: tuple[OfficialFile, ...] = (
    _vit("v0.3.1/upernet_deit_adapter_tiny_512_160_ade20k.pth.tar", "tiny", (42.6, 43.6), 36),
    _vit("v0.3.1/upernet_deit_adapter_small_512_160k_ade20k.pth", "small", (46.2, 47.1), 58),
    _vit("v0.3.1/upernet_deit_adapter_base_512_160k_ade20k.pth.tar", "base", (48.8, 49.7), 134),
    _vit("v0.3.1/upernet_augreg_adapter_tiny_512_160_ade20k.pth.tar", "tiny", (43.9, 44.8), 36),
    _vit("v0.3.1/upernet_augreg_adapter_base_512_160k_ade20k.pth.tar", "base", (51.9, 52.5), 134),
    _vit("v0.3.1/upernet_augreg_adapter_large_512_160k_ade20k.pth.tar", "large", (53.4, 54.4), 364),
    _vit("v0.3.1/upernet_uniperceiver_adapter_large_512_160k_ade20k.pth", "large", (55.0, 55.4), 364),
    _beit("v0.2.1/upernet_beit_adapter_large_640_160k_ade20k.pth.tar", "ADE20K", 640, (58.0, 58.4), 451),
    _beit("v0.2.2/mask2former_beit_adapter_large_640_160k_ade20k.zip", "ADE20K", 640, (58.3, 59.0), 568),
    _beit(f"v0.2.6/{_COCO}.zip", "COCO-Stuff 164k", 896, (51.7, 52.0), 571, queries=200),
    _beit(
        "v0.2.0/mask2former_beit_adapter_large_896_80k_ade20k.zip",
        "ADE20K",
        896,
        (59.4, 60.5),
        571,
        trained_from=_COCO,
        queries=200,
    ),
    _beit(
        f"v0.3.1/{_COCO_V2}.zip",
        "COCO-Stuff 164k",
        896,
        (52.3,),
        571,
        trained_from=_BEIT_V2,
        queries=200,
    ),
    _beit(
        "v0.3.1/mask2former_beitv2_adapter_large_896_80k_ade20k.zip",
        "ADE20K",
        896,
        (61.2, 61.5),
        571,
        trained_from=_COCO_V2,
        queries=200,
    ),
    # The table's only scores beside it are those of Cityscapes after it.
    _beit(f"v0.2.3/{_MAPILLARY}.zip", "Mapillary", 896, (), 571),
    _beit(
        "v0.2.3/mask2former_beit_adapter_large_896_80k_cityscapes.zip",
        "Cityscapes",
        896,
        (84.9, 85.8),
        571,
        trained_from=_MAPILLARY,
    ),
    _beit(
        "v0.2.9/mask2former_beit_adapter_base_512_40k_cocostuff10k.pth.tar",
        "COCO-Stuff 10k",
        512,
        (50.0, 50.5),
        120,
        trained_from=_BEIT_BASE,
    ),
    _beit(
        "v0.2.4/upernet_beit_adapter_large_512_80k_cocostuff10k.pth.tar",
        "COCO-Stuff 10k",
        512,
        (51.0, 51.4),
        451,
    ),
    _beit(
        "v0.2.5/mask2former_beit_adapter_large_512_40k_cocostuff10k.zip",
        "COCO-Stuff 10k",
        512,
        (53.2, 54.2),
        568,
    ),
    _beit(
        "v0.2.6/upernet_beit_adapter_large_640_80k_cocostuff164k.pth.tar",
        "COCO-Stuff 164k",
        640,
        (50.5, 50.7),
        451,
    ),
    _beit(
        "v0.2.8/mask2former_beit_adapter_base_480_40k_pascal_context_59.pth.tar",
        "Pascal Context 59",
        480,
        (64.0, 64.4),
        120,
        trained_from=_BEIT_BASE,
    ),
    _beit(
        "v0.2.7/upernet_beit_adapter_large_480_80k_pascal_context_59.pth.tar",
        "Pascal Context 59",
        480,
        (67.0, 67.5),
        451,
    ),
    _beit(
        "v0.2.7/mask2former_beit_adapter_large_480_40k_pascal_context_59.zip",
        "Pascal Context 59",
        480,
        (67.8, 68.2),
        568,
    ),
)
