"""Official BEiT-3 names to ours and back, and position tables at other picture sizes.

The official state dict is torchscale's: branch ``A`` is vision, ``B`` text (parity FACTS, section 1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.models.beit3.embeddings import POSITION_OFFSET
from imglish.models.weight_map import Rule, WeightMap

_EXPERTS = {"expert": {"A": "vision", "B": "text"}}


def _layer(official: str, ours: str) -> Rule:
    return Rule(f"encoder.layers.{{layer}}.{official}", f"blocks.{{layer}}.{ours}", _EXPERTS)


ENCODER_MAP = WeightMap(
    (
        Rule("text_embed.weight", "text_embedding.words.weight"),
        Rule("vision_embed.mask_token", "vision_embedding.mask_token"),
        Rule("vision_embed.cls_token", "vision_embedding.class_token"),
        Rule("vision_embed.proj.{part}", "vision_embedding.patches.proj.{part}"),
        Rule("encoder.embed_positions.A.weight", "vision_embedding.positions.weight"),
        Rule("encoder.embed_positions.B.weight", "text_embedding.positions.weight"),
        _layer("self_attn.q_proj.{expert}.{part}", "attention.query.{expert}.{part}"),
        _layer("self_attn.k_proj.{expert}.{part}", "attention.key.{expert}.{part}"),
        _layer("self_attn.v_proj.{expert}.{part}", "attention.value.{expert}.{part}"),
        _layer("self_attn.out_proj.{expert}.{part}", "attention.output.{expert}.{part}"),
        _layer("self_attn.inner_attn_ln.{expert}.{part}", "attention.inner_norm.{expert}.{part}"),
        _layer("self_attn_layer_norm.{expert}.{part}", "norm1.{expert}.{part}"),
        _layer("ffn.{expert}.fc1.{part}", "feed_forward.{expert}.fc1.{part}"),
        _layer("ffn.{expert}.ffn_layernorm.{part}", "feed_forward.{expert}.norm.{part}"),
        _layer("ffn.{expert}.fc2.{part}", "feed_forward.{expert}.fc2.{part}"),
        _layer("final_layer_norm.{expert}.{part}", "norm2.{expert}.{part}"),
        Rule("encoder.layer_norm.{expert}.{part}", "norm.{expert}.{part}", _EXPERTS),
    )
)

_PREFIXED = tuple(
    Rule(f"beit3.{rule.official}", f"encoder.{rule.ours}", rule.values) for rule in ENCODER_MAP.rules
)

# A released checkpoint always carries the output norm; models whose head normalises leave it unused.
WITHOUT_OUTPUT_NORM = (r"beit3\.encoder\.layer_norm\..*",)

PRETRAINING_MAP = WeightMap(
    (
        *_PREFIXED,
        Rule("mim_head.{part}", "image_head.{part}"),
        Rule("mlm_head.{part}", "text_head.{part}"),
    )
)
VQA_MAP = WeightMap(
    (
        *_PREFIXED,
        Rule("pooler.norm.{part}", "pooler.norm.{part}"),
        Rule("pooler.dense.{part}", "pooler.dense.{part}"),
        Rule("head.0.{part}", "head.dense.{part}"),
        Rule("head.1.{part}", "head.norm.{part}"),
        Rule("head.3.{part}", "head.output.{part}"),
    ),
    dropped=WITHOUT_OUTPUT_NORM,
)
RETRIEVAL_MAP = WeightMap(
    (
        *_PREFIXED,
        Rule("vision_head.weight", "vision_head.weight"),
        Rule("language_head.weight", "text_head.weight"),
        Rule("logit_scale", "logit_scale"),
    )
)
CAPTIONING_MAP = WeightMap((*_PREFIXED, Rule("mlm_head.{part}", "text_head.{part}")))
NLVR2_MAP = WeightMap(
    (
        *_PREFIXED,
        Rule("head.norm1.{part}", "head.input_norm.{part}"),
        Rule("head.dense1.{part}", "head.dense.{part}"),
        Rule("head.norm2.{part}", "head.norm.{part}"),
        Rule("head.dense2.{part}", "head.output.{part}"),
    )
)
IMAGE_CLASSIFICATION_MAP = WeightMap(
    (
        *_PREFIXED,
        Rule("fc_norm.{part}", "norm.{part}"),
        Rule("head.{part}", "head.{part}"),
    ),
    dropped=WITHOUT_OUTPUT_NORM,
)


def resize_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resample a vision position table to another grid, as the official loader does (FACTS, section 9).

    Args:
        table: (3 + rows x columns, C): two unused rows, the class token's, then the patches'.
        old: (rows, columns) of the table.
        new: (rows, columns) wanted.

    Returns:
        (3 + new rows x columns, C); the first three rows are copied, patch rows are interpolated bicubically.
    """
    front = POSITION_OFFSET + 1
    if table.shape[0] != front + old[0] * old[1]:
        raise ValueError(f"a table of {table.shape[0]} rows does not fit a {old[0]}x{old[1]} grid")
    if old == new:
        return table
    grid = table[front:].float().T.reshape(1, -1, *old)
    grid = F.interpolate(grid, size=new, mode="bicubic", align_corners=False)
    return torch.cat([table[:front], grid[0].flatten(1).T.to(table.dtype)])
