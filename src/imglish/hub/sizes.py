"""The config of a model, read from the shapes of its weights (our names)."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from torch import Tensor

from imglish.errors import CheckpointError
from imglish.hub.official_file import Config, PictureRange
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.embeddings import POSITION_OFFSET
from imglish.models.detectors.vit_detector import ViTDetectorConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig
from imglish.models.vit.config import PatchAggregationConfig, RelativePositions, ViTConfig
from imglish.models.vit.model import Pooling
from imglish.models.vit_adapter.presets import UNIPERCEIVER_EPS
from imglish.models.vqkd.config import VqkdConfig

log = logging.getLogger(__name__)

State = Mapping[str, Tensor]

# Widths of published models and their heads; every other released size has heads of 64 features, too.
_PUBLISHED_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1408: 16}
_HEAD_WIDTH = 64
# Blocks after which BEiT v2 takes the patches of its second way, by the blocks there are (PRETRAINING.md).
_PUBLISHED_EARLY_LAYERS = {12: 9, 24: 21}
_LATE_LAYERS = 3
_NUM_PREFIX_ROWS = POSITION_OFFSET + 1
_NUM_CLASS_OFFSETS = 3  # rows of a table of relative positions that concern the class token


class Hints(NamedTuple):
    """What shapes cannot tell; None where nobody says.

    Args:
        num_heads: Attention heads.
        image_size: (height, width) of the pictures that the position tables were made for.
        pooling: How a BEiT reads its class.
        decoder_heads: Attention heads of a visual tokenizer's decoder.
        early_layers: Blocks after which BEiT v2's pretraining takes patches for the class token.
        pictures: The range of the pictures that a BEiT, a segmenter or a detector was trained on.
        labels: Names of a segmenter's or detector's classes.
        official: Name of the official detector that it is.
    """

    num_heads: int | None = None
    image_size: tuple[int, int] | None = None
    pooling: Pooling | None = None
    decoder_heads: int | None = None
    early_layers: int | None = None
    pictures: PictureRange | None = None
    labels: tuple[str, ...] | None = None
    official: str | None = None


def hints_of(config: Config, pooling: Pooling | None = None) -> Hints:
    """What a reader of the weights cannot see in their shapes."""
    match config:
        case VqkdConfig(encoder=encoder, decoder_heads=decoder_heads):
            return Hints(encoder.num_heads, encoder.image_size, None, decoder_heads)
        case ViTSegmenterConfig(vit=vit) | ViTDetectorConfig(vit=vit):
            return Hints(vit.num_heads, vit.image_size)
        case _:
            return Hints(config.num_heads, config.image_size, pooling)


def beit3_config(state: State, hints: Hints, asked: tuple[int, int] | None, where: str) -> Beit3Config:
    """Sizes of a `Beit3Encoder`.

    Args:
        state: Its state dict; the text side may be missing.
        hints: What is known besides.
        asked: (height, width) that the model shall take; decides where the grid is not square.
        where: The file, for messages.

    Raises:
        CheckpointError: A tensor that tells a size is missing, or a size stays open.
    """
    stem, patch_size = _stem(state, "vision_embedding.", where)
    positions = tensor_of(state, "vision_embedding.positions.weight", where, num_dims=2)
    num_rows, width = positions.shape
    split = "blocks.0.attention.query.vision.weight" in state
    text = state.get("text_embedding.positions.weight")
    words = state.get("text_embedding.words.weight")
    defaults = Beit3Config()
    return Beit3Config(
        image_size=image_size_of_patches(num_rows - _NUM_PREFIX_ROWS, patch_size, hints, asked, where),
        patch_size=patch_size,
        stem=stem,
        vocab_size=defaults.vocab_size if words is None else len(words),
        max_text_tokens=defaults.max_text_tokens if text is None else len(text) - POSITION_OFFSET,
        width=width,
        depth=count_blocks(state, "blocks."),
        num_heads=hints.num_heads or published_heads(width, where),
        feed_forward_width=len(
            tensor_of(state, "blocks.0.feed_forward.vision.fc1.weight", where, num_dims=2)
        ),
        split_attention=split,
        sub_norm=any(name.startswith("blocks.0.attention.inner_norm.") for name in state),
        num_fusion_layers=sum(name.endswith("feed_forward.fusion.fc1.weight") for name in state),
        output_norm=any(name.startswith("norm.") for name in state),
    )


def vit_config(state: State, hints: Hints, asked: tuple[int, int] | None, where: str) -> ViTConfig:
    """Sizes of a `ViT`; arguments and errors as of `beit3_config`.

    One with a bias on all projections is DeiT's, AugReg's, MAE's or DINOv2's, or with a norm of the embedding
    Uni-Perceiver's; any other is a BEiT.
    """
    stem, patch_size = _stem(state, "", where)
    class_token, all_biases = "class_token" in state, "blocks.0.attention.qkv.bias" in state
    embedding_norm = "embedding_norm.weight" in state
    sized, num_dims = ("blocks.0.norm1.weight", 1) if all_biases else ("class_token", 3)
    width = tensor_of(state, sized, where, num_dims=num_dims).shape[-1]
    table, relative = _relative_table(state)
    positions = state.get("positions")
    num_heads = hints.num_heads or (published_heads(width, where) if table is None else table.shape[1])
    class_position = not embedding_norm
    if positions is not None:
        num_rows = tensor_of(state, "positions", where, num_dims=3).shape[1]
        class_position &= class_token or not _is_grid(num_rows, patch_size, hints)
        num_patches = num_rows - int(class_position)
        image_size = image_size_of_patches(num_patches, patch_size, hints, asked, where)
    elif table is not None:
        image_size = image_size_of_offsets(len(table), patch_size, hints, asked, where)
    else:
        raise CheckpointError(f"{where}: no position table; expected positions or relative positions")
    hidden = len(tensor_of(state, "blocks.0.feed_forward.fc1.weight", where, num_dims=2))
    first = "patches.proj.weight" if stem == "linear" else "patches.proj.linear.weight"
    defaults = ViTConfig()
    return ViTConfig(
        image_size=image_size,
        patch_size=patch_size,
        in_channels=tensor_of(state, first, where, num_dims=4).shape[1],
        stem=stem,
        width=width,
        depth=count_blocks(state, "blocks."),
        num_heads=num_heads,
        mlp_ratio=hidden / width,
        absolute_positions=positions is not None,
        relative_positions=relative,
        # Its start; the weights say where it went.
        layer_scale=0.1 if "blocks.0.scale1" in state and not embedding_norm else 0.0,
        layer_scale_from_zero="blocks.0.scale1" in state and embedding_norm,
        class_token=class_token,
        class_position=class_position,
        attention_bias="all" if all_biases else "query_value",
        norm_eps=UNIPERCEIVER_EPS if embedding_norm else defaults.norm_eps,
        output_norm="norm.weight" in state if all_biases else True,
        rescale_outputs=not all_biases,
        window_padding="projected" if all_biases and not embedding_norm else "input",
        position_resampling="size" if all_biases else "scale",
        embedding_norm=embedding_norm,
        time_positions=len(state["time_positions"]) if "time_positions" in state else 0,
    )


def _is_grid(num_rows: int, patch_size: int, hints: Hints) -> bool:
    """Whether so many positions are those of patches alone: of the picture as told, else of a square one."""
    if hints.image_size is not None:
        return hints.image_size[0] // patch_size * (hints.image_size[1] // patch_size) == num_rows
    return math.isqrt(num_rows) ** 2 == num_rows


def aggregation_config(state: State, depth: int, hints: Hints, where: str) -> PatchAggregationConfig | None:
    """How the class token of a `ViTForMaskedImageModeling` gathers the picture; None where it does not.

    Args:
        state: Its state dict.
        depth: Blocks of its ViT.
        hints: What is known besides.
        where: The file, for messages.

    Raises:
        CheckpointError: The hints name a block that is not there.
    """
    num_blocks = count_blocks(state, "class_blocks.")
    own_head = any(name.startswith(("class_norm.", "class_token_head.")) for name in state)
    if not num_blocks and not own_head:
        return None
    early_layers = hints.early_layers or _PUBLISHED_EARLY_LAYERS.get(depth)
    if early_layers is None:
        early_layers = max(1, depth - _LATE_LAYERS)
        log.warning(
            "%s: patches taken after block %d of %d, %d before the last as in the released models; weights "
            "do not say it",
            where,
            early_layers,
            depth,
            depth - early_layers,
        )
    if early_layers > depth:
        raise CheckpointError(
            f"{where}: patches taken after block {early_layers} of {depth}; expected one that is there; "
            "get the file anew"
        )
    return PatchAggregationConfig(early_layers=early_layers, num_blocks=num_blocks, shared_head=not own_head)


def vqkd_config(state: State, hints: Hints, asked: tuple[int, int] | None, where: str) -> VqkdConfig:
    """Sizes of a `Vqkd`; arguments and errors as of `beit3_config`."""
    encoder = {name.removeprefix("encoder."): w for name, w in state.items() if name.startswith("encoder.")}
    width = tensor_of(state, "decoder.class_token", where, num_dims=3).shape[-1]
    codebook = tensor_of(state, "quantizer.codebook", where, num_dims=2)
    hidden = len(tensor_of(state, "decoder.blocks.0.feed_forward.fc1.weight", where, num_dims=2))
    return VqkdConfig(
        encoder=vit_config(encoder, hints, asked, where),
        decoder_width=width,
        decoder_depth=count_blocks(state, "decoder.blocks."),
        decoder_heads=hints.decoder_heads or published_heads(width, where),
        decoder_mlp_ratio=hidden / width,
        codebook_size=codebook.shape[0],
        codebook_dim=codebook.shape[1],
        teacher_dim=len(tensor_of(state, "to_teacher.2.weight", where, num_dims=2)),
    )


def tensor_of(state: State, name: str, where: str, *, num_dims: int) -> Tensor:
    """A tensor that tells sizes; `CheckpointError` where it is missing or has other dimensions."""
    if name not in state:
        raise CheckpointError(
            f"{where}: {name} is missing, which tells a size of the model; get the file anew"
        )
    if state[name].dim() != num_dims:
        raise CheckpointError(
            f"{where}: {name} has shape {tuple(state[name].shape)}, expected {num_dims} dimensions; "
            "get the file anew"
        )
    return state[name]


def count_blocks(state: State, prefix: str) -> int:
    """One more than the largest number that follows a prefix with its dot; 0 where none does."""
    found = (re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in state)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _stem(state: State, prefix: str, where: str) -> tuple[Literal["linear", "convolutional"], int]:
    """Kind of patch embedding, and side of a patch in pixels."""
    linear, beside = f"{prefix}patches.proj.weight", f"{prefix}patches.proj.linear.weight"
    shape = tensor_of(state, linear if beside not in state else beside, where, num_dims=4).shape
    if shape[2] != shape[3]:
        raise CheckpointError(f"{where}: patches of shape {tuple(shape[2:])}; expected square ones")
    return "linear" if beside not in state else "convolutional", shape[3]


def _relative_table(state: State) -> tuple[Tensor | None, RelativePositions]:
    if "relative_positions.table" in state:
        return state["relative_positions.table"], "shared"
    if "blocks.0.attention.relative_positions.table" in state:
        return state["blocks.0.attention.relative_positions.table"], "per_block"
    return None, "none"


def published_heads(width: int, where: str) -> int:
    """Attention heads of the released models of a width; of others assumed, aloud, 64 features each.

    Raises:
        CheckpointError: The width is no multiple of that.
    """
    if width in _PUBLISHED_HEADS:
        return _PUBLISHED_HEADS[width]
    if width % _HEAD_WIDTH:
        raise CheckpointError(
            f"{where}: the number of attention heads is not to be seen in weights of width {width}, which is "
            f"no multiple of {_HEAD_WIDTH}; pass num_heads"
        )
    log.warning(
        "%s: %d attention heads assumed (%d features each, as in the released models); weights do not say it",
        where,
        width // _HEAD_WIDTH,
        _HEAD_WIDTH,
    )
    return width // _HEAD_WIDTH


def image_size_of_patches(
    num_patches: int, patch_size: int, hints: Hints, asked: tuple[int, int] | None, where: str
) -> tuple[int, int]:
    """The pictures' (height, width) that gives so many patches: as told, else square, else as asked.

    Raises:
        CheckpointError: None of them does.
    """
    side = math.isqrt(max(num_patches, 0))
    square = (side * patch_size, side * patch_size)
    for size in _candidates(hints, square, asked):
        if size[0] // patch_size * (size[1] // patch_size) == num_patches:
            return size
    raise _unclear(f"{num_patches} patches", where)


def image_size_of_offsets(
    num_rows: int, patch_size: int, hints: Hints, asked: tuple[int, int] | None, where: str
) -> tuple[int, int]:
    """The same from a table of relative positions, which has (2 rows - 1) x (2 columns - 1) offsets.

    The table has the three rows of the class token besides.

    Raises:
        CheckpointError: No size gives so many.
    """
    offsets = num_rows - _NUM_CLASS_OFFSETS
    side = (math.isqrt(max(offsets, 0)) + 1) // 2 * patch_size
    for size in _candidates(hints, (side, side), asked):
        rows, columns = size[0] // patch_size, size[1] // patch_size
        if (2 * rows - 1) * (2 * columns - 1) == offsets:
            return size
    raise _unclear(f"{offsets} offsets between patches", where)


def _candidates(
    hints: Hints, square: tuple[int, int], asked: tuple[int, int] | None
) -> Iterable[tuple[int, int]]:
    if hints.image_size is not None:
        return (hints.image_size,)
    return (square,) if asked is None else (square, asked)


def _unclear(what: str, where: str) -> CheckpointError:
    return CheckpointError(
        f"{where}: {what} are neither a square grid nor the one expected; "
        "pass the image_size (height, width) they were made for"
    )
