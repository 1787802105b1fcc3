"""Which layer a parameter of a segmenter belongs to, for rates that differ from layer to layer."""

from __future__ import annotations

from imglish.models.beit3 import layers as beit3
from imglish.models.vit import layers as vit

_BACKBONE = "backbone.backbone."  # within the adapter, or the pyramid of a plain ViT
_BEIT3 = f"{_BACKBONE}encoder."
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
    if name.startswith(_BACKBONE):
        return vit.layer_of(name.removeprefix(_BACKBONE), depth)
    return 0 if masks and name.startswith(_LOWEST) else depth + 1
