"""Segmenters as files: the numbers of the model, sizes that were never traced, what the files say.

Recording a graph takes seconds of a processor for every enlargement of a map: the models are as small as they
can be, and the ones that show most run by default.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from imglish.cli.main import main
from imglish.errors import CheckpointError, ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.export import ScoredPixels, export_model, fixed_sizes
from imglish.models.beit3.config import Beit3Config
from imglish.models.segmenters.build import build_segmenter
from imglish.models.segmenters.config import (
    Mask2FormerConfig,
    SegmenterConfig,
    SemanticFpnConfig,
    UPerNetConfig,
)
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.baseline import PlainViT
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.models.vit_adapter.padding import pad_images
from imglish.ops.pooling import grid_means
from imglish.ops.windows import merge_windows, partition_windows

NAMES = ("sky", "fish", "star")
FPN = SemanticFpnConfig(neck_width=8, head_width=8)
UPERNET = UPerNetConfig(head_width=8, auxiliary_width=0)
MASK2FORMER = Mask2FormerConfig(
    width=16, num_queries=4, num_pixel_layers=1, num_layers=1, num_heads=2, pixel_feed_forward_width=16,
    feed_forward_width=16, num_groups=4,
)  # fmt: skip
ADAPTER = ViTAdapterConfig(
    num_interactions=1, num_extra_extractors=0, stem_width=8, num_heads=2, injector_scale=0.5
)
# Warnings of the exporter about its own parts.
pytestmark = pytest.mark.filterwarnings("ignore")


def tiny(backbone: str, head: SegmenterConfig, *, depth: int = 1) -> LoadedRun:
    """A segmenter of 32 features, of weights that make every part count."""
    torch.manual_seed(0)
    kind, _, plain = backbone.partition("/")
    model: nn.Module
    if kind == "beit3":
        config = Beit3Config(width=32, depth=depth, num_heads=2, image_size=(64, 64))
        model = segmenter_on(config, ADAPTER, head, num_classes=len(NAMES))
        settings: Any = config
    else:
        preset = presets.vit("tiny", pretrained_size=64)
        if kind == "beit":
            preset = presets.beit("tiny", "segmentation", image_size=64)
        settings = replace(preset, width=32, depth=depth, num_heads=2)
        vit = ViT(settings)
        dense = PlainViT(vit, out_blocks=(0,)) if plain else ViTAdapter(vit, ADAPTER)
        model = build_segmenter(dense, 32, head, num_classes=len(NAMES))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return LoadedRun(
        kind="semantic_segmentation", model=model.eval(), config=settings, text=None, labels=NAMES,
        settings={"pictures": "imagenet"},
    )  # fmt: skip


def in_onnxruntime(path: Path, images: Tensor) -> Tensor:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["scores"], {"images": images.numpy()})[0])


@torch.no_grad()
def assert_same(found: Tensor, run: LoadedRun, images: Tensor) -> None:
    expected = ScoredPixels(run.model)(images)
    assert found.shape == expected.shape == (len(images), len(NAMES), *images.shape[-2:])
    # float32 with other orders of sums; the bound is the one promised.
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        ("vit/plain", FPN),
        pytest.param("vit/plain", MASK2FORMER, marks=pytest.mark.slow),
        pytest.param("vit/plain", UPERNET, marks=pytest.mark.slow),
        pytest.param("vit", FPN, marks=pytest.mark.slow),
        pytest.param("vit", UPERNET, marks=pytest.mark.slow),
        pytest.param("vit", MASK2FORMER, marks=pytest.mark.slow),
        pytest.param("beit3", UPERNET, marks=pytest.mark.slow),
        pytest.param("beit3", MASK2FORMER, marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_one_file_takes_every_size(backbone: str, head: SegmenterConfig, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    run = tiny(backbone, head)
    done = export_model(run, tmp_path / "model.onnx", size=(96, 160))
    assert (done.height, done.width) == (0, 0)
    for batch, height, width in ((1, 64, 64), (3, 77, 131), (2, 224, 32), (1, 16, 16)):
        images = torch.randn(batch, 3, height, width)
        assert_same(in_onnxruntime(tmp_path / "model.onnx", images), run, images)


@pytest.mark.slow
def test_torchs_own_format_takes_every_size(tmp_path: Path) -> None:
    run = tiny("vit", UPERNET)
    export_model(run, tmp_path / "model.pt2", format="torch_export", size=(96, 160))
    program = torch.export.load(tmp_path / "model.pt2").module()
    for batch, height, width in ((1, 64, 64), (3, 77, 131), (1, 16, 16)):
        images = torch.randn(batch, 3, height, width)
        assert_same(program(images), run, images)


@pytest.fixture(scope="module")
def beit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a BEiT, whose relative positions take one size."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    path = tmp_path_factory.mktemp("beit") / "deep" / "model.onnx"
    export_model(tiny("beit/plain", FPN), path, source="a tiny one")
    return path


def test_relative_positions_take_one_size_and_any_batch(beit: Path) -> None:
    run = tiny("beit/plain", FPN)
    assert fixed_sizes(run.model) == "it has relative positions"
    images = torch.randn(3, 3, 64, 64)
    assert_same(in_onnxruntime(beit, images), run, images)
    with pytest.raises(Exception, match="Got: 96 Expected: 64"):  # onnxruntime's own class of errors
        in_onnxruntime(beit, torch.randn(1, 3, 96, 64))


def test_the_file_says_what_it_is_and_needs_standard_operators_only(beit: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(beit)
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"} and not model.functions
    told = {entry.key: entry.value for entry in model.metadata_props}
    beside = json.loads(beit.with_suffix(".json").read_text())
    assert json.loads(told["classes"]) == beside["classes"] == list(NAMES)
    assert json.loads(told["mean"]) == beside["mean"] == [0.485, 0.456, 0.406]
    assert told["source"] == beside["source"] == "a tiny one" and told["scores"] == "logits"
    assert (beside["height"], beside["width"]) == (64, 64) and beside["error"] < 1e-4
    assert sorted(path.name for path in beit.parent.iterdir()) == ["model.json", "model.onnx"]


def test_what_cannot_be_exported_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    target = tmp_path / "new" / "model.onnx"
    run = tiny("vit", FPN)
    with pytest.raises(CheckpointError, match="a captioning model; expected a segmenter or detector"):
        export_model(replace(run, kind="captioning"), target)
    with pytest.raises(ConfigError, match="size is 64 x 8; expected at least 16 pixels"):
        export_model(run, target, size=(64, 8))
    assert not target.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "model.pt"], "target must end in .onnx for --format onnx; got model.pt"),
        (["nowhere", "m.onnx", "--format", "torch_export"], "target must end in .pt2"),
        (["nowhere", "model.onnx"], "nowhere: neither a model's name nor a file or run folder"),
        (["nowhere", "here.onnx"], "here.onnx: is there already; add --overwrite"),
    ],
)
def test_mistakes_in_the_command_are_said(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.onnx").touch()
    assert main(["export", *arguments]) in (1, 2)
    told = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in told


@pytest.mark.parametrize("size", [(6, 6), (7, 11), (2, 3), (12, 5)])
@pytest.mark.parametrize("cells", [1, 2, 3, 6])
def test_pooling_in_a_graph_is_that_of_torch(cells: int, size: tuple[int, int]) -> None:
    class Pool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return grid_means(x, cells)

    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(Pool(), (x,)).module()
    torch.testing.assert_close(program(x), nn.functional.adaptive_avg_pool2d(x, cells))


def test_windows_in_a_graph_take_every_size() -> None:
    class Windows(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            x = pad_images(images)[:, :, ::16, ::16].permute(0, 2, 3, 1)
            means = partition_windows(x, (3, 4)).mean(dim=1, keepdim=True).expand(-1, 12, -1)
            return merge_windows(means, (3, 4), (x.shape[1], x.shape[2]))

    free = {2: torch.export.Dim("height", min=16), 3: torch.export.Dim("width", min=16)}
    program = torch.export.export(
        Windows(), (torch.randn(2, 3, 80, 120),), dynamic_shapes=(free,), strict=False,
        prefer_deferred_runtime_asserts_over_guards=True,
    ).module()  # fmt: skip
    for size in ((96, 128), (75, 140), (48, 64), (16, 200)):
        x = torch.randn(2, 3, *size)
        torch.testing.assert_close(program(x), Windows()(x))
