"""Which layer of a Multiway Transformer a parameter belongs to, for rates that differ from layer to layer."""

from __future__ import annotations

import re

_EMBEDDINGS = ("vision_embedding.", "text_embedding.")
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def layer_of(name: str, depth: int) -> int:
    """Number of the layer that a parameter of `Beit3Encoder` belongs to (parity FACTS, section 8).

    Args:
        name: Its name within the encoder, such as ``blocks.3.norm1.text.weight``.
        depth: Blocks of the encoder.

    Returns:
        0 for the embeddings and their position tables, k + 1 for block k, depth + 1 for the output norm,
        which learns like the head above it.

    Raises:
        ValueError: The name is of a block that the encoder does not have, or of none of its parts.
    """
    if name.startswith(_EMBEDDINGS):
        return 0
    if name.startswith("norm."):
        return depth + 1
    block = _BLOCK.match(name)
    if block is None or int(block[1]) >= depth:
        raise ValueError(f"{name!r} is no parameter of a BEiT-3 encoder of {depth} blocks")
    return int(block[1]) + 1


def is_task_head(name: str) -> bool:
    """True for parameters of a new classification head, whose learning rate may be raised.

    Args:
        name: Within the whole model. As in the released code these are the ones of the module ``head``: not
            the pooler, nor the projections of retrieval and captioning, which may come from pretraining.
    """
    return name.startswith("head.")
