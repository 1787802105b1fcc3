"""The settings of an official segmenter, read from the names and shapes of its weights (our names)."""

from __future__ import annotations

from collections.abc import Collection

from imglish.errors import CheckpointError
from imglish.hub.sizes import (
    Hints,
    State,
    count_blocks,
    image_size_of_offsets,
    image_size_of_patches,
    published_heads,
    tensor_of,
)
from imglish.models.segmenters.config import (
    Mask2FormerConfig,
    SegmenterConfig,
    SemanticFpnConfig,
    SetrPupConfig,
    UPerNetConfig,
)
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.official import Family
from imglish.models.vit_adapter.presets import UNIPERCEIVER_EPS

_POINTS = 4  # of deformable attention in all official adapters and pixel decoders
_OFFSETS = 2 * _POINTS * 3  # numbers of a head of the pixel decoder, which has three levels
_VIT = "backbone.backbone."
_BEIT_SCALE = 1e-6  # what BEiT's factors start with in the official configs

# A name that only one kind of official head has.
_OFFICIAL_HEADS: tuple[tuple[str, SegmenterConfig], ...] = (
    ("decode_head.pixel_decoder.", Mask2FormerConfig()),
    ("decode_head.psp_modules.", UPerNetConfig()),
    ("decode_head.scale_heads.", SemanticFpnConfig()),
    ("decode_head.up_convs.", SetrPupConfig()),
)
_OUR_HEADS: tuple[tuple[str, str], ...] = (
    ("neck.mask_features.", "mask2former"),
    ("head.pooling.", "upernet"),
    ("head.scales.", "semantic_fpn"),
    ("head.doublings.", "setr_pup"),
)


def official_family(names: Collection[str]) -> Family:
    """Whose backbone an official segmenter has."""
    if "backbone.visual_embed.embeddings_norm.weight" in names:
        return "uniperceiver"
    return "beit" if "backbone.cls_token" in names else "vit"


def official_head(names: Collection[str], where: str) -> SegmenterConfig:
    """Which neck and head an official segmenter has; sizes are those of the defaults.

    Raises:
        CheckpointError: It has none of a segmenter.
    """
    for beginning, config in _OFFICIAL_HEADS:
        if any(name.startswith(beginning) for name in names):
            return config
    others = sorted({name.partition(".")[0] for name in names} - {"backbone"})
    raise CheckpointError(
        f"{where}: a ViT-Adapter with {', '.join(others[:3]) or 'no head'}; expected the decode_head of "
        "Semantic FPN, UPerNet, SETR-PUP or Mask2Former"
    )


def segmenter_config(
    state: State, hints: Hints, asked: tuple[int, int] | None, where: str
) -> ViTSegmenterConfig:
    """Settings of a segmenter of the official segmentation tree.

    What shapes cannot tell is as in the official configs: four points of deformable attention, the ViT's map
    after each of four interactions added to its level, none with another number of interactions.

    Args:
        state: The weights of a `vit_segmenter` under our names.
        hints: What is known besides.
        asked: (height, width) that the model shall take; decides where the grid is not square.
        where: The file, for messages.

    Raises:
        CheckpointError: A tensor that tells a size is missing, or a size stays open.
        ValueError: The sizes contradict each other.
    """
    family: Family = "vit"
    if f"{_VIT}embedding_norm.weight" in state:
        family = "uniperceiver"
    elif f"{_VIT}class_token" in state:
        family = "beit"
    head = _head_config(state, where)
    classes = len(tensor_of(state, "head.classifier.bias", where, num_dims=1))
    return ViTSegmenterConfig(
        family=family,
        vit=vit_settings_of(state, family, hints, asked, where),
        adapter=adapter_settings(state, family, where) if "backbone.level_embedding" in state else None,
        segmenter=head,
        num_classes=classes - isinstance(head, Mask2FormerConfig),
    )


