"""Memory of models in use and in fine-tuning, counted on the meta device: no GPU, no weights, seconds.

    python benchmarks/model_memory.py [--json]

Counted are the bytes of all tensors as they come and go in one pass, with the weights. Attention is taken as
fused kernels compute it, whose weights are never there; what kernels work in besides, and the 0.3 to 0.6
GiB that CUDA itself takes, are not counted. A step of training is forward, backward and AdamW, whose
gradients and two moments are there beside the weights, and activations are in float32, too: bf16 autocast,
the default on GPUs, needs less.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from step_memory import CountedBytes
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_large
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval, Beit3ForVqa
from imglish.recipes.segmentation_benchmark import ROWS, build_row

WORDS = 32
GIB = 2**30


class Case(NamedTuple):
    """A model and one pass of it on some pictures."""

    name: str
    pixels: int
    build: Callable[[], nn.Module]
    run: Callable[[Any, int], Tensor]


class FusedAttention(TorchFunctionMode):
    """Stands for a fused kernel: keeps queries, keys, values and the output, and no weights of attention."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            if torch.is_grad_enabled() and query.shape == key.shape:
                return query * key * value
            return torch.empty_like(query)
        return func(*args, **(kwargs or {}))


def cases() -> Iterator[Case]:
    for size, config in {"base": beit3_base, "large": beit3_large}.items():
        yield from _beit3(size, config)
    for head in ("semantic_fpn", "upernet"):
        for size in ("tiny", "small", "base", "large"):
            row = ROWS[f"vit_adapter_{size}_{head}"]

            def build(row: Any = row) -> nn.Module:
                return build_row(row)

            yield Case(f"ViT-Adapter {size}, {head}", 512, build, _segment)


def _beit3(size: str, config: Callable[..., Beit3Config]) -> Iterator[Case]:
    def classify(model: nn.Module, n: int) -> Tensor:
        logits: Tensor = model(_pictures(n, 224))
        return logits

    def ask(model: nn.Module, n: int) -> Tensor:
        logits: Tensor = model(_pictures(n, 480), _words(n))
        return logits

    def judge(model: nn.Module, n: int) -> Tensor:
        logits: Tensor = model(_pictures(n, 224), _pictures(n, 224), _words(n))
        return logits

    def pair(model: nn.Module, n: int) -> Tensor:
        found = model(_pictures(n, 384), _words(n))
        return found.vision @ found.text.T

    def write(model: nn.Module, n: int) -> Tensor:
        # By places instead of a mask of places, whose number the meta device does not know.
        text = model.encoder(_pictures(n, 480), _words(n)).text
        logits: Tensor = model.text_head(text)
        return logits

    def of(side: int, **changes: Any) -> Beit3Config:
        return replace(config(image_size=(side, side)), **changes)

    yield Case(
        f"BEiT-3 {size}, classes", 224,
        lambda: Beit3ForImageClassification(of(224, output_norm=False), num_classes=1000), classify,
    )  # fmt: skip
    yield Case(f"BEiT-3 {size}, statements", 224, lambda: Beit3ForNlvr2(of(224)), judge)
    yield Case(f"BEiT-3 {size}, retrieval", 384, lambda: Beit3ForRetrieval(of(384)), pair)
    yield Case(
        f"BEiT-3 {size}, questions", 480,
        lambda: Beit3ForVqa(of(480, output_norm=False), num_answers=3129), ask,
    )  # fmt: skip
    yield Case(f"BEiT-3 {size}, captions", 480, lambda: Beit3ForCaptioning(of(480)), write)


def _segment(model: nn.Module, n: int) -> Tensor:
    logits = model(_pictures(n, 512))
    if isinstance(logits, Tensor):
        return logits
    first: Tensor = logits[0]
    return first


def _pictures(n: int, side: int) -> Tensor:
    return torch.empty(n, 3, side, side)


def _words(n: int) -> Tensor:
    return torch.empty(n, WORDS, dtype=torch.int64)


def use(case: Case, pictures: int, dtype: torch.dtype) -> float:
    """GiB at the peak of answering, weights included."""
    with torch.device("meta"):
        model = case.build().eval().to(dtype)
        counted = CountedBytes()
        weights = sum(p.numel() * p.element_size() for p in [*model.parameters(), *model.buffers()])
        counted.leave_out([*model.parameters(), *model.buffers()])
        torch.set_default_dtype(dtype)
        try:
            with FusedAttention(), counted, torch.no_grad():
                case.run(model, pictures)
        finally:
            torch.set_default_dtype(torch.float32)
    return (weights + counted.peak) / GIB


def train(case: Case, pictures: int) -> float:
    """GiB at the peak of a step in float32: weights, gradients, moments, and what backward needs."""
    with torch.device("meta"):
        model = case.build().train()
        weights = sum(p.numel() * 4 for p in model.parameters())
        counted = CountedBytes()
        counted.leave_out([*model.parameters(), *model.buffers()])
        with FusedAttention(), counted:
            case.run(model, pictures).sum().backward()
    return (3 * weights + counted.peak) / GIB  # gradients are among what is counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for case in cases():
        with torch.device("meta"):
            parameters = sum(p.numel() for p in case.build().parameters())
        rows.append(
            {
                "model": case.name,
                "pixels": case.pixels,
                "parameters": parameters,
                "use, fp32, 1": use(case, 1, torch.float32),
                "use, bf16, 1": use(case, 1, torch.bfloat16),
                "use, bf16, 16": use(case, 16, torch.bfloat16),
                "train, fp32, 2": train(case, 2),
                "train, fp32, 8": train(case, 8),
            }
        )
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    names = list(rows[0])[3:]
    print("| model | pixels | parameters | " + " | ".join(names) + " |")
    print("|---|---:|---:|" + "---:|" * len(names))
    for row in rows:
        numbers = " | ".join(f"{row[name]:.1f}" for name in names)
        print(f"| {row['model']} | {row['pixels']} | {row['parameters'] / 1e6:.0f}M | {numbers} |")


if __name__ == "__main__":
    main()
