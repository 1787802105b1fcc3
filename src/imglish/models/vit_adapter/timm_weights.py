"""Names of timm's Vision Transformers to those of a `TimmBackbone`, fitted to its patches and positions."""

from __future__ import annotations

import math
import re

from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor
from torch.nn import functional as F

from imglish.errors import CheckpointError
from imglish.models.vit_adapter.timm_backbone import TimmBackbone
from imglish.models.weight_map import StateDict

# What a backbone of dense features does without: the last norm, heads of all kinds, MAE's decoder.
DROPPED = (r"(fc_)?norm\..*", r"head(_dist)?\..*", r"pre_logits\..*", r"attn_pool\..*", r"mask_token")
_MORE_DROPPED = (r"decoder_.*", r".*relative_position_index")
_OUTSIDE = {
    "patch_embed.proj.": "projection.",
    "patch_embed.norm.": "patch_norm.",
    "norm_pre.": "first_norm.",
    "rope.": "rotary.",
    "blocks.": "blocks.",
}
_PREFIX_TOKENS = ("cls_token", "dist_token", "reg_token")


def from_timm(
    state: StateDict, backbone: TimmBackbone, *, where: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights of a timm model for a backbone of the same kind.

    Kernels of patches of another side are resized bilinearly; positions of another grid bicubically, as timm
    does. DINOv2's own names of register tokens, whose class token has a position, are understood as well.

    Args:
        state: Under timm's names.
        backbone: Says which tokens, patches and positions are wanted.
        where: The file, for messages.

    Returns:
        The state dict of ``backbone``, and the names that were left out on purpose.

    Raises:
        CheckpointError: A name has no place, a tensor is missing, or one has another shape.
    """
    official = _with_registers(state, backbone)
    dropped = tuple(
        name for name in official if any(re.fullmatch(p, name) for p in (*DROPPED, *_MORE_DROPPED))
    )
    tokens = [name for name in _PREFIX_TOKENS if name in official]
    ours: dict[str, Tensor] = {}
    for name, tensor in official.items():
        if name in dropped:
            continue
        ours[_our_name(name, tokens, where)] = tensor
    expected = backbone.state_dict()
    for name, wanted in expected.items():
        if name in ours and ours[name].shape != wanted.shape:
            ours[name] = _fitted(ours[name], wanted, name, backbone, where)
    for name in sorted(expected.keys() ^ ours.keys()):
        shapes = [tuple(own[name].shape) if name in own else "missing" for own in (ours, expected)]
        raise CheckpointError(
            f"{where} belongs to another architecture: {name} is {shapes[0]}, in the model {shapes[1]}; "
            "use the model settings that the weights were trained with"
        )
    return ours, dropped


def _our_name(name: str, tokens: list[str], where: str) -> str:
    if name in tokens:
        return f"prefix.{tokens.index(name)}"
    if name == "pos_embed":
        return "positions"
    for old, new in _OUTSIDE.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    raise CheckpointError(
        f"{where}: {name} has no place in a timm backbone; give weights of a VisionTransformer or Eva"
    )


def _with_registers(state: StateDict, backbone: TimmBackbone) -> dict[str, Tensor]:
    """DINOv2's official names with register tokens as timm has them; others as they are."""
    official = dict(state)
    if "register_tokens" not in official:
        return official
    official["reg_token"] = official.pop("register_tokens")
    if not backbone.prefix_has_positions and {"cls_token", "pos_embed"} <= official.keys():
        official["cls_token"] = official["cls_token"] + official["pos_embed"][:, :1]
        official["pos_embed"] = official["pos_embed"][:, 1:]
    return official


def _fitted(tensor: Tensor, wanted: Tensor, name: str, backbone: TimmBackbone, where: str) -> Tensor:
    if name == "projection.weight" and tensor.shape[:2] == wanted.shape[:2]:
        size = [wanted.shape[2], wanted.shape[3]]
        return F.interpolate(tensor.float(), size=size, mode="bilinear", align_corners=False)
    num_prefix = backbone.num_prefix if backbone.prefix_has_positions else 0
    side = math.isqrt(max(tensor.shape[1] - num_prefix, 0)) if tensor.dim() == 3 else 0
    square = side * side + num_prefix == tensor.shape[1] if tensor.dim() == 3 else False
    if name == "positions" and square and tensor.shape[2] == wanted.shape[2]:
        resampled: Tensor = resample_abs_pos_embed(
            tensor.float(),
            new_size=list(backbone.own_grid),
            old_size=[side, side],
            num_prefix_tokens=num_prefix,
        )
        return resampled
    raise CheckpointError(
        f"{where} belongs to another architecture: {name} is {tuple(tensor.shape)}, in the model "
        f"{tuple(wanted.shape)}; use the model settings that the weights were trained with"
    )
