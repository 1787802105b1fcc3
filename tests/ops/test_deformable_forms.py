"""All forms of deformable attention give the same numbers; the Triton form runs in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from imglish.nn.deformable_attention import DeformableAttention
from imglish.ops.deformable_attention import Form, deformable_attention
from tests.ops.deformable_cases import CASES, RAGGED, ROUNDING, DeformableCase, differences, one_graph

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


@pytest.fixture(scope="module")
def interpreted() -> dict[str, dict[str, float]]:
    """Differences of the Triton form, from a process in which Triton interprets."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.ops.deformable_cases"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def check(found: dict[str, float], case: DeformableCase) -> None:
    exact = torch.promote_types(case.dtype, torch.float32)
    # Locations and weights, and so their gradients, have the exact dtype.
    limits = {name: ROUNDING[case.dtype if name in ("output", "values") else exact] for name in found}
    assert not {name: (value, limits[name]) for name, value in found.items() if not value <= limits[name]}


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_the_triton_kernels_equal_the_reference(interpreted: dict[str, dict[str, float]], name: str) -> None:
    check(interpreted[name], CASES[name])


@needs_triton
@pytest.mark.parametrize("values", ["bf16", "fp32"])
def test_the_triton_kernels_compile_for_a_gpu_that_is_not_here(
    values: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down to machine code: the interpreter takes Python that the compiler does not."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from imglish.ops.deformable.triton_kernels import backward_kernel, forward_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    numbers = {
        "NUM_HEADS": 2, "NUM_LEVELS": 2, "NUM_POINTS": 4, "NUM_CHANNELS": 24, "BLOCK_BAGS": 32,
        "BLOCK_CHANNELS": 32, "ACCUMULATE": triton.language.float32,
    }  # fmt: skip
    types: dict[str, object] = dict.fromkeys(numbers, "constexpr") | {"levels": ("i32",) * 6}
    types |= dict.fromkeys(("num_bags", "num_queries", "num_pixels"), "i32")
    types |= dict.fromkeys(("values", "output", "grad_output"), f"*{values}")
    for kernel in (forward_kernel, backward_kernel):
        names = kernel.arg_names
        source = ASTSource(
            fn=kernel,
            signature={name: types.get(name, "*fp32") for name in names},
            constexprs={(names.index(name),): number for name, number in numbers.items()},
        )
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        assert "st.global" in compiled.asm["ptx"] and compiled.asm["cubin"]


@needs_triton
def test_the_triton_form_compiles_to_one_graph(interpreted: dict[str, dict[str, float]]) -> None:
    assert max(interpreted["compiled"].values()) < ROUNDING[torch.float32]


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu_the_triton_kernels_equal_the_reference(name: str) -> None:
    check(differences(CASES[name], "triton", "cuda"), CASES[name])


@pytest.mark.gpu
def test_on_a_gpu_the_triton_form_compiles_to_one_graph() -> None:
    assert max(one_graph("triton", "cuda").values()) < ROUNDING[torch.float32]


@pytest.mark.parametrize("form", ["gather", "export"])
@pytest.mark.parametrize("name", CASES)
def test_sums_of_rows_equal_the_reference(name: str, form: Form) -> None:
    check(differences(CASES[name], form), CASES[name])


@pytest.mark.parametrize("form", ["reference", "gather"])
def test_the_module_compiles_to_one_graph(form: Form) -> None:
    assert max(one_graph(form).values()) < ROUNDING[torch.float32]


@needs_triton
def test_the_triton_form_says_that_it_needs_a_gpu() -> None:
    values, locations, weights = DeformableCase().tensors()
    with pytest.raises(ValueError, match="needs a GPU.*cpu"):
        deformable_attention(values, RAGGED, locations, weights, form="triton")


def test_on_a_cpu_auto_gathers() -> None:
    values, locations, weights = DeformableCase().tensors()
    chosen = deformable_attention(values, RAGGED, locations, weights)
    assert torch.equal(chosen, deformable_attention(values, RAGGED, locations, weights, form="gather"))


@pytest.mark.parametrize("form", ["reference", "gather", "export"])
def test_a_lost_place_loses_its_own_query_alone(form: Form) -> None:
    values, locations, weights = DeformableCase().tensors()
    locations[0, 1] = torch.nan
    output = deformable_attention(values, RAGGED, locations, weights, form=form)
    assert output[0, [0, 2, 3, 4]].isfinite().all() and output[1].isfinite().all()


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    values, locations, weights = DeformableCase().tensors()
    with pytest.raises(ValueError, match="34 pixels.*levels are"):
        deformable_attention(values, ((9, 9), *RAGGED[1:]), locations, weights)
    with pytest.raises(ValueError, match="do not belong to values"):
        deformable_attention(values, RAGGED, locations[:, :, :2], weights)
    with pytest.raises(ValueError, match="do not belong to values"):
        deformable_attention(values, RAGGED, locations, weights[..., :1])


class _OnMaps(nn.Module):
    """Deformable attention to a map and a coarser one, whose sizes are read from the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = DeformableAttention(width=16, num_heads=2, num_levels=2, num_points=3)

    def forward(self, query: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        sizes = tuple((x.shape[2], x.shape[3]) for x in (fine, coarse))
        values = torch.cat([x.flatten(2).transpose(1, 2) for x in (fine, coarse)], dim=1)
        places = query[..., :2].sigmoid()[:, :, None].expand(-1, -1, 2, -1)
        y: Tensor = self.attention(query, places, values, sizes)
        return y


def _maps(height: int, width: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(height)
    shapes = [(batch, 7 + height, 16), (batch, 16, height, width), (batch, 16, height // 2, width // 2)]
    first, second, third = (torch.randn(shape, generator=g) for shape in shapes)
    return first, second, third


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_in_onnx_it_is_standard_operators_and_any_size() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    module = _OnMaps().eval()
    nn.init.normal_(module.attention.sampling_offsets.weight, std=0.3)
    auto = torch.export.Dim.AUTO
    shapes = ({0: auto, 1: auto}, {0: auto, 2: auto, 3: auto}, {0: auto, 2: auto, 3: auto})
    program = torch.onnx.export(
        module, _maps(8, 12), dynamic_shapes=shapes, dynamo=True, optimize=True, verbose=False
    )
    assert program is not None
    assert {node.domain for node in program.model.graph} <= {"", "ai.onnx"}
    buffer = io.BytesIO(program.model_proto.SerializeToString())
    session = runtime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    for height, width, batch in ((8, 12, 2), (6, 10, 3)):
        maps = _maps(height, width, batch)
        (found,) = session.run(None, dict(zip(names, (x.numpy() for x in maps), strict=True)))
        # float32, another order of sums
        torch.testing.assert_close(torch.from_numpy(found), module(*maps), rtol=1e-4, atol=1e-5)
