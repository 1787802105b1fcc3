"""Linear layers through oneDNN: where torch would ask MKL on a CPU, the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from imglish.nn.linear import Linear
from imglish.ops.linear import linear

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN, so that nothing differs"
)

INPUTS, OUTPUTS = 192, 320
# Sums of 192 products of float32 in another order: a few ulp of numbers whose parts are no larger.
ROUNDING = 2e-6


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


class Called(TorchDispatchMode):
    """Names of the operators called inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def uses_onednn(run: Callable[[], object]) -> bool:
    with Called() as called:
        run()
    return "mkldnn._linear_pointwise.default" in called.names


def largest_difference(ours: Tensor, expected: Tensor) -> float:
    assert ours.shape == expected.shape and ours.dtype == expected.dtype
    return ((ours - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(
    "x",
    [
        numbers(300, INPUTS),
        numbers(2, 150, INPUTS),
        numbers(2, 2, 100, INPUTS),
        numbers(2, INPUTS, 150).transpose(1, 2),
        numbers(2, 200, INPUTS + 9)[:, 50:, 4 : INPUTS + 4],
        numbers(1, INPUTS).expand(300, -1),
    ],
    ids=["rows", "tokens", "four dimensions", "transposed", "a part", "repeated"],
)
@pytest.mark.parametrize("with_bias", [True, False])
def test_numbers_are_torchs(x: Tensor, with_bias: bool) -> None:
    weight, bias = numbers(OUTPUTS, INPUTS), numbers(OUTPUTS) if with_bias else None
    with torch.inference_mode():
        assert uses_onednn(lambda: linear(x, weight, bias))
        assert largest_difference(linear(x, weight, bias), F.linear(x, weight, bias)) < ROUNDING


def test_weights_need_not_lie_in_rows_nor_begin_a_tensor() -> None:
    x, bias = numbers(300, INPUTS), numbers(OUTPUTS)
    for weight in (numbers(INPUTS, OUTPUTS).T, numbers(OUTPUTS + 40, INPUTS)[40:]):
        with torch.inference_mode():
            assert uses_onednn(lambda weight=weight: linear(x, weight, bias))  # type: ignore[misc]
            assert largest_difference(linear(x, weight, bias), F.linear(x, weight, bias)) < ROUNDING


def test_gradients_are_torchs() -> None:
    x, weight = numbers(300, INPUTS).requires_grad_(), numbers(OUTPUTS, INPUTS).requires_grad_()
    found = torch.autograd.grad(linear(x, weight).square().sum(), (x, weight))
    expected = torch.autograd.grad(F.linear(x, weight).square().sum(), (x, weight))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_trained_layer_forgets_nothing_without_gradients() -> None:
    """After a step the layer answers with its new weights: nothing of the old ones is kept."""
    layer, x = Linear(INPUTS, OUTPUTS), numbers(300, INPUTS)
    with torch.inference_mode():
        before = layer(x)
    layer(x).square().mean().backward()
    with torch.no_grad():
        for parameter in layer.parameters():
            assert parameter.grad is not None
            parameter.sub_(parameter.grad)
        after = layer(x)
    assert largest_difference(after, F.linear(x, layer.weight, layer.bias)) < ROUNDING
    assert not torch.allclose(after, before, atol=1e-4)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch's own switch sets all of oneDNN's flags
@pytest.mark.parametrize("case", ["gradient", "float64", "bfloat16", "small", "empty", "off", "autocast"])
def test_all_else_is_left_to_torch(case: str) -> None:
    rows = {"small": 8, "empty": 0}.get(case, 300)
    dtype = {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(case, torch.float32)
    x, weight, bias = (
        t.to(dtype) for t in (numbers(rows, INPUTS), numbers(OUTPUTS, INPUTS), numbers(OUTPUTS))
    )
    with (
        torch.set_grad_enabled(case == "gradient"),
        torch.backends.mkldnn.flags(enabled=False) if case == "off" else nullcontext(),
        torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"),
    ):
        assert not uses_onednn(lambda: linear(x, weight, bias))
        assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))


def test_an_exported_layer_is_a_standard_one() -> None:
    layer = Linear(INPUTS, OUTPUTS).eval()
    with torch.no_grad():
        program = torch.export.export(layer, (numbers(300, INPUTS),))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert called == {"aten.linear.default"}


def test_a_compiled_layer_is_one_graph() -> None:
    layer, x = Linear(INPUTS, OUTPUTS).eval(), numbers(300, INPUTS)
    with torch.no_grad():
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
        assert largest_difference(compiled, layer(x)) < ROUNDING
