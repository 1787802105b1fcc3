"""What all batches share."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Base of all batches: tensors (or nested batches) in fields."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Return the same batch with every tensor on ``device``."""
        moved: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device, non_blocking=non_blocking)
            elif isinstance(value, Batch):
                moved[field.name] = value.to(device, non_blocking=non_blocking)
            elif isinstance(value, tuple) and any(isinstance(part, Batch) for part in value):
                moved[field.name] = tuple(part.to(device, non_blocking=non_blocking) for part in value)
        return replace(self, **moved)
