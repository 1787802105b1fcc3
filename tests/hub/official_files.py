"""State dicts in the official layouts with random numbers, whole or shrunk, after the official key lists."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDERS = (Path(__file__).parents[1] / "parity" / "data" / "keys", Path(__file__).parent / "data")

PRETRAINING = "beit3_base_patch16_224_pretrain"
RETRIEVAL = "beit3_base_patch16_384_retrieval"
CAPTIONING = "beit3_base_patch16_480_captioning"
VQA = "beit3_base_patch16_480_vqav2"
NLVR2 = "beit3_base_patch16_224_nlvr2"
CLASSIFICATION = "beit3_base_patch16_224_imageclassification"
BEIT_FINE_TUNED = "beit2_finetune_beit_base_patch16_224"
BEIT_PRETRAINED = "beit2_pretrain_beit_base_patch16_224_8k_vocab_cls_pt"
TOKENIZER = "vqkd_encoder_base_decoder_1x768x12_clip"

# Our name of what each does.
KINDS = {
    PRETRAINING: "masked_data_modeling",
    RETRIEVAL: "retrieval",
    CAPTIONING: "captioning",
    VQA: "vqa",
    NLVR2: "nlvr2",
    CLASSIFICATION: "image_classification",
    BEIT_FINE_TUNED: "image_classification",
    BEIT_PRETRAINED: "masked_image_modeling",
    TOKENIZER: "visual_tokenizer",
}
BEIT3 = (PRETRAINING, RETRIEVAL, CAPTIONING, VQA, NLVR2, CLASSIFICATION)

_BEIT3 = {
    f"beit3_{size}_patch16_{task}": f"beit3_{size}_patch16_{name}"
    for size in ("base", "large")
    for task, name in {
        "224_pretrain": "224",
        "224_imageclassification": "224_in1k",
        "224_nlvr2": "224_nlvr2",
        "480_vqav2": "480_vqa",
        "480_captioning": "480_coco_captioning",
        "384_retrieval": "384_f30k_retrieval",
    }.items()
}
# Key lists of the official sizes, each with a file of the manifest that has those names and shapes.
FULL_SIZE = _BEIT3 | {
    "beit1_finetune_beit_large_patch16_512": "beit_large_patch16_512_pt22k_ft22kto1k",
    "beit2_finetune_beit_base_patch16_224": "beitv2_base_patch16_224_pt1k_ft1k",
    "beit2_pretrain_beit_base_patch16_224_8k_vocab_cls_pt": "beitv2_base_patch16_224_pt1k",
    "beit2_pretrain_beit_large_patch16_224_8k_vocab_cls_pt": "beitv2_large_patch16_224_pt1k",
    "vqkd_encoder_base_decoder_1x768x12_clip": "vqkd_encoder_base_decoder_1x768x12_clip",
    "vqkd_encoder_base_decoder_1x768x12_dino": "vqkd_encoder_base_decoder_1x768x12_dino",
    "vqkd_encoder_base_decoder_3x768x12_clip": "vqkd_encoder_base_decoder_3x768x12_clip",
}
WIDTH, DEPTH, PATCH = 64, 2, 8
GRID = 2  # patches on a side
NUM_WORDS, NUM_TEXT_POSITIONS = 50, 20
NUM_CODES, NUM_ANSWERS, NUM_CLASSES = 11, 7, 5
CODE_DIM, TEACHER_DIM = 6, 10


def shapes(key_list: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an official model, buffers included."""
    path = next(path for folder in FOLDERS if (path := folder / f"{key_list}.json").is_file())
    listed = json.loads(path.read_text())
    return {name: tuple(shape) for name, shape in (listed["parameters"] | listed.get("buffers", {})).items()}


def shrunk(
    key_list: str, *, grid: tuple[int, int] = (GRID, GRID), width: int = WIDTH, num_words: int = NUM_WORDS
) -> dict[str, Tensor]:
    """An official state dict of a base model with fewer and smaller layers, and another grid of patches."""
    return random_state(shrunk_shapes(key_list, grid=grid, width=width, num_words=num_words))


def shrunk_shapes(
    key_list: str, *, grid: tuple[int, int] = (GRID, GRID), width: int = WIDTH, num_words: int = NUM_WORDS
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of `shrunk`."""
    num_patches = grid[0] * grid[1]
    sizes = {
        768: width, 1536: 2 * width, 3072: 4 * width, 2304: 3 * width, 16: PATCH, 12: width // 64,
        64010: num_words, 1024: NUM_TEXT_POSITIONS + 2, 8192: NUM_CODES, 3129: NUM_ANSWERS, 1000: NUM_CLASSES,
        199: num_patches + 3, 579: num_patches + 3, 903: num_patches + 3, 197: num_patches + 1,
        732: (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3, 32: CODE_DIM, 512: TEACHER_DIM,
    }  # fmt: skip
    kept = {name: shape for name, shape in shapes(key_list).items() if _layer(name) < DEPTH}
    return {name: tuple(sizes.get(n, n) for n in shape) for name, shape in kept.items()}


def without_numbers(wanted: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of those shapes that take no memory."""
    return {name: torch.empty(shape, device="meta") for name, shape in wanted.items()}


def _layer(name: str) -> int:
    parts = name.split(".")
    return next(
        (
            int(part)
            for before, part in itertools.pairwise(parts)
            if part.isdigit() and before in ("layers", "blocks")
        ),
        0,
    )


def random_state(wanted: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Random numbers in those shapes: norms about 1, matrices so large that attention is far from uniform."""
    draw = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in wanted.items():
        if name.endswith("relative_position_index"):
            state[name] = torch.zeros(shape, dtype=torch.int64)  # never read
        else:
            scale = 2.0 * math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.3
            state[name] = torch.empty(shape, dtype=dtype).uniform_(-scale, scale, generator=draw)
            if len(shape) == 1 and name.endswith("weight"):
                state[name] += 1.0
    return state


def saved(content: Any, path: Path) -> Path:
    """The file, as ``torch.save`` writes it."""
    torch.save(content, path)
    return path


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two state dicts hold the same names with the same numbers of the same types."""
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a
    )
