"""What a forward and a backward pass cost: operations and bytes, by formula.

A multiplication with its addition is two operations (FLOPs). Matrix products, attention and convolutions are
counted, as `torch.utils.flop_counter` does; norms, activations, softmax and additions are not, which are
below 1% of a Transformer's. Of the backward pass each product counts twice, once for either factor; what a
fused attention kernel computes anew in it is not counted.

Bytes are those that autograd keeps from the forward to the backward pass, without weights. ``bf16`` is meant
under autocast on a GPU: products are bf16, norms and the residual stream float32, and every linear keeps its
own bf16 copy of its input. With ``bf16_params`` all is bf16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imglish.nn.patch_embedding import Stem

Precision = Literal["fp32", "bf16", "bf16_params"]
NORM_STATISTICS = 8  # bytes of a layer norm for each token: mean and deviation in float32


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Cost of passing some sequences through a model, or a part of one.

    Args:
        forward: FLOPs of the forward pass.
        backward: FLOPs of the backward pass.
        in_blocks: The share of ``forward`` in Transformer blocks: what activation checkpointing does twice.
        kept: Bytes that autograd keeps.
        kept_in_blocks: The share of ``kept`` in blocks.
        block_inputs: Bytes of the inputs of all blocks: what is left of that share under checkpointing.
        largest_block: Bytes that one block keeps: computed anew, one at a time, under checkpointing.
    """

    forward: int = 0
    backward: int = 0
    in_blocks: int = 0
    kept: int = 0
    kept_in_blocks: int = 0
    block_inputs: int = 0
    largest_block: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Both, one kept beside the other."""
        return Cost(
            forward=self.forward + other.forward,
            backward=self.backward + other.backward,
            in_blocks=self.in_blocks + other.in_blocks,
            kept=self.kept + other.kept,
            kept_in_blocks=self.kept_in_blocks + other.kept_in_blocks,
            block_inputs=self.block_inputs + other.block_inputs,
            largest_block=max(self.largest_block, other.largest_block),
        )

    @property
    def kept_checkpointed(self) -> int:
        """Bytes kept at most where blocks are checkpointed."""
        return self.kept - self.kept_in_blocks + self.block_inputs + self.largest_block


def product_size(precision: Precision) -> int:
    """Bytes of a number that goes into a product, or comes out of one."""
    return 4 if precision == "fp32" else 2


def stream_size(precision: Precision) -> int:
    """Bytes of a number of the residual stream."""
    return 2 if precision == "bf16_params" else 4


def linear(tokens: int, inputs: int, outputs: int) -> int:
    """FLOPs of a linear layer, forward; two thirds of a training step are its backward pass."""
    return 2 * tokens * inputs * outputs


def trained_linear(tokens: int, inputs: int, outputs: int) -> Cost:
    """FLOPs of a linear layer, both ways."""
    forward = linear(tokens, inputs, outputs)
    return Cost(forward=forward, backward=2 * forward)


def attention(sequences: int, tokens: int, width: int) -> int:
    """FLOPs of softmax(QK^T)V, forward, all heads together; a mask saves nothing."""
    return 4 * sequences * tokens**2 * width


def blocks(
    depth: int, *, forward: int, kept: int, block_input: int, output_norm: int = 0, trained: bool = True
) -> Cost:
    """Cost of equal blocks.

    Args:
        depth: Blocks.
        forward: FLOPs of one.
        kept: Bytes that one keeps.
        block_input: Bytes of its input.
        output_norm: Bytes that a norm after the last block keeps.
        trained: False has neither backward pass nor memory.
    """
    if not trained:
        return Cost(forward=depth * forward)
    return Cost(
        forward=depth * forward,
        backward=2 * depth * forward,
        in_blocks=depth * forward,
        kept=depth * kept + output_norm,
        kept_in_blocks=depth * kept,
        block_inputs=depth * block_input,
        largest_block=kept if depth else 0,
    )


def patch_embedding(
    pictures: int,
    image_size: tuple[int, int],
    *,
    patch_size: int,
    width: int,
    stem: Stem = "linear",
    channels: int = 3,
    precision: Precision = "fp32",
    input_gradient: bool = False,
    trained: bool = True,
) -> Cost:
    """Cost of `PatchEmbedding`.

    Args:
        pictures: How many.
        image_size: Their (height, width).
        patch_size: Side of a patch.
        width: Features of a token.
        stem: Which embedding.
        channels: Of the pictures.
        precision: See above; but for ``fp32``, bf16 copies of the pictures are kept.
        input_gradient: True where the pictures need a gradient, as the codes that a decoder reads do.
        trained: False has neither backward pass nor memory.
    """
    size, pixels = product_size(precision), image_size[0] * image_size[1]
    patches = pictures * pixels // patch_size**2
    first = linear(patches, channels * patch_size**2, width)
    forward, free, kept = first, first, pictures * channels * pixels * (size if size < 4 else 0)
    if stem == "convolutional":
        halvings = patch_size.bit_length() - 1
        widths = [max(width >> (halvings - 1 - i), 32) for i in range(halvings)]
        area, inner = pictures * pixels // 4, channels  # the first layer halves by its stride
        for number, outer in enumerate(widths):
            layer = linear(area, 9 * inner, outer)
            forward += layer
            free += layer if number == 0 else 0
            kept += area * outer * 2 * size  # what goes into norm and rectifier
            if number > 0:
                area //= 4
                kept += area * outer * (8 + size)  # where the largest pixels lie, and they
            inner = outer
        forward += linear(patches, inner, width)
    if not trained:
        return Cost(forward=forward)
    backward = 2 * forward - (0 if input_gradient else free)
    return Cost(forward=forward, backward=backward, kept=kept)
