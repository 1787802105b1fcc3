"""Cases of deformable attention that every form must answer alike, and the largest difference of a form.

Run as a program, with ``TRITON_INTERPRET=1``, it prints as JSON how the Triton form differs from the
reference on a CPU, case by case: Triton decides at its import whether it interprets.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from torch import Tensor

from imglish.nn.deformable_attention import DeformableAttention
from imglish.ops.deformable_attention import Form, LevelSizes, deformable_attention, reference_points

RAGGED: LevelSizes = ((3, 5), (2, 1), (1, 1), (4, 4))


@dataclass(frozen=True, kw_only=True)
class DeformableCase:
    """Shapes and dtype; ``spread`` 1 fills the picture, more goes beyond its rim."""

    sizes: LevelSizes = RAGGED
    batch: int = 2
    queries: int = 5
    heads: int = 3
    points: int = 2
    channels: int = 8
    spread: float = 1.5
    dtype: torch.dtype = torch.float32

    def tensors(self, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """Values in ``dtype``; locations and weights in float32, as the module makes them, or in float64."""
        g = torch.Generator().manual_seed(0)
        exact = torch.float64 if self.dtype == torch.float64 else torch.float32
        samples = (self.batch, self.queries, self.heads, len(self.sizes), self.points)
        pixels = sum(height * width for height, width in self.sizes)
        values = torch.randn(self.batch, pixels, self.heads, self.channels, generator=g)
        places = (torch.rand(*samples, 2, generator=g) - 0.5) * self.spread + 0.5
        weights = torch.randn(samples, generator=g).flatten(3).softmax(-1).view(samples)
        return values.to(device, self.dtype), places.to(device, exact), weights.to(device, exact)


CASES: dict[str, DeformableCase] = {
    "ragged levels, some points outside": DeformableCase(),
    "all points far outside": DeformableCase(spread=40.0),
    "24 channels, one level, one point": DeformableCase(sizes=((4, 6),), points=1, channels=24),
    "48 channels, three points, several programs": DeformableCase(points=3, channels=48, queries=17),
    "one channel, one query": DeformableCase(channels=1, queries=1, batch=1),
    "float64": DeformableCase(channels=3, dtype=torch.float64),
    "bfloat16": DeformableCase(channels=24, dtype=torch.bfloat16),
    "float16": DeformableCase(channels=24, dtype=torch.float16),
    "no pictures": DeformableCase(batch=0),
    "no queries": DeformableCase(queries=0),
}

# Relative to the largest number. Same sums in another order and another rounding of the places (a few float32
# ulp of a coordinate below 6 pixels); 16 bits are rounded once, at the end, to either side: one ulp.
ROUNDING = {torch.float64: 1e-13, torch.float32: 5e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}


def answers(case: DeformableCase, form: Form, device: str = "cpu") -> dict[str, Tensor]:
    """Output and gradients of a form."""
    leaves = [x.requires_grad_() for x in case.tensors(device)]
    output = deformable_attention(leaves[0], case.sizes, leaves[1], leaves[2], form=form)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    output.backward(cotangent)
    grads = [x.grad if x.grad is not None else torch.zeros_like(x) for x in leaves]
    return dict(zip(("output", "values", "locations", "weights"), (output.detach(), *grads), strict=True))


def difference(ours: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest expected number; infinite where shape or dtype differ."""
    if ours.shape != expected.shape or ours.dtype != expected.dtype:
        return float("inf")
    if not expected.numel():
        return 0.0
    largest = expected.double().abs().max().clamp(min=1e-30)
    return ((ours.double() - expected.double()).abs().max() / largest).item()


def differences(case: DeformableCase, form: Form, device: str = "cpu") -> dict[str, float]:
    """Of output and gradients, from the reference form on the same device."""
    ours, expected = answers(case, form, device), answers(case, "reference", device)
    return {name: difference(ours[name], expected[name]) for name in expected}


def one_graph(form: Form, device: str = "cpu") -> dict[str, float]:
    """The module compiled whole, forward and backward, beside itself; a second graph raises."""
    torch.manual_seed(0)
    module = DeformableAttention(width=12, num_heads=3, num_levels=len(RAGGED), num_points=2, form=form)
    module = module.to(device)
    query = torch.randn(2, 6, 12, device=device)
    values = torch.randn(2, sum(height * width for height, width in RAGGED), 12, device=device)
    places = reference_points(((2, 3),), torch.device(device))
    found = []
    # aot_eager records what inductor would compile, and needs no C++ compiler.
    for run in (module, torch.compile(module, fullgraph=True, backend="aot_eager")):
        module.zero_grad()
        output = run(query, places, values, RAGGED)
        output.square().sum().backward()
        grad = module.sampling_offsets.weight.grad
        assert grad is not None
        found.append((output.detach(), grad.clone()))
    return {name: difference(a, b) for name, a, b in zip(("output", "gradient"), *found, strict=True)}


def main() -> None:
    found = {name: differences(case, "triton") for name, case in CASES.items()}
    found["compiled"] = one_graph("triton")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
