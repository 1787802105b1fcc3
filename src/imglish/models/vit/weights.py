"""Official BEiT and BEiT v2 names to ours and back (parity FACTS, section 10)."""

from __future__ import annotations

from torch import Tensor

from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import Pooling
from imglish.models.vit.positions import relative_position_index
from imglish.models.weight_map import Rule, WeightMap

# Follows from the grid: ours is no part of the state dict.
INDEX = r"(.*\.)?relative_position_index"


def vit_rules(official: str, ours: str, *, norm: str) -> tuple[Rule, ...]:
    """Rules of a ViT.

    Args:
        official: Prefix of the official names, with its dot.
        ours: Prefix of our names, with its dot.
        norm: Official name of the last norm: ``fc_norm`` of mean pooling and tokenizers, or ``norm``.
    """
    block = "blocks.{layer}."
    pairs = (
        ("cls_token", "class_token"),
        ("pos_embed", "positions"),
        ("patch_embed.proj.{part}", "patches.proj.{part}"),
        ("rel_pos_bias.relative_position_bias_table", "relative_positions.table"),
        (f"{norm}.{{part}}", "norm.{part}"),
        (f"{block}norm1.{{part}}", f"{block}norm1.{{part}}"),
        (f"{block}attn.q_bias", f"{block}attention.query_bias"),
        (f"{block}attn.v_bias", f"{block}attention.value_bias"),
        (f"{block}attn.qkv.weight", f"{block}attention.qkv.weight"),
        (f"{block}attn.relative_position_bias_table", f"{block}attention.relative_positions.table"),
        (f"{block}attn.proj.{{part}}", f"{block}attention.output.{{part}}"),
        (f"{block}norm2.{{part}}", f"{block}norm2.{{part}}"),
        (f"{block}mlp.{{linear}}.{{part}}", f"{block}feed_forward.{{linear}}.{{part}}"),
        (f"{block}gamma_1", f"{block}scale1"),
        (f"{block}gamma_2", f"{block}scale2"),
    )
    return tuple(Rule(official + a, ours + b) for a, b in pairs)


def classification_map(pooling: Pooling) -> WeightMap:
    """Names of a fine-tuned BEiT: `ViTForClassification`."""
    norm = "fc_norm" if pooling == "mean" else "norm"
    rules = (*vit_rules("", "vit.", norm=norm), Rule("head.{part}", "head.{part}"))
    return WeightMap(rules, dropped=(INDEX,))


def to_official(state: dict[str, Tensor], config: ViTConfig, pooling: Pooling) -> dict[str, Tensor]:
    """Rename a `ViTForClassification`, and add the index beside each table of relative positions."""
    official = classification_map(pooling).to_official(state)
    tables = [name for name in official if name.endswith("relative_position_bias_table")]
    index = relative_position_index(config.grid_size)
    return official | {name.replace("bias_table", "index"): index for name in tables}
