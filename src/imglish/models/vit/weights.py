"""Official BEiT and BEiT v2 names to ours and back (parity FACTS, section 10)."""

from __future__ import annotations

from torch import Tensor

from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import Pooling
from imglish.models.vit.positions import relative_position_index
from imglish.models.weight_map import Rule, StateDict, WeightMap

# Follows from the grid: ours is no part of the state dict.
INDEX = r"(.*\.)?relative_position_index"

_SHARED_TABLE = "relative_positions.table"


def vit_rules(official: str, ours: str, *, norm: str) -> tuple[Rule, ...]:
    """Rules of a ViT.

    Args:
        official: Prefix of the official names, with its dot.
        ours: Prefix of our names, with its dot.
        norm: Official name of the last norm: ``fc_norm`` of mean pooling and tokenizers, or ``norm``.
    """
    pairs = (
        ("cls_token", "class_token"),
        ("pos_embed", "positions"),
        ("patch_embed.proj.{part}", "patches.proj.{part}"),
        ("rel_pos_bias.relative_position_bias_table", "relative_positions.table"),
        (f"{norm}.{{part}}", "norm.{part}"),
    )
    outside = tuple(Rule(official + a, ours + b) for a, b in pairs)
    return (*outside, *block_rules(f"{official}blocks.", f"{ours}blocks."))


def block_rules(official: str, ours: str, *, scale: str = "gamma_") -> tuple[Rule, ...]:
    """Rules of a list of blocks.

    Args:
        official: Prefix of the official names, with its dot, of a block's number.
        ours: Prefix of our names, with its dot, of a block's number.
        scale: Official name of the learned factors, without their 1 and 2.
    """
    pairs = (
        ("norm1.{part}", "norm1.{part}"),
        ("attn.q_bias", "attention.query_bias"),
        ("attn.v_bias", "attention.value_bias"),
        ("attn.qkv.{part}", "attention.qkv.{part}"),
        ("attn.relative_position_bias_table", "attention.relative_positions.table"),
        ("attn.proj.{part}", "attention.output.{part}"),
        ("norm2.{part}", "norm2.{part}"),
        ("mlp.{linear}.{part}", "feed_forward.{linear}.{part}"),
        (f"{scale}1", "scale1"),
        (f"{scale}2", "scale2"),
        ("residual.{layer}.{part}", "bottleneck.{layer}.{part}"),
    )
    return tuple(Rule(f"{official}{{block}}.{a}", f"{ours}{{block}}.{b}") for a, b in pairs)


def classification_map(pooling: Pooling) -> WeightMap:
    """Names of a fine-tuned BEiT: `ViTForClassification`."""
    norm = "fc_norm" if pooling == "mean" else "norm"
    rules = (*vit_rules("", "vit.", norm=norm), Rule("head.{part}", "head.{part}"))
    return WeightMap(rules, dropped=(INDEX,))


# Names of BEiT and BEiT v2 as they are pretrained: `ViTForMaskedImageModeling`.
PRETRAINING_MAP = WeightMap(
    (
        *vit_rules("", "vit.", norm="norm"),
        Rule("mask_token", "mask_token"),
        Rule("lm_head.{part}", "token_head.{part}"),
        *block_rules("cls_pt_layers.", "class_blocks."),
        Rule("cls_pt_norm.{part}", "class_norm.{part}"),
        Rule("cls_pt_lm_head.{part}", "class_token_head.{part}"),
    ),
    dropped=(INDEX,),
)


def to_official(state: StateDict, config: ViTConfig, pooling: Pooling) -> dict[str, Tensor]:
    """Rename a `ViTForClassification`, and add the index beside each table of relative positions."""
    return _with_indices(classification_map(pooling).to_official(state), config)


def pretraining_to_official(state: StateDict, config: ViTConfig) -> dict[str, Tensor]:
    """Rename a `ViTForMaskedImageModeling`, and add the index beside each table of relative positions."""
    return _with_indices(PRETRAINING_MAP.to_official(state), config)


def _with_indices(official: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    tables = [name for name in official if name.endswith("relative_position_bias_table")]
    index = relative_position_index(config.grid_size)
    return official | {name.replace("bias_table", "index"): index for name in tables}


def share_out_table(state: StateDict, depth: int) -> dict[str, Tensor]:
    """Give each block a copy of the table of relative positions that all share, as fine-tuning starts.

    Args:
        state: State dict of a `ViT` with shared relative positions; another is returned as it is.
        depth: Its blocks.

    Returns:
        State dict of the same `ViT` with relative positions for each block (parity FACTS, section 9).
    """
    own = dict(state)
    if _SHARED_TABLE not in own:
        return own
    table = own.pop(_SHARED_TABLE)
    return own | {f"blocks.{block}.attention.{_SHARED_TABLE}": table.clone() for block in range(depth)}
