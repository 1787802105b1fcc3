"""Names of the released ViTs that have a bias on every projection, to ours and back.

- timm's names, which DeiT, AugReg's converted files, MAE and DINOv2 share (``ls1.gamma`` or ``gamma1`` where
  there are factors on the branches);
- Google's of AugReg's ``.npz`` files (arXiv 2106.10270), whose kernels are laid out for JAX;
- Uni-Perceiver's, as pretrained and as ViT-Adapter releases it (parity FACTS of the adapter, section 7).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Literal

import torch
from torch import Tensor

from imglish.errors import CheckpointError
from imglish.models.vit.model import Pooling
from imglish.models.vit.weights import block_rules, vit_rules
from imglish.models.weight_map import Rule, StateDict, WeightMap

PlainForm = Literal["timm", "google", "uniperceiver"]

# Of other tasks: MAE's decoder and the tokens that stand for hidden patches, distillation's token and head,
# the layer before the head of ViTs pretrained on ImageNet-21k.
DROPPED = (r"mask_token", r"decoder_.*", r"dist_token", r"head_dist\..*", r"pre_logits\..*")
HEAD = r"head\..*"
UNIPERCEIVER_DROPPED = (r".*loss_prepare.*", r".*token_embed.*")

# Parts of the same family that our ViT has not, and what they are called in messages.
_OTHER_PARTS = {
    r"reg(ister)?_tokens?": "register tokens",
    r"blocks\.\d+\.mlp\.(w12|w3|fc1_g|fc1_x)\..*": "a gated feed-forward network",
    r"blocks\.\d+\.attn\.[qk]_norm\..*": "norms on queries and keys",
    r"norm_pre\..*": "a norm before the blocks",
    r"attn_pool\..*": "attention pooling",
}

_UNIPERCEIVER_EMBEDDING = "visual_embed.patch_embed."
_SPATIAL = f"{_UNIPERCEIVER_EMBEDDING}spatial_pos_embed.weight"
# What the code of ViT-Adapter renames in a pretrained Uni-Perceiver; tried one after the other.
_UNIPERCEIVER_RENAMED = (
    ("fused_encoder.", ""),
    ("in_proj_", "in_proj."),
    ("video_embed.", "visual_embed."),
    ("visual_embed.embeddings.", f"{_UNIPERCEIVER_EMBEDDING}proj."),
    ("visual_embed.embeddings_st_pos.", _UNIPERCEIVER_EMBEDDING),
)

_GOOGLE_BLOCK = re.compile(r"Transformer/encoderblock_(\d+)/(.+)")
_GOOGLE_ATTENTION = "MultiHeadDotProductAttention_1/"
# Google's names of a block, but for attention, and timm's.
_GOOGLE_BLOCKS = {
    "LayerNorm_0/scale": "norm1.weight",
    "LayerNorm_0/bias": "norm1.bias",
    "LayerNorm_2/scale": "norm2.weight",
    "LayerNorm_2/bias": "norm2.bias",
    "MlpBlock_3/Dense_0/kernel": "mlp.fc1.weight",
    "MlpBlock_3/Dense_0/bias": "mlp.fc1.bias",
    "MlpBlock_3/Dense_1/kernel": "mlp.fc2.weight",
    "MlpBlock_3/Dense_1/bias": "mlp.fc2.bias",
}
_GOOGLE_OUTSIDE = {
    "cls": "cls_token",
    "embedding/kernel": "patch_embed.proj.weight",
    "embedding/bias": "patch_embed.proj.bias",
    "Transformer/posembed_input/pos_embedding": "pos_embed",
    "Transformer/encoder_norm/scale": "norm.weight",
    "Transformer/encoder_norm/bias": "norm.bias",
    "pre_logits/kernel": "pre_logits.fc.weight",
    "pre_logits/bias": "pre_logits.fc.bias",
    "head/kernel": "head.weight",
    "head/bias": "head.bias",
}


def plain_form(names: Collection[str]) -> PlainForm | None:
    """Whose names these are; None where they are of no such ViT."""
    if "Transformer/posembed_input/pos_embedding" in names:
        return "google"
    if {"visual_embed.embeddings_norm.weight", "video_embed.embeddings_norm.weight"} & set(names):
        return "uniperceiver"
    return "timm" if {"patch_embed.proj.weight", "blocks.0.attn.qkv.bias"} <= set(names) else None


def tells_classes(names: Collection[str]) -> bool:
    """Whether a file of one of the forms is a whole classifier.

    A head is none of a classifier here where it reads a layer or a token that our ViT has not.
    """
    has = set(names)
    beside = ("dist_token", "pre_logits.fc.weight", "pre_logits/kernel")
    return bool({"head.weight", "head/kernel"} & has) and not has.intersection(beside)


def plain_map(form: PlainForm, *, pooling: Pooling | None) -> WeightMap:
    """Names of one form once `prepared`: of a `ViT`, or of a `ViTForClassification`.

    Args:
        form: Google's become timm's.
        pooling: How the class is read; None is the ViT alone, whose head is left out.
    """
    if form == "uniperceiver":
        return WeightMap(uniperceiver_rules(""), UNIPERCEIVER_DROPPED)
    ours, norm = ("", "norm") if pooling is None else ("vit.", "fc_norm" if pooling == "mean" else "norm")
    rules = (
        Rule("blocks.{block}.ls1.gamma", f"{ours}blocks.{{block}}.scale1"),
        Rule("blocks.{block}.ls2.gamma", f"{ours}blocks.{{block}}.scale2"),
        *block_rules("blocks.", f"{ours}blocks.", scale="gamma"),
        *(rule for rule in vit_rules("", ours, norm=norm) if not rule.official.startswith("blocks.")),
    )
    if pooling is None:
        return WeightMap(rules, (*DROPPED, HEAD))
    return WeightMap((*rules, Rule("head.{part}", "head.{part}")), DROPPED)


def uniperceiver_rules(ours: str) -> tuple[Rule, ...]:
    """Rules of a Uni-Perceiver under its official names.

    Args:
        ours: Prefix of our names, with its dot, or empty.
    """
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
    embedding = _UNIPERCEIVER_EMBEDDING
    return (
        Rule("visual_embed.embeddings_norm.{part}", f"{ours}embedding_norm.{{part}}"),
        Rule(_SPATIAL, f"{ours}positions"),
        Rule(f"{embedding}temporal_pos_embed.weight", f"{ours}time_positions"),
        Rule(f"{embedding}proj.{{part}}", f"{ours}patches.proj.{{part}}"),
        *(Rule(f"layers.{{block}}.{a}", f"{ours}blocks.{{block}}.{b}") for a, b in blocks),
    )


def prepared(state: StateDict, form: PlainForm, num_patches: int | None = None) -> dict[str, Tensor]:
    """A file of one of the forms with the names and shapes that `plain_map` expects.

    Args:
        state: As read.
        form: Whose names it has.
        num_patches: Patches of its pictures, where that is known.

    Raises:
        CheckpointError: It has a part that our `ViT` has not, or a position of a class token that is missing.
        KeyError: A tensor of Google's attention is missing; RuntimeError: one has no such shape.
    """
    match form:
        case "google":
            return from_google(state)
        case "uniperceiver":
            official = {_uniperceiver_name(name): tensor for name, tensor in state.items()}
            if _SPATIAL in official:
                official[_SPATIAL] = official[_SPATIAL][None]
            return official
        case "timm":
            _refuse_other_parts(state)
            return dict(state) | _class_positions(state, num_patches)


def to_official(state: StateDict, *, uniperceiver: bool, pooling: Pooling | None) -> dict[str, Tensor]:
    """Our weights under timm's names, or Uni-Perceiver's; arguments as of `plain_map`.

    Raises:
        CheckpointError: A name has no rule.
    """
    official = plain_map("uniperceiver" if uniperceiver else "timm", pooling=pooling).to_official(state)
    if _SPATIAL in official:
        official[_SPATIAL] = official[_SPATIAL][0]
    return official


def google_heads(state: StateDict) -> int | None:
    """Attention heads of a file of Google's, which its kernels tell; None of another file."""
    kernel = state.get(f"Transformer/encoderblock_0/{_GOOGLE_ATTENTION}query/kernel")
    return None if kernel is None or kernel.dim() != 3 else kernel.shape[1]


