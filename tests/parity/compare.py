"""How far our numbers are from the recorded ones, and whether that is near enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.parity.case import Check

# DESIGN.md, parity cases: float32 rounding of two orders of summation stays below these.
FORWARD_TOLERANCE = 1e-4
LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
# A gradient that is zero in theory (a key's bias) is rounding noise of the others: this share of the largest.
GRADIENT_NOISE = 1e-6


class Difference(NamedTuple):
    """Largest absolute difference, the same over the largest reference value, and the verdict."""

    absolute: float
    relative: float
    ok: bool


_WRONG = Difference(float("inf"), float("inf"), False)


def compare(check: Check) -> Difference:
    """Hold our numbers against the recorded ones, by the rule of the check's kind."""
    if check.kind == "gradient_norm":
        return _compare_gradient_norms(check.ours, check.reference)
    if check.kind == "integer" and not (_is_numeric(check.ours) and _is_numeric(check.reference)):
        return Difference(0.0, 0.0, True) if check.ours == check.reference else _WRONG
    ours, reference = _as_float64(check.ours), _as_float64(check.reference)
    if ours.shape != reference.shape:
        return _WRONG
    absolute, largest = _largest_difference(ours, reference), _largest(reference)
    relative = absolute / largest if largest > 0 else absolute
    if check.kind == "forward":
        return Difference(absolute, relative, relative <= FORWARD_TOLERANCE)
    if check.kind == "loss":
        return Difference(absolute, relative, relative <= LOSS_TOLERANCE)
    return Difference(absolute, relative, absolute <= check.tolerance)  # an integer's tolerance is 0


def gradient_norms(named_parameters: Mapping[str, Tensor]) -> dict[str, float | None]:
    """Norm of each parameter's gradient in float64; None where it received none."""
    return {
        name: None if parameter.grad is None else float(parameter.grad.double().norm())
        for name, parameter in named_parameters.items()
    }


def _compare_gradient_norms(
    ours: Mapping[str, float | None], reference: Mapping[str, float | None]
) -> Difference:
    if ours.keys() != reference.keys():
        return _WRONG
    noise = GRADIENT_NOISE * max((norm for norm in reference.values() if norm is not None), default=0.0)
    absolute = relative = 0.0
    for name, expected in reference.items():
        found = ours[name]
        if found is None or expected is None:
            if found is not expected:
                return _WRONG
            continue
        difference = abs(found - expected)
        if not difference <= noise:  # also true of a NaN
            if difference != difference:
                return _WRONG
            absolute = max(absolute, difference)
            relative = max(relative, difference / expected if expected else float("inf"))
    return Difference(absolute, relative, relative <= GRADIENT_TOLERANCE)


def _is_numeric(value: Any) -> bool:
    try:
        _as_float64(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


def _as_float64(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().cpu().to(torch.float64)


def _largest_difference(ours: Tensor, reference: Tensor) -> float:
    different = ours != reference  # leaves out equal infinities; a NaN differs from everything
    if not different.any():
        return 0.0
    difference = (ours - reference)[different].abs()
    return float("inf") if difference.isnan().any() else float(difference.max())


def _largest(reference: Tensor) -> float:
    finite = reference[reference.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0
