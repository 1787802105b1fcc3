"""Which layer of a plain ViT a parameter belongs to, for rates that differ from layer to layer."""

from __future__ import annotations

import re

# What weight decay leaves alone besides vectors and biases, as in the codes of BEiT and BEiT v2.
NOT_DECAYED = frozenset({"class_token", "positions"})

_EMBEDDINGS = ("patches.", "class_token", "positions", "time_positions", "embedding_norm.")
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def layer_of(name: str, depth: int) -> int:
    """Number of the layer that a parameter of `ViT` belongs to (optim_factory.py of BEiT v2).

    Args:
        name: Its name within the ViT, such as ``blocks.3.norm1.weight``.
        depth: Blocks of the ViT.

    Returns:
        0 for patches, class token, absolute positions and the norm of all these, k + 1 for block k with its
        own table of relative positions, depth + 1 for the last norm and a table that all blocks share.

    Raises:
        ValueError: The name is of a block that the ViT does not have, or of none of its parts.
    """
    if name.startswith(("norm.", "relative_positions.")):
        return depth + 1
    if name.startswith(_EMBEDDINGS):
        return 0
    block = _BLOCK.match(name)
    if block is None or int(block[1]) >= depth:
        raise ValueError(f"{name!r} is no parameter of a ViT of {depth} blocks")
    return int(block[1]) + 1
