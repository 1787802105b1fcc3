"""What the training of a segmenter asks of a parameter's name: its layer, whether it is new, its decay."""

from __future__ import annotations

from imglish.models.beit3 import layers as beit3
from imglish.models.vit import layers as vit

_BACKBONE = "backbone.backbone."  # within the adapter, or the pyramid of a plain ViT
_BEIT3 = f"{_BACKBONE}encoder."
# What a `TimmBackbone` has before its blocks; the others' embeddings are named by their own modules.
_TIMM = tuple(
    f"{_BACKBONE}{part}" for part in ("projection.", "patch_norm.", "prefix.", "first_norm.", "rotary.")
)
# Parts of Mask2Former's head that the official code gives the rate of the embeddings, the smallest of all.
_LOWEST = (
    "head.query_features",
    "head.query_positions",
    "head.level_embedding",
    "head.classifier.",
    "head.mask_embedding.",
)


def layer_of(name: str, depth: int, *, masks: bool) -> int:
    """Number of the layer that a parameter of a segmenter belongs to (adapter FACTS, section 6).

    Args:
        name: Its name within the segmenter, such as ``backbone.backbone.blocks.3.norm1.weight``.
        depth: Blocks of the ViT.
        masks: True for Mask2Former, parts of whose head count as layer 0 in the official segmentation tree.

    Returns:
        0 for the ViT's embeddings, k + 1 for its block k, depth + 1 for adapter, neck and head.

    Raises:
        ValueError: The name is of a block that the ViT does not have, or of none of its parts.
    """
    if name.startswith(_BEIT3):
        return beit3.layer_of(name.removeprefix(_BEIT3), depth)
    if name.startswith(_TIMM):
        return 0
    if name.startswith(_BACKBONE):
        return vit.layer_of(name.removeprefix(_BACKBONE), depth)
    return 0 if masks and name.startswith(_LOWEST) else depth + 1


def is_new(name: str) -> bool:
    """True for parameters of neck and heads, which no pretraining has: all but the backbone's."""
    return not name.startswith("backbone.")


def is_bias(name: str) -> bool:
    """True for biases."""
    return name.endswith("bias")


def is_decayed_by_name(name: str) -> bool:
    """Whether weights decay by the rule of the official configs without layer decay (FACTS, section 6).

    Those go by parts of the official names, ``level_embed``, ``pos_embed``, ``norm`` and ``bias``. What has
    none of these decays, vectors too: learned factors, and batch norms that are steps of a sequence. Of neck
    and heads, which have a part of their own for their rate, only biases do not decay.
    """
    if is_new(name):
        return not is_bias(name)
    return not any(part in name for part in ("bias", "norm", "positions", "level_embedding"))
