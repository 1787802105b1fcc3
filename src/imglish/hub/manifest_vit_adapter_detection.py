"""The released detectors of ViT-Adapter.

After the tables of czczup/ViT-Adapter, ``detection/README.md`` and the READMEs of its ``configs`` (as of
2025-12), and the settings of those configs (parity FACTS of the adapter, section 10). The scores are AP of
boxes and masks on COCO's validation set, of one scale. The documents give no licence, size or digest of a
file, so there is none here. Of three models they count other parameters than the models have (the plain
ViT-S, and the upgraded Mask R-CNN), so those are left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from imglish.hub.official_file import OfficialFile, PictureRange, Score
from imglish.models.detectors.config import (
    NeckConfig,
    TwoStageConfig,
    cascade_mask_rcnn,
    htc,
    htc_objects365,
    mask_rcnn,
    mask_rcnn_upgraded,
)
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.detectors.vit_detector import DetectorConfig, ViTDetectorConfig
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig
from imglish.models.vit.weights import INDEX
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.presets import Size

_ADDRESS = "https://github.com/czczup/ViT-Adapter/releases/download/"
_HUB = "https://huggingface.co/czczup/ViT-Adapter/resolve/main/"
_BOX, _MASK = "COCO box AP", "COCO mask AP"
_NUM_CLASSES, _NUM_SEGMENTS = 80, 133
_HTC_SCALE, _AFTER_OBJECTS365_SCALE = (1600, 1400), (2000, 1000)
_OBJECTS365 = "htc++_beitv2_adapter_large_fpn_o365"
_AUGREG_SIDE, _DINOV2_SIDE = 384, 592  # of the pictures that their tables of positions are made for
_BEIT = "beit_large_patch16_224_pt22k_ft22k"
_BEIT_V2 = "beitv2_large_patch16_224_pt1k_ft21k"

_Backbone = Literal["deit", "augreg", "dinov2", "mae", "uniperceiver", "beit", "beitv2"]
_WORDS: dict[_Backbone, str] = {
    "deit": "DeiT", "augreg": "AugReg", "dinov2": "DINOv2", "mae": "MAE", "uniperceiver": "Uni-Perceiver",
    "beit": "BEiT", "beitv2": "BEiT v2",
}  # fmt: skip


def _name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".tar").removesuffix(".pth")


def _config(
    backbone: _Backbone,
    size: Size,
    detector: DetectorConfig,
    *,
    plain: bool = False,
    layer_scale: bool = True,
) -> ViTDetectorConfig:
    """Settings of a detector as in the configs."""
    adapter: ViTAdapterConfig | None
    if backbone in ("beit", "beitv2"):
        return ViTDetectorConfig(
            family="beit",
            vit=presets.beit(size, "detection"),
            adapter=presets.beit_adapter(size, "detection"),
            detector=detector,
            num_classes=_NUM_CLASSES,
        )
    windows = presets.window_schedule(size)
    if backbone == "uniperceiver":
        vit = presets.uniperceiver(size, windows=windows)
        adapter = presets.uniperceiver_adapter(size, "detection")
    else:
        side = {"augreg": _AUGREG_SIDE, "dinov2": _DINOV2_SIDE}.get(backbone, 224)
        mae = backbone == "mae"
        vit = presets.vit(size, pretrained_size=side, windows=windows, layer_scale=layer_scale and not mae)
        adapter = presets.vit_adapter(size, "detection")
        adapter = presets.without_extra_extractors(adapter) if mae else adapter
    return ViTDetectorConfig(
        family="uniperceiver" if backbone == "uniperceiver" else "vit",
        vit=vit,
        adapter=None if plain else adapter,
        detector=detector,
        num_classes=_NUM_CLASSES,
    )


def _file(
    path: str,
    words: str,
    backbone: _Backbone,
    size: Size,
    detector: DetectorConfig,
    scores: tuple[float, ...],
    parameters: float | None,
    *,
    plain: bool = False,
    layer_scale: bool = True,
    pictures: PictureRange = "imagenet",
    scale: tuple[int, int] = (1333, 800),
) -> OfficialFile:
    """An entry; ``scores`` are AP of boxes, and of masks where the detector draws them."""
    on = "plain" if plain else "with ViT-Adapter,"
    return OfficialFile(
        name=_name(path),
        url=path if path.startswith(_HUB) else f"{_ADDRESS}{path}",
        kind="detection",
        description=f"{words} {on} from {_WORDS[backbone]}-{size.title()}; COCO",
        config=_config(backbone, size, detector, plain=plain, layer_scale=layer_scale),
        num_labels=_NUM_CLASSES,
        pictures=pictures,
        scored_scale=scale,
        parameters=parameters,
        trained_from={"beit": _BEIT, "beitv2": _BEIT_V2}.get(backbone),
        scores=tuple(Score(column, value) for column, value in zip((_BOX, _MASK), scores, strict=False)),
        dropped=(INDEX,),
    )


def _mask_rcnn(
    path: str,
    backbone: _Backbone,
    size: Size,
    scores: tuple[float, float],
    parameters: float | None,
    *,
    plain: bool = False,
    layer_scale: bool = True,
    pictures: PictureRange = "imagenet",
) -> OfficialFile:
    """Mask R-CNN as it is in most configs."""
    return _file(
        path,
        "Mask R-CNN",
        backbone,
        size,
        mask_rcnn(),
        scores,
        parameters,
        plain=plain,
        layer_scale=layer_scale,
        pictures=pictures,
    )


def _htc(
    path: str,
    backbone: _Backbone,
    scores: tuple[float, float],
    detector: TwoStageConfig,
    *,
    scale: tuple[int, int] = _HTC_SCALE,
) -> OfficialFile:
    return _file(path, "HTC++", backbone, "large", detector, scores, 401, scale=scale)


def _old(file: OfficialFile) -> OfficialFile:
    """The older adapter, which adds the ViT's map after each interaction to a level of its own."""
    config = file.config
    assert isinstance(config, ViTDetectorConfig)
    adapter = presets.beit_adapter("large", "segmentation")
    return replace(file, config=replace(config, adapter=adapter))


