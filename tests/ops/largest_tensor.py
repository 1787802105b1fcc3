"""The memory of what is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that an operation gives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = func(*args, **(kwargs or {}))
        made = [part for part in tree_leaves(given) if isinstance(part, torch.Tensor)]
        self.bytes = max([self.bytes, *(_size(part) for part in made)])
        return given


def _size(tensor: Tensor) -> int:
    """Bytes of the numbers that it has of its own: a number that is seen often counts once."""
    numbers = 1
    for length, step in zip(tensor.shape, tensor.stride(), strict=True):
        numbers *= length if step else 1
    return numbers * tensor.element_size()