def from_google(state: StateDict) -> dict[str, Tensor]:
    """Google's names and layouts to timm's.

    Kernels of theirs have inputs first, those of patches (rows, columns, channels, width), those of attention
    (width, heads, features) and back.

    Raises:
        CheckpointError: A name has no place.
        KeyError: One of query, key and value is missing.
    """
    official: dict[str, Tensor] = {}
    orphans: list[str] = []
    for name, tensor in state.items():
        match = _GOOGLE_BLOCK.fullmatch(name)
        if match is not None and match[2] in _GOOGLE_BLOCKS:
            kernel = name.endswith("/kernel")
            official[f"blocks.{match[1]}.{_GOOGLE_BLOCKS[match[2]]}"] = tensor.T if kernel else tensor
        elif match is not None and match[2].startswith(_GOOGLE_ATTENTION):
            official |= _google_attention(state, name, match[1], match[2].removeprefix(_GOOGLE_ATTENTION))
        elif name == "embedding/kernel":
            official[_GOOGLE_OUTSIDE[name]] = tensor.permute(3, 2, 0, 1)
        elif name in _GOOGLE_OUTSIDE:
            official[_GOOGLE_OUTSIDE[name]] = tensor.T if name.endswith("/kernel") else tensor
        else:
            orphans.append(name)
    if orphans:
        raise CheckpointError(
            f"{len(orphans)} checkpoint names have no rule in the weight map, first: {', '.join(orphans[:3])}"
        )
    return {name: tensor.contiguous() for name, tensor in official.items()}


