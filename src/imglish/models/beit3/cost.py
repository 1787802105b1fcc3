"""What the Multiway Transformer costs: operations and kept bytes by formula, parameters by kind.

See `imglish.nn.cost` for what is counted. The tests hold these formulas against `torch.utils.flop_counter`
and against what autograd keeps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from imglish.models.beit3.config import Beit3Config
from imglish.nn.cost import (
    NORM_STATISTICS,
    Cost,
    Precision,
    attention,
    blocks,
    linear,
    patch_embedding,
    product_size,
    stream_size,
)


def block_flops(config: Beit3Config, sequences: int, tokens: int) -> int:
    """FLOPs of one block, forward: 2 M (4 C^2 + 2 C F) + 4 B N^2 C with M = B N tokens.

    Each token passes one expert, whichever it is, so modalities and fusion experts make no difference.
    """
    width, total = config.width, sequences * tokens
    projections = 4 * linear(total, width, width)
    experts = 2 * linear(total, width, config.feed_forward_width)
    return projections + attention(sequences, tokens, width) + experts


def block_bytes(
    config: Beit3Config, sequences: int, tokens: int, *, fused: bool, precision: Precision
) -> int:
    """Bytes that autograd keeps of one block.

    Args:
        config: The model.
        sequences: B.
        tokens: N, both modalities together.
        fused: True for pairs, whose tokens are parted and joined where modalities have their own weights.
        precision: See `imglish.nn.cost`.
    """
    width, inner = config.width, config.feed_forward_width
    size, stream, mixed = product_size(precision), stream_size(precision), precision == "bf16"
    parted = fused and config.split_attention
    inputs = 3 if mixed or parted else 1  # of query, key and value: copies, or one for all
    kept = stream * width + inputs * size * width  # residual stream, its norm
    kept += 4 * size * width + 4 * config.num_heads  # query, key, value, result, sums of the softmax
    if config.sub_norm:
        kept += (4 * width if mixed else 0) + size * width + NORM_STATISTICS
        kept += stream * inner + NORM_STATISTICS
    elif parted:
        kept += size * width
    kept += stream * width + size * width  # residual stream, its norm
    kept += 2 * size * inner  # before the GELU, and what goes into the second linear
    kept += 2 * NORM_STATISTICS
    return sequences * tokens * kept


def encoder_cost(
    config: Beit3Config,
    sequences: int,
    *,
    pictures: bool,
    num_text: int,
    precision: Precision,
    trained: bool = True,
) -> Cost:
    """Cost of passing sequences through `Beit3Encoder`.

    Args:
        config: The model.
        sequences: How many.
        pictures: True where each has a picture.
        num_text: Text tokens of each, padding included; 0 for pictures alone.
        precision: See `imglish.nn.cost`.
        trained: False has neither backward pass nor memory.
    """
    tokens = num_tokens(config, pictures=pictures, num_text=num_text)
    stream = stream_size(precision)
    norm = sequences * tokens * (stream * config.width + NORM_STATISTICS) if config.output_norm else 0
    cost = blocks(
        config.depth,
        forward=block_flops(config, sequences, tokens),
        kept=block_bytes(config, sequences, tokens, fused=pictures and num_text > 0, precision=precision),
        block_input=stream * sequences * tokens * config.width,
        output_norm=norm,
        trained=trained,
    )
    if not pictures:
        return cost
    return cost + patch_embedding(
        sequences,
        config.image_size,
        patch_size=config.patch_size,
        width=config.width,
        stem=config.stem,
        precision=precision,
        trained=trained,
    )


def num_tokens(config: Beit3Config, *, pictures: bool, num_text: int) -> int:
    """Length of a sequence: patches and a class token where there is a picture, and the text."""
    return (config.num_patches + 1 if pictures else 0) + num_text


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterCounts:
    """Parameters by kind, as the paper's table 2 has them, over all layers.

    Args:
        total: All of the model, heads included.
        vision_experts: Feed-forward networks of pictures (V-FFN).
        text_experts: Feed-forward networks of texts (L-FFN).
        fusion_experts: Feed-forward networks of pairs (VL-FFN).
        attention: Attention, of all modalities, its inner norms included.
        norms: Norms of blocks and output.
        vision_embedding: Patches, positions, class and mask token.
        text_embedding: Words and positions.
        heads: All outside the encoder.
    """

    total: int
    vision_experts: int
    text_experts: int
    fusion_experts: int
    attention: int
    norms: int
    vision_embedding: int
    text_embedding: int
    heads: int


def parameter_counts(model: nn.Module) -> ParameterCounts:
    """Count the parameters of a model with a `Beit3Encoder` called ``encoder``; the meta device will do."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}

    def of(*parts: str) -> int:
        return sum(size for name, size in sizes.items() if _has(name, parts))

    return ParameterCounts(
        total=sum(sizes.values()),
        vision_experts=of(".feed_forward.vision."),
        text_experts=of(".feed_forward.text."),
        fusion_experts=of(".feed_forward.fusion."),
        attention=of(".attention."),
        norms=of("encoder.norm.", ".norm1.", ".norm2."),
        vision_embedding=of("encoder.vision_embedding."),
        text_embedding=of("encoder.text_embedding."),
        heads=sum(size for name, size in sizes.items() if not name.startswith("encoder.")),
    )


def _has(name: str, parts: Iterable[str]) -> bool:
    return name.startswith("encoder.") and any(part in name for part in parts)
