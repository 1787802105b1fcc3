"""The settings of an official detector, read from the names and shapes of its weights (our names)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from imglish.errors import CheckpointError
from imglish.hub.manifest import find
from imglish.hub.segmenter_sizes import adapter_settings, mask2former_config, vit_settings_of
from imglish.hub.sizes import Hints, State, count_blocks, published_heads, tensor_of
from imglish.models.detectors.config import (
    BoxHeadConfig,
    MaskHeadConfig,
    NeckConfig,
    NeckNorm,
    SemanticHeadConfig,
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
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter.backbone import quarter_windows
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.official import Family
from imglish.models.weight_map import StateDict

PANOPTIC_HEAD = "panoptic_head."

_VIT = "backbone.backbone."
_BEIT_SIDE = 224  # of the pictures that the official configs name, of which no table of a BEiT speaks
_ATTENTION_WIDTH = 32  # features of a head of HTC++'s attention over the coarsest level
_LINEAR_NORM_RELU = 3  # numbers that a layer of Sparse R-CNN's heads takes up


def detection_family(names: Collection[str]) -> Family:
    """Whose backbone an official detector has."""
    if "backbone.visual_embed.embeddings_norm.weight" in names:
        return "uniperceiver"
    return "beit" if "backbone.blocks.0.attn.q_bias" in names else "vit"


def official_detector(names: Collection[str], where: str) -> DetectorConfig | Mask2FormerConfig:
    """Which neck and heads an official detector has, as far as their names tell; sizes are those of defaults.

    Raises:
        CheckpointError: It has none of a detector.
    """
    has = set(names)
    if any(name.startswith(PANOPTIC_HEAD) for name in has):
        return Mask2FormerConfig()
    if "rpn_head.init_proposal_boxes.weight" in has or "rpn_head.init_proposal_bboxes.weight" in has:
        return SparseRcnnConfig()
    if "bbox_head.atss_cls.weight" in has:
        return OneStageConfig(kind="atss")
    if "bbox_head.gfl_cls.weight" in has:
        return OneStageConfig(kind="gfl")
    if "rpn_head.rpn_cls.weight" not in has:
        others = sorted({name.partition(".")[0] for name in has} - {"backbone"})
        raise CheckpointError(
            f"{where}: a ViT-Adapter with {', '.join(others[:3]) or 'no head'}; expected the heads of Mask "
            "R-CNN, Cascade Mask R-CNN, HTC++, ATSS, GFL, Sparse R-CNN or Mask2Former"
        )
    several = "roi_head.bbox_head.1.fc_cls.weight" in has
    base = cascade_mask_rcnn() if several else mask_rcnn()
    attention = "neck.0.norm1.weight" in has
    prefix = "neck.1." if attention else "neck."
    norm: NeckNorm = "none"
    if f"{prefix}lateral_convs.0.bn.weight" in has:
        norm = "batch"
    elif f"{prefix}lateral_convs.0.gn.weight" in has:
        norm = "group"
    mapper = f"{prefix}convs.0.conv.weight" in has
    neck = NeckConfig(kind="mapper" if mapper else "fpn", norm=norm, attention_heads=int(attention))
    return replace(
        base,
        neck=neck,
        rpn=replace(base.rpn, num_convs=2 if "rpn_head.rpn_conv.0.conv.weight" in has else 1),
    )


def detector_config(state: State, hints: Hints, where: str) -> ViTDetectorConfig:
    """Settings of a detector of the official detection tree.

    What shapes cannot tell is as in the official configs of its kind: windows of all blocks but the last of
    each quarter, the ViT's last map added to all levels, proposals and suppression. Where ``hints`` name an
    official detector, it is as in that.

    Args:
        state: The weights of a `vit_detector` under our names.
        hints: What is known besides.
        where: The file, for messages.

    Raises:
        CheckpointError: A tensor that tells a size is missing, or a size stays open.
        ValueError: The sizes contradict each other.
    """
    family, vit, adapter = _backbone(state, hints, where)
    detector, num_classes = _heads(state, where)
    config = ViTDetectorConfig(
        family=family, vit=vit, adapter=adapter, detector=detector, num_classes=num_classes
    )
    known = find(hints.official) if hints.official is not None else None
    return config if known is None else _as_in(config, known.config)


def panoptic_config(state: State, hints: Hints, where: str) -> ViTSegmenterConfig:
    """Settings of the panoptic Mask2Former of the detection tree; arguments and errors as above."""
    family, vit, adapter = _backbone(state, hints, where)
    classes = len(tensor_of(state, "head.classifier.bias", where, num_dims=1)) - 1
    return ViTSegmenterConfig(
        family=family,
        vit=vit,
        adapter=adapter,
        segmenter=mask2former_config(state, where),
        num_classes=classes,
    )


def _as_in(config: ViTDetectorConfig, known: object) -> ViTDetectorConfig:
    """The same with what no shape tells from the settings of an official detector."""
    if not isinstance(known, ViTDetectorConfig):
        return config
    if config.adapter is not None and known.adapter is not None:
        adapter = replace(config.adapter, vit_features=known.adapter.vit_features)
        config = replace(config, adapter=adapter)
    own, theirs = config.detector, known.detector
    if isinstance(own, TwoStageConfig) and isinstance(theirs, TwoStageConfig):
        neck = replace(own.neck, attention_drop_path=theirs.neck.attention_drop_path)
        rpn = replace(own.rpn, nms=theirs.rpn.nms)
        config = replace(config, detector=replace(own, neck=neck, rpn=rpn, selection=theirs.selection))
    return config


def _backbone(state: State, hints: Hints, where: str) -> tuple[Family, ViTConfig, ViTAdapterConfig | None]:
    """The ViT and its adapter as in the official detection configs."""
    family: Family = "vit"
    if f"{_VIT}embedding_norm.weight" in state:
        family = "uniperceiver"
    elif f"{_VIT}blocks.0.attention.query_bias" in state:
        family = "beit"
    if family == "beit":
        vit = _beit_config(state, hints, where)
    else:
        vit = vit_settings_of(state, family, hints, None, where)
        vit = replace(vit, windows=quarter_windows(vit.depth))
    adapter = None
    if "backbone.level_embedding" in state:
        adapter = adapter_settings(state, family, where)
        adapter = replace(adapter, vit_features="last")
    return family, vit, adapter


def _beit_config(state: State, hints: Hints, where: str) -> ViTConfig:
    """Settings of a BEiT whose blocks all have windows, each with the table of its own."""
    kernel = tensor_of(state, f"{_VIT}patches.proj.weight", where, num_dims=4)
    depth = count_blocks(state, f"{_VIT}blocks.")
    names = [f"{_VIT}blocks.{block}.attention.relative_positions.table" for block in range(depth)]
    tables = [tensor_of(state, name, where, num_dims=2) for name in names]
    hidden = len(tensor_of(state, f"{_VIT}blocks.0.feed_forward.fc1.weight", where, num_dims=2))
    width = kernel.shape[0]
    return ViTConfig(
        image_size=hints.image_size or (_BEIT_SIDE, _BEIT_SIDE),
        patch_size=kernel.shape[3],
        in_channels=kernel.shape[1],
        width=width,
        depth=depth,
        num_heads=hints.num_heads or (tables[0].shape[1] if tables else published_heads(width, where)),
        mlp_ratio=hidden / width,
        absolute_positions=False,
        relative_positions="per_block",
        resample_relative=True,
        layer_scale=1e-6,
        class_token=False,
        output_norm=False,
        windows=tuple((math.isqrt(len(table)) + 1) // 2 for table in tables),
    )


def _heads(state: State, where: str) -> tuple[DetectorConfig, int]:
    """Settings of neck and heads, and the number of classes."""
    if "proposals.boxes" in state:
        return _sparse_rcnn(state, where), len(tensor_of(state, "stages.0.classes.bias", where, num_dims=1))
    if any(name.startswith("head.towers.") for name in state):
        return _one_stage(state, where), len(tensor_of(state, "head.classifier.bias", where, num_dims=1))
    classes = len(tensor_of(state, "heads.box_heads.0.classes.bias", where, num_dims=1)) - 1
    return _two_stage(state, where), classes


def _one_stage(state: State, where: str) -> OneStageConfig:
    distances = state.get("head.distances")
    config = OneStageConfig(
        kind="atss" if distances is None else "gfl",
        width=len(tensor_of(state, "neck.laterals.0.weight", where, num_dims=4)),
        num_convs=count_blocks(state, "head.towers.classes."),
    )
    return config if distances is None else replace(config, max_distance=len(distances) - 1)


def _sparse_rcnn(state: State, where: str) -> SparseRcnnConfig:
    features = tensor_of(state, "proposals.features", where, num_dims=2)
    stage = "stages.0."
    cells = tensor_of(state, f"{stage}interaction.output.weight", where, num_dims=2).shape[1]
    return SparseRcnnConfig(
        width=features.shape[1],
        num_proposals=len(features),
        num_stages=count_blocks(state, "stages."),
        dynamic_width=len(tensor_of(state, f"{stage}interaction.hidden_norm.weight", where, num_dims=1)),
        feed_forward_width=len(tensor_of(state, f"{stage}feed_forward.0.weight", where, num_dims=2)),
        num_class_layers=_layers(state, f"{stage}class_layers."),
        num_box_layers=_layers(state, f"{stage}box_layers."),
        grid=math.isqrt(cells // features.shape[1]),
    )


def _layers(state: State, prefix: str) -> int:
    return (count_blocks(state, prefix) + 1) // _LINEAR_NORM_RELU


def _two_stage(state: State, where: str) -> TwoStageConfig:
    box = "heads.box_heads.0."
    neck = _neck(state, where)
    interleaved = "heads.mask_heads.1.last.conv.weight" in state
    several = count_blocks(state, "heads.box_heads.") > 1
    num_rpn_convs = count_blocks(state, "rpn.convs.")
    agnostic = len(tensor_of(state, f"{box}deltas.bias", where, num_dims=1)) == 4
    if several and (interleaved or agnostic):
        base = htc() if neck.norm == "none" else htc_objects365()
    elif several:
        base = cascade_mask_rcnn()
    else:
        base = mask_rcnn_upgraded() if num_rpn_convs > 1 else mask_rcnn()
    neck = replace(neck, attention_drop_path=base.neck.attention_drop_path if neck.attention_heads else 0.0)
    return replace(
        base,
        neck=neck,
        rpn=replace(base.rpn, num_convs=num_rpn_convs),
        box_head=_box_head(state, neck.width, agnostic, where),
        mask_head=_mask_head(state, where),
        interleaved=interleaved,
        semantic_head=_semantic_head(state, where),
    )


def _neck(state: State, where: str) -> NeckConfig:
    attention = state.get("neck.attention.norm1.weight")
    heads = 0 if attention is None else max(1, len(attention) // _ATTENTION_WIDTH)
    if "neck.levels.convs.0.weight" in state:
        width = len(tensor_of(state, "neck.levels.convs.0.weight", where, num_dims=4))
        return NeckConfig(kind="mapper", width=width, attention_heads=heads)
    first = "neck.levels.laterals.0."
    norm: NeckNorm = "none"
    if f"{first}norm.weight" in state:
        norm = "batch" if f"{first}norm.running_mean" in state else "group"
    name = f"{first}weight" if norm == "none" else f"{first}conv.weight"
    return NeckConfig(width=len(tensor_of(state, name, where, num_dims=4)), norm=norm, attention_heads=heads)


def _box_head(state: State, neck_width: int, agnostic: bool, where: str) -> BoxHeadConfig:
    box = "heads.box_heads.0."
    linear = tensor_of(state, f"{box}linears.0.weight", where, num_dims=2)
    num_convs = count_blocks(state, f"{box}convs.")
    head = BoxHeadConfig(
        num_convs=num_convs,
        num_linears=count_blocks(state, f"{box}linears."),
        width=linear.shape[0],
        norm="batch" if f"{box}convs.0.norm.weight" in state else "none",
        class_agnostic=agnostic,
    )
    conv_width = neck_width
    if num_convs:
        conv_width = len(tensor_of(state, f"{box}convs.0.conv.weight", where, num_dims=4))
        head = replace(head, conv_width=conv_width)
    return replace(head, grid=math.isqrt(linear.shape[1] // conv_width))


def _mask_head(state: State, where: str) -> MaskHeadConfig | None:
    mask = "heads.mask_heads.0."
    if not any(name.startswith(mask) for name in state):
        return None
    return MaskHeadConfig(
        num_convs=count_blocks(state, f"{mask}convs."),
        width=len(tensor_of(state, f"{mask}convs.0.conv.weight", where, num_dims=4)),
        norm="batch" if f"{mask}convs.0.norm.weight" in state else "none",
    )


def _semantic_head(state: State, where: str) -> SemanticHeadConfig | None:
    semantic = "heads.semantic_head."
    if not any(name.startswith(semantic) for name in state):
        return None
    logits = tensor_of(state, f"{semantic}logits.weight", where, num_dims=4)
    return SemanticHeadConfig(
        num_classes=logits.shape[0],
        num_convs=count_blocks(state, f"{semantic}convs."),
        width=logits.shape[1],
    )


def without_beside_averages(state: StateDict) -> tuple[StateDict, tuple[str, ...]]:
    """A state without what mmdetection keeps beside averaged weights, and the names of that.

    Those are the weights as trained, under ``ema_`` and their names with underscores for dots.
    """
    beside = tuple(name for name in state if name.startswith("ema_") and "." not in name)
    return {name: w for name, w in state.items() if name not in beside}, beside
