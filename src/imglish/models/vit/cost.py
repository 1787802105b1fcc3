"""What a plain ViT costs, by formula; see `imglish.nn.cost` for what is counted."""

from __future__ import annotations

from imglish.models.vit.config import PatchAggregationConfig, ViTConfig
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


def vit_cost(
    config: ViTConfig,
    pictures: int,
    *,
    precision: Precision,
    image_size: tuple[int, int] | None = None,
    input_gradient: bool = False,
    trained: bool = True,
) -> Cost:
    """Cost of passing pictures through `ViT`.

    Args:
        config: The model.
        pictures: How many.
        precision: See `imglish.nn.cost`.
        image_size: Their (height, width), where it is not the config's.
        input_gradient: True where they need a gradient.
        trained: False has neither backward pass nor memory.
    """
    size = image_size or config.image_size
    tokens = 1 + size[0] // config.patch_size * (size[1] // config.patch_size)
    embedding = patch_embedding(
        pictures,
        size,
        patch_size=config.patch_size,
        width=config.width,
        stem=config.stem,
        channels=config.in_channels,
        precision=precision,
        input_gradient=input_gradient,
        trained=trained,
    )
    return embedding + blocks_cost(
        config, config.depth, pictures, tokens, precision=precision, trained=trained
    )


def blocks_cost(
    config: ViTConfig, depth: int, pictures: int, tokens: int, *, precision: Precision, trained: bool = True
) -> Cost:
    """Cost of ``depth`` blocks over sequences of ``tokens``, and of the norm after them."""
    width, inner = config.width, int(config.width * config.mlp_ratio)
    total, size, stream = pictures * tokens, product_size(precision), stream_size(precision)
    forward = linear(total, width, 4 * width) + attention(pictures, tokens, width)
    forward += 2 * linear(total, width, inner)
    kept = stream * width + size * width  # residual stream, its norm
    kept += 4 * size * width + 4 * config.num_heads  # query, key, value, result, sums of the softmax
    kept += stream * width + size * width + 2 * size * inner + 2 * NORM_STATISTICS
    if config.layer_scale > 0:
        kept += 2 * size * width  # what is scaled
    return blocks(
        depth,
        forward=forward,
        kept=total * kept,
        block_input=stream * total * width,
        output_norm=total * (stream * width + NORM_STATISTICS),
        trained=trained,
    )


def masked_image_cost(
    config: ViTConfig, aggregation: PatchAggregationConfig | None, pictures: int, *, precision: Precision
) -> Cost:
    """Cost of `ViTForMaskedImageModeling` without its heads: BEiT v2's second way included."""
    cost = vit_cost(config, pictures, precision=precision)
    if aggregation is None:
        return cost
    tokens = 1 + config.grid_size[0] * config.grid_size[1]
    return cost + blocks_cost(config, aggregation.num_blocks, pictures, tokens, precision=precision)
