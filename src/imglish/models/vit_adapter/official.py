"""State dicts of the official backbones to ours and back, strict in both directions.

Three families (parity FACTS of the adapter, sections 1 to 3), each with an adapter or as plain baseline:
``vit`` (official ViTAdapter, ViTBaseline), ``beit`` (BEiTAdapter, BEiTBaseline), ``uniperceiver``
(UniPerceiverAdapter).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from imglish.errors import CheckpointError
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.plain_weights import uniperceiver_rules
from imglish.models.vit.positions import relative_position_index
from imglish.models.vit.weights import INDEX, block_rules, vit_rules
from imglish.models.vit_adapter.weights import ADAPTER_MAP
from imglish.models.weight_map import Rule, StateDict, WeightMap

Family = Literal["vit", "beit", "uniperceiver"]

_BACKBONE = "backbone."  # the prefix in the official files of whole models and in ours
_POSITIONS = "backbone.positions"  # (1, N, C) in ours, (N, C) in Uni-Perceiver's


def _vit() -> tuple[Rule, ...]:
    return (
        Rule("pos_embed", _POSITIONS),
        Rule("patch_embed.proj.{part}", "backbone.patches.proj.{part}"),
        *block_rules("blocks.", "backbone.blocks.", scale="gamma"),
    )


_BACKBONES: Mapping[Family, tuple[Rule, ...]] = {
    "vit": _vit(),
    # Neither adapter nor baseline has the last norm.
    "beit": vit_rules("", "backbone.", norm="norm"),
    "uniperceiver": uniperceiver_rules("backbone."),
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


def model_to_ours(
    state: StateDict, family: Family, others: WeightMap, *, has_adapter: bool
) -> dict[str, Tensor]:
    """Official weights of a backbone with its neck and heads under our names and in our shapes.

    Args:
        state: Of the official model, whole.
        family: Of its backbone.
        others: Names of all but the backbone.
        has_adapter: False is a plain baseline.

    Raises:
        CheckpointError: A name has no rule.
    """
    below, beside = _split(state)
    backbone = to_ours(below, _backbone_map(family, has_adapter=has_adapter))
    return _joined(backbone, others.to_ours(beside))


def model_to_official(
    state: StateDict, family: Family, others: WeightMap, config: ViTConfig, *, has_adapter: bool
) -> dict[str, Tensor]:
    """Undo `model_to_ours`; ``config`` is that of the ViT, from which official files hold what follows.

    Raises:
        CheckpointError: A name has no rule.
    """
    below, beside = _split(state)
    backbone = to_official(below, _backbone_map(family, has_adapter=has_adapter), config)
    return _joined(backbone, others.to_official(beside))


def _backbone_map(family: Family, *, has_adapter: bool) -> WeightMap:
    if has_adapter:
        return adapter_map(family)
    if family == "uniperceiver":
        raise CheckpointError("a Uni-Perceiver without adapter, of which there is no official model")
    return baseline_map(family)


def _split(state: StateDict) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The backbone's weights without their prefix, and the others."""
    below = {name.removeprefix(_BACKBONE): w for name, w in state.items() if name.startswith(_BACKBONE)}
    return below, {name: w for name, w in state.items() if not name.startswith(_BACKBONE)}


def _joined(backbone: StateDict, others: StateDict) -> dict[str, Tensor]:
    return {f"{_BACKBONE}{name}": w for name, w in backbone.items()} | dict(others)
