"""What a visual tokenizer costs, by formula; see `imglish.nn.cost` for what is counted."""

from __future__ import annotations

from imglish.models.vit.cost import vit_cost
from imglish.models.vqkd.config import VqkdConfig
from imglish.nn.cost import Cost, Precision, linear, product_size, trained_linear


def tokenizing_flops(config: VqkdConfig, pictures: int, grid_size: tuple[int, int] | None = None) -> int:
    """FLOPs of `Vqkd.encode`: the encoder, the way to the code, the nearest of all codes.

    Args:
        config: The tokenizer.
        pictures: How many.
        grid_size: (rows, columns) of tokens wanted; None is the tokenizer's own.
    """
    rows, columns = grid_size or config.encoder.grid_size
    side, width, tokens = config.encoder.patch_size, config.encoder.width, pictures * rows * columns
    view = (rows * side, columns * side)
    encoder = vit_cost(config.encoder, pictures, precision="fp32", image_size=view, trained=False).forward
    to_code = linear(tokens, width, width) + linear(tokens, width, config.codebook_dim)
    return encoder + to_code + linear(tokens, config.codebook_dim, config.codebook_size)


def tokenizing_bytes(config: VqkdConfig, pictures: int, grid_size: tuple[int, int] | None = None) -> int:
    """Bytes that `Vqkd.encode` works in: in a block of its encoder, or over the distances to all codes.

    An estimate for bf16 and float32 alike; nothing of it is kept.
    """
    rows, columns = grid_size or config.encoder.grid_size
    tokens, encoder = pictures * rows * columns, config.encoder
    in_block = 4 * (3 * encoder.width + 2 * int(encoder.width * encoder.mlp_ratio))
    return tokens * max(in_block, 2 * 4 * config.codebook_size)


def training_cost(config: VqkdConfig, pictures: int, *, precision: Precision) -> Cost:
    """Cost of a training step of `Vqkd`, teacher left out."""
    encoder, rows, columns = config.encoder, *config.encoder.grid_size
    tokens, width, decoder = pictures * rows * columns, encoder.width, config.decoder_width
    cost = vit_cost(encoder, pictures, precision=precision)
    cost += trained_linear(tokens, width, width) + trained_linear(tokens, width, config.codebook_dim)
    cost += Cost(forward=linear(tokens, config.codebook_dim, config.codebook_size))  # codes get no gradient
    cost += vit_cost(config.decoder, pictures, precision=precision, input_gradient=True)
    cost += trained_linear(tokens, decoder, decoder) + trained_linear(tokens, decoder, config.teacher_dim)
    size = product_size(precision)
    # Inputs and tanh of either two layers, those before the codes in float32; unit vectors three times.
    ends = 2 * 4 * width + 2 * size * decoder + 3 * 4 * config.codebook_dim + 3 * 4 * config.teacher_dim
    return cost + Cost(kept=tokens * ends)
