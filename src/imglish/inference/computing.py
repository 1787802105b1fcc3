"""In which precision a predictor computes, and whether its blocks are compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, TypeVar, cast

import torch
from torch import nn

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

M = TypeVar("M", bound=Callable[..., Any])
_MOST_GRAPHS = 64  # pictures, texts and captions, with and without padding, in upper and lower blocks


def computing(method: M) -> M:
    """A method without gradients, its products in the ``precision`` of its object on its ``device_type``."""

    @wraps(method)
    def compute(self: Any, *arguments: Any, **options: Any) -> Any:
        lower = self.precision != "fp32"
        with torch.no_grad(), torch.autocast(self.device_type, DTYPES[self.precision], enabled=lower):
            return method(self, *arguments, **options)

    return cast(M, compute)


def compile_blocks(model: nn.Module) -> None:
    """Have the Transformer blocks of a model compiled when they are first run, for any batch and length."""
    torch._dynamo.config.recompile_limit = max(_MOST_GRAPHS, torch._dynamo.config.recompile_limit)
    for part in model.modules():
        blocks = getattr(part, "blocks", None)
        block: Any
        for block in blocks if isinstance(blocks, nn.ModuleList) else ():
            block.compile(dynamic=True)
            if hasattr(block, "extend"):  # BEiT-3's way in for pictures alone and for captions
                block.extend = torch.compile(block.extend, dynamic=True)