def _with_drop_path(detector: TwoStageConfig, rate: float) -> TwoStageConfig:
    return replace(detector, neck=replace(detector.neck, attention_drop_path=rate))


def _panoptic(path: str) -> OfficialFile:
    return OfficialFile(
        name=_name(path),
        url=f"{_ADDRESS}{path}",
        kind="panoptic",
        description="Mask2Former with ViT-Adapter, from BEiT v2-Large; COCO panoptic",
        config=ViTSegmenterConfig(
            family="beit",
            vit=presets.beit("large", "detection"),
            adapter=presets.beit_adapter("large", "detection"),
            segmenter=Mask2FormerConfig(),
            num_classes=_NUM_SEGMENTS,
        ),
        num_labels=_NUM_SEGMENTS,
        pictures="imagenet",
        scored_scale=(1333, 800),
        trained_from=_BEIT_V2,
        scores=(
            Score("COCO PQ", 58.4),
            Score("COCO PQ, things", 65.0),
            Score("COCO PQ, stuff", 48.4),
            Score(_BOX, 52.9),
            Score(_MASK, 48.9),
        ),
        dropped=(INDEX,),
    )


_NO_PYRAMID = replace(mask_rcnn(), neck=NeckConfig(kind="mapper"))

DETECTION_FILES: tuple[OfficialFile, ...] = (
    _mask_rcnn(
        f"{_HUB}mask_rcnn_deit_adapter_tiny_fpn_1x_coco.pth",
        "deit",
        "tiny",
        (41.1, 37.5),
        28,
        layer_scale=False,
    ),
    _mask_rcnn(
        "v0.3.1/mask_rcnn_deit_tiny_fpn_3x_coco.pth.tar", "deit", "tiny", (40.2, 37.0), 26, plain=True
    ),
    _mask_rcnn("v0.1.2/mask_rcnn_deit_adapter_tiny_fpn_3x_coco.pth.tar", "deit", "tiny", (46.0, 41.0), 28),
    _mask_rcnn(
        "v0.3.1/mask_rcnn_deit_small_fpn_3x_coco.pth.tar", "deit", "small", (44.0, 39.9), None, plain=True
    ),
    _mask_rcnn("v0.1.2/mask_rcnn_deit_adapter_small_fpn_3x_coco.pth.tar", "deit", "small", (48.2, 42.8), 48),
    _mask_rcnn(
        "v0.3.1/mask_rcnn_deit_base_fpn_3x_coco.pth.tar", "deit", "base", (45.8, 41.3), 114, plain=True
    ),
    _mask_rcnn("v0.1.6/mask_rcnn_deit_adapter_base_fpn_3x_coco.pth.tar", "deit", "base", (49.6, 43.6), 120),
    _mask_rcnn(
        "v0.3.1/mask_rcnn_uniperceiver_adapter_base_fpn_3x_coco.pth",
        "uniperceiver",
        "base",
        (51.2, 45.3),
        120,
    ),
    _mask_rcnn(
        "v0.3.1/mask_rcnn_augreg_large_fpn_3x_coco.pth.tar",
        "augreg",
        "large",
        (48.3, 43.3),
        337,
        plain=True,
        pictures="model",
    ),
    _mask_rcnn(
        "v0.3.1/mask_rcnn_augreg_adapter_large_fpn_3x_coco.pth",
        "augreg",
        "large",
        (52.1, 46.0),
        348,
        pictures="model",
    ),
    _mask_rcnn(f"{_HUB}mask_rcnn_dinov2_adapter_small_fpn_3x_coco.pth", "dinov2", "small", (51.5, 45.6), 48),
    # The document tells the 120M of DeiT-B's; with DINOv2's table of positions they are 121.
    _mask_rcnn(f"{_HUB}mask_rcnn_dinov2_adapter_base_fpn_3x_coco.pth", "dinov2", "base", (54.1, 47.8), None),
    _mask_rcnn(
        f"{_HUB}mask_rcnn_dinov2_adapter_large_fpn_3x_coco.pth",
        "dinov2",
        "large",
        (55.3, 49.0),
        348,
        pictures="model",
    ),
    _file(
        "v0.1.6/mask_rcnn_deit_adapter_small_3x_coco.pth.tar",
        "Mask R-CNN without a pyramid",
        "deit",
        "small",
        _NO_PYRAMID,
        (48.2, 42.7),
        45,
    ),
    _file(
        "v0.1.4/mask_rcnn_mae_adapter_base_lsj_fpn_25ep_coco.pth.tar",
        "Upgraded Mask R-CNN",
        "mae",
        "base",
        mask_rcnn_upgraded(),
        (50.3, 44.7),
        None,
    ),
    _file(
        "v0.1.4/mask_rcnn_mae_adapter_base_lsj_fpn_50ep_coco.pth.tar",
        "Upgraded Mask R-CNN",
        "mae",
        "base",
        mask_rcnn_upgraded(),
        (50.8, 45.1),
        None,
    ),
    _file(
        "v0.1.3/cascade_mask_rcnn_deit_adapter_small_fpn_3x_coco.pth.tar",
        "Cascade Mask R-CNN",
        "deit",
        "small",
        cascade_mask_rcnn(),
        (51.5, 44.3),
        86,
    ),
    _file(
        "v0.3.1/cascade_mask_rcnn_deit_adapter_base_fpn_3x_coco.pth",
        "Cascade Mask R-CNN",
        "deit",
        "base",
        cascade_mask_rcnn(),
        (52.1, 44.8),
        158,
    ),
    _file(
        "v0.1.5/atss_deit_adapter_small_fpn_3x_coco.pth.tar",
        "ATSS",
        "deit",
        "small",
        OneStageConfig(kind="atss"),
        (49.6,),
        36,
    ),
    _file(
        "v0.1.6/gfl_deit_adapter_small_fpn_3x_coco.pth.tar",
        "GFL",
        "deit",
        "small",
        OneStageConfig(kind="gfl"),
        (50.0,),
        36,
    ),
    _file(
        "v0.1.6/sparse_rcnn_deit_adapter_small_fpn_3x_coco.pth.tar",
        "Sparse R-CNN",
        "deit",
        "small",
        SparseRcnnConfig(),
        (48.1,),
        110,
    ),
    _htc(
        "v0.3.1/htc++_augreg_adapter_large_fpn_3x_coco.pth",
        "augreg",
        (56.6, 49.0),
        _with_drop_path(htc(max_boxes=300), 0.4),
    ),
    _old(_htc("v0.1.0/htc++_beit_adapter_large_fpn_3x_coco_old.pth.tar", "beit", (57.9, 50.2), htc())),
    _htc(
        "0.3.0/htc++_beit_adapter_large_fpn_3x_coco.pth.tar",
        "beit",
        (58.4, 50.8),
        htc(soft_proposals=True),
    ),
    _htc("v0.3.1/htc++_beitv2_adapter_large_fpn_3x_coco.pth", "beitv2", (58.8, 51.1), htc()),
    # Its config was not released; what it holds is seen in its names and shapes.
    OfficialFile(
        name=_OBJECTS365,
        url=f"{_ADDRESS}v0.3.1/{_OBJECTS365}.pth",
        kind="detection",
        description="HTC++ with ViT-Adapter, from BEiT v2-Large; Objects365, to go on with on COCO",
        pictures="imagenet",
        scored_scale=_AFTER_OBJECTS365_SCALE,
        dropped=(INDEX,),
    ),
    replace(
        _htc(
            "v0.3.1/htc++_beitv2_adapter_large_fpn_o365_coco.pth",
            "beitv2",
            (61.8, 53.0),
            htc_objects365(),
            scale=_AFTER_OBJECTS365_SCALE,
        ),
        trained_from=_OBJECTS365,
    ),
    _panoptic("panoptic/mask2former_beitv2_adapter_large_16x1_3x_coco-panoptic.pth"),
)