def vit_settings_of(
    state: State, family: Family, hints: Hints, asked: tuple[int, int] | None, where: str
) -> ViTConfig:
    """Settings of the ViT as in the official segmentation configs."""
    kernel = tensor_of(state, f"{_VIT}patches.proj.weight", where, num_dims=4)
    width, channels, patch_size = kernel.shape[0], kernel.shape[1], kernel.shape[3]
    table = state.get(f"{_VIT}blocks.0.attention.relative_positions.table")
    positions = state.get(f"{_VIT}positions")
    if positions is not None:
        num_class = 0 if family == "uniperceiver" else 1
        image_size = image_size_of_patches(positions.shape[1] - num_class, patch_size, hints, asked, where)
    elif table is not None:
        image_size = image_size_of_offsets(len(table), patch_size, hints, asked, where)
    else:
        raise CheckpointError(f"{where}: no position table; expected positions or relative positions")
    times = state.get(f"{_VIT}time_positions")
    scaled = f"{_VIT}blocks.0.scale1" in state
    hidden = len(tensor_of(state, f"{_VIT}blocks.0.feed_forward.fc1.weight", where, num_dims=2))
    beit = family == "beit"
    return ViTConfig(
        image_size=image_size,
        patch_size=patch_size,
        in_channels=channels,
        width=width,
        depth=count_blocks(state, f"{_VIT}blocks."),
        num_heads=hints.num_heads or (table.shape[1] if table is not None else published_heads(width, where)),
        mlp_ratio=hidden / width,
        absolute_positions=positions is not None,
        relative_positions="none" if table is None else "per_block",
        resample_relative=beit,
        layer_scale=(_BEIT_SCALE if beit else 1.0) if scaled and family != "uniperceiver" else 0.0,
        layer_scale_from_zero=scaled and family == "uniperceiver",
        class_token=beit,
        class_position=family != "uniperceiver",
        attention_bias="query_value" if beit else "all",
        norm_eps=UNIPERCEIVER_EPS if family == "uniperceiver" else 1e-6,
        output_norm=False,
        rescale_outputs=beit,
        window_padding="projected" if family == "vit" else "input",
        position_resampling="scale" if beit else "size",
        embedding_norm=family == "uniperceiver",
        time_positions=0 if times is None else len(times),
    )


def adapter_settings(state: State, family: Family, where: str) -> ViTAdapterConfig:
    """Settings of the adapter as in the official segmentation configs."""
    number = count_blocks(state, "backbone.interactions.")
    extractor = "backbone.interactions.0.extractor."
    weights = tensor_of(state, f"{extractor}attention.attention_weights.bias", where, num_dims=1)
    values = tensor_of(state, f"{extractor}attention.value_proj.weight", where, num_dims=2)
    inner = state.get(f"{extractor}feed_forward.fc1.weight")
    last = f"backbone.interactions.{number - 1}.extra_extractors."
    return ViTAdapterConfig(
        num_interactions=number,
        vit_features="per_interaction" if number == 4 else "none",
        stem_width=len(tensor_of(state, "backbone.spatial_prior.stem.0.weight", where, num_dims=4)),
        num_heads=len(weights) // _POINTS,
        num_points=_POINTS,
        value_ratio=values.shape[0] / values.shape[1],
        feed_forward_ratio=0.0 if inner is None else inner.shape[0] / inner.shape[1],
        num_extra_extractors=count_blocks(state, last),
        injector_scale=_BEIT_SCALE if family == "beit" else 0.0,
        norm_eps=UNIPERCEIVER_EPS if family == "uniperceiver" else 1e-6,
    )


def _head_config(state: State, where: str) -> SegmenterConfig:
    """Settings of neck and head."""
    kinds = [kind for beginning, kind in _OUR_HEADS if any(name.startswith(beginning) for name in state)]
    if len(kinds) != 1:
        raise CheckpointError(f"{where}: heads of {' and '.join(kinds) or 'no segmenter'}; expected one")
    auxiliary = state.get("auxiliary.classifier.weight")
    auxiliary_width = 0 if auxiliary is None else auxiliary.shape[1]
    if kinds[0] == "mask2former":
        return mask2former_config(state, where)
    head_width = tensor_of(state, "head.classifier.weight", where, num_dims=4).shape[1]
    match kinds[0]:
        case "upernet":
            return UPerNetConfig(head_width=head_width, auxiliary_width=auxiliary_width)
        case "semantic_fpn":
            neck_width = len(tensor_of(state, "neck.laterals.0.weight", where, num_dims=4))
            return SemanticFpnConfig(neck_width=neck_width, head_width=head_width)
        case _:
            return SetrPupConfig(
                head_width=head_width,
                auxiliary_width=auxiliary_width,
                num_doublings=count_blocks(state, "head.doublings."),
            )


def mask2former_config(state: State, where: str) -> Mask2FormerConfig:
    """Settings of both decoders; heads of both are the same number in the official configs."""

    def length(name: str) -> int:
        return len(tensor_of(state, name, where, num_dims=2))

    return Mask2FormerConfig(
        width=tensor_of(state, "neck.mask_features.weight", where, num_dims=4).shape[1],
        num_queries=length("head.query_features"),
        num_pixel_layers=count_blocks(state, "neck.layers."),
        num_layers=count_blocks(state, "head.layers."),
        num_heads=length("neck.layers.0.attention.sampling_offsets.weight") // _OFFSETS,
        pixel_feed_forward_width=length("neck.layers.0.feed_forward.0.weight"),
        feed_forward_width=length("head.layers.0.feed_forward.0.weight"),
    )
