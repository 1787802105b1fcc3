"""State dicts of the official backbones to ours and back, strict in both directions.

Three families (parity FACTS of the adapter, sections 1 to 3), each with an adapter or as plain baseline:
``vit`` (official ViTAdapter, ViTBaseline), ``beit`` (BEiTAdapter, BEiTBaseline), ``uniperceiver``
(UniPerceiverAdapter).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from imglish.models.vit.config import ViTConfig
from imglish.models.vit.positions import relative_position_index
from imglish.models.vit.weights import INDEX, block_rules, vit_rules
from imglish.models.vit_adapter.weights import ADAPTER_MAP
from imglish.models.weight_map import Rule, StateDict, WeightMap

Family = Literal["vit", "beit", "uniperceiver"]

_POSITIONS = "backbone.positions"  # (1, N, C) in ours, (N, C) in Uni-Perceiver's


def _vit() -> tuple[Rule, ...]:
    return (
        Rule("pos_embed", _POSITIONS),
        Rule("patch_embed.proj.{part}", "backbone.patches.proj.{part}"),
        *block_rules("blocks.", "backbone.blocks.", scale="gamma"),
    )


def _uniperceiver() -> tuple[Rule, ...]:
    embedding = "visual_embed.patch_embed."
    blocks = (
        ("norm1.{part}", "norm1.{part}"),
        ("self_attn.in_proj.{part}", "attention.qkv.{part}"),
        ("self_attn.out_proj.{part}", "attention.output.{part}"),
        ("norm2.{part}", "norm2.{part}"),
        ("linear1.{part}", "feed_forward.fc1.{part}"),
        ("linear2.{part}", "feed_forward.fc2.{part}"),
        ("gamma_1", "scale1"),
        ("gamma_2", "scale2"),
    )
    return (
        Rule("visual_embed.embeddings_norm.{part}", "backbone.embedding_norm.{part}"),
        Rule(f"{embedding}spatial_pos_embed.weight", _POSITIONS),
        Rule(f"{embedding}temporal_pos_embed.weight", "backbone.time_positions"),
        Rule(f"{embedding}proj.{{part}}", "backbone.patches.proj.{part}"),
        *(Rule(f"layers.{{block}}.{a}", f"backbone.blocks.{{block}}.{b}") for a, b in blocks),
    )


_BACKBONES: Mapping[Family, tuple[Rule, ...]] = {
    "vit": _vit(),
    # Neither adapter nor baseline has the last norm.
    "beit": vit_rules("", "backbone.", norm="norm"),
    "uniperceiver": _uniperceiver(),
}

# What the plain baselines have instead of an adapter's parts; a ViT's and a BEiT's have other names.
_PYRAMIDS: Mapping[Family, tuple[Rule, ...]] = {
    "vit": (
        *(Rule(f"norm{level + 1}.{{part}}", f"pyramid.norms.{level}.{{part}}") for level in range(4)),
        Rule("up1.{index}.{part}", "pyramid.up4.{index}.{part}"),
        Rule("up2.{part}", "pyramid.up8.{part}"),
    ),
    "beit": (
        Rule("fpn1.{index}.{part}", "pyramid.up4.{index}.{part}"),
        Rule("fpn2.0.{part}", "pyramid.up8.{part}"),
    ),
}


def adapter_map(family: Family) -> WeightMap:
    """Names of an official adapter with its backbone: `ViTAdapter` around a `ViT`."""
    return WeightMap((*ADAPTER_MAP.rules, *_BACKBONES[family]), dropped=(INDEX,))


def baseline_map(family: Literal["vit", "beit"]) -> WeightMap:
    """Names of an official plain baseline: `PlainViT` around a `ViT`."""
    return WeightMap((*_PYRAMIDS[family], *_BACKBONES[family]), dropped=(INDEX,))


def to_ours(state: StateDict, weight_map: WeightMap) -> dict[str, Tensor]:
    """Official weights under our names and in our shapes.

    Args:
        state: Of the backbone alone: of a whole official model those that begin with ``backbone.``, without
            it.
        weight_map: `adapter_map` or `baseline_map`.

    Raises:
        CheckpointError: A name has no rule.
    """
    ours = weight_map.to_ours(state)
    if _POSITIONS in ours and ours[_POSITIONS].ndim == 2:
        ours[_POSITIONS] = ours[_POSITIONS][None]
    return ours


def to_official(state: StateDict, weight_map: WeightMap, config: ViTConfig) -> dict[str, Tensor]:
    """Our weights under the official names and in the official shapes.

    Args:
        state: Of a `ViTAdapter` or `PlainViT` around a `ViT`.
        weight_map: `adapter_map` or `baseline_map`.
        config: Of the ViT; the index beside each table of relative positions follows from it.

    Raises:
        CheckpointError: A name has no rule.
    """
    official = weight_map.to_official(state)
    spatial = "visual_embed.patch_embed.spatial_pos_embed.weight"
    if spatial in official:
        official[spatial] = official[spatial][0]
    indices: dict[tuple[int, int], Tensor] = {}
    for name in list(official):
        if name.endswith("relative_position_bias_table"):
            window = config.window(int(name.split(".")[1]))
            grid = (window, window) if window else config.grid_size
            if grid not in indices:
                indices[grid] = relative_position_index(grid, class_token=config.class_token)
            official[name.replace("bias_table", "index")] = indices[grid]
    return official