def _google_attention(state: StateDict, name: str, block: str, part: str) -> Mapping[str, Tensor]:
    """What one tensor of attention gives: queries, keys and values come together, with the queries."""
    beginning, kind = name.removesuffix(part), part.rpartition("/")[2]
    matrix = kind == "kernel"
    target = "weight" if matrix else "bias"
    if part == f"out/{kind}":
        out = state[name].flatten(0, 1).T if matrix else state[name]
        return {f"blocks.{block}.attn.proj.{target}": out}
    if part not in (f"query/{kind}", f"key/{kind}", f"value/{kind}"):
        raise CheckpointError(f"1 checkpoint names have no rule in the weight map, first: {name}")
    parts = [state[f"{beginning}{which}/{kind}"] for which in ("query", "key", "value")]
    joined = torch.cat([tensor.flatten(1).T if matrix else tensor.flatten() for tensor in parts])
    return {f"blocks.{block}.attn.qkv.{target}": joined}


def _uniperceiver_name(name: str) -> str:
    for old, new in _UNIPERCEIVER_RENAMED:
        name = name.replace(old, new)
    return name


def _refuse_other_parts(names: Collection[str]) -> None:
    for name in names:
        for pattern, part in _OTHER_PARTS.items():
            if re.fullmatch(pattern, name):
                raise CheckpointError(
                    f"{name}: {part}, which our ViT has not; take a timm model as the backbone for these"
                )


def _class_positions(state: StateDict, num_patches: int | None) -> dict[str, Tensor]:
    """The table of positions with one row in front, of the class token, and none of a distillation token.

    Where the class token has no position of its own (timm's ``no_embed_class``), its row is zero.
    """
    positions = state.get("pos_embed")
    if positions is None or positions.dim() != 3:
        return {}
    rows = positions.shape[1]
    if "cls_token" not in state:
        if rows - 1 == num_patches or (num_patches is None and math.isqrt(rows) ** 2 != rows):
            raise CheckpointError("cls_token is missing, whose position is there; get the file anew")
        return {}
    if "dist_token" in state and rows > 2:
        return {"pos_embed": torch.cat([positions[:, :1], positions[:, 2:]], dim=1)}
    if rows == num_patches or (num_patches is None and math.isqrt(rows) ** 2 == rows):
        return {"pos_embed": torch.nn.functional.pad(positions, (0, 0, 1, 0))}
    return {}
