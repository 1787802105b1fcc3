"""Sizes while a graph is exported, where they are symbols that stand for every size.

Whoever exports with dynamic sizes wants one graph for all of them, so nothing may depend on how the sizes of
the example compare: what eager code saves where two sizes are equal is computed in the graph.
"""

from __future__ import annotations

from typing import cast

import torch

Size = tuple[int, int]


def same_size(one: Size, other: Size) -> bool:
    """Whether two sizes (height, width) are known to be equal; never of sizes that are symbols."""
    return not _symbolic(*one, *other) and tuple(one) == tuple(other)


def whole_steps(length: int, step: int) -> int:
    """How many steps cover a length, rounded up.

    Of a symbol the answer is a symbol of its own. The sizes of all that is made of padded pictures are then
    simple multiples of it, and are seen to be equal where they are. As formulas of the picture's side, with
    remainders in them, they are not. Of a length that is such a multiple it is the factor.
    """
    if not _symbolic(length):
        return (length + step - 1) // step
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # takes a second: sympy

    if statically_known_true(length % step == 0):
        return length // step
    steps = (length + step - 1) // step
    symbol = torch.full((), steps, dtype=torch.int64).item()
    torch._check(symbol >= 1)
    return cast(int, symbol)  # int() would ask for its value


def _symbolic(*lengths: int) -> bool:
    return torch.compiler.is_exporting() and any(isinstance(length, torch.SymInt) for length in lengths)
