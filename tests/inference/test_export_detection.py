"""Detectors as files: what the model finds, in sizes that were never traced, where there is nothing too."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imglish.decoding.boxes import DenseSelection, select_boxes
from imglish.errors import CheckpointError, ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.export import export_model
from imglish.inference.export_detection import detector_graph, telling_score, unlikeness
from imglish.models.detectors.config import ProposalConfig
from imglish.models.detectors.one_stage import OneStageDetector, build_one_stage
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter.padding import pad_images
from tests.models.detectors.tiny import CONFIGS, NUM_CLASSES, WIDTH, Strides, detector

NAMES = ("fish", "star", "house")
PICTURES = {
    "scored_scales": [[160, 96]],
    "scored_flip": False,
    "scored_areas": [[-math.inf, math.inf]],
    "range": "imagenet",
}
SELECTION = {"min_score": 0.05, "before_nms": 60, "max_boxes": 20}
SIZES = ((64, 64), (77, 131), (224, 32), (16, 16))  # none is the one traced
pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporter about its own parts


def tiny(kind: str) -> LoadedRun:
    """A detector on a few convolutions, of weights that find something everywhere."""
    model: nn.Module
    torch.manual_seed(0)
    if kind in ("atss", "gfl"):
        config = OneStageConfig(kind="atss" if kind == "atss" else "gfl", width=8, num_convs=1, num_groups=2)
        model = build_one_stage(Strides(), WIDTH, config, num_classes=NUM_CLASSES)
    else:
        own = CONFIGS[kind]  # more proposals than small pictures have
        many = ProposalConfig(before_nms=50, kept=200)
        model = detector(replace(own, rpn=replace(own.rpn, testing=many)))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15)
    settings: dict[str, Any] = {"pictures": PICTURES, "selection": SELECTION}
    return LoadedRun(
        kind="detection", model=model.eval(), config=ViTConfig(image_size=(96, 160)), text=None, labels=NAMES,
        settings=settings,
    )  # fmt: skip


@torch.no_grad()
def objects_of(run: LoadedRun, image: Tensor, min_score: float) -> tuple[Tensor, ...]:
    """What the model itself finds in an image (1, 3, H, W)."""
    size = (image.shape[-2], image.shape[-1])
    if isinstance(run.model, OneStageDetector):
        selection = DenseSelection(**{**SELECTION, "min_score": min_score})
        (cells,) = select_boxes(run.model(pad_images(image)), [size], selection)
        return cells.boxes, cells.scores, cells.labels
    assert isinstance(run.model, TwoStageDetector)
    own = run.model.config
    run.model.config = replace(own, selection=replace(own.selection, min_score=min_score))
    (found,) = run.model(pad_images(image), [size])
    run.model.config = own
    return found.boxes, found.scores, found.labels, found.masks


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """The first rows are the model's objects, the others nothing."""
    count = len(expected[0])
    assert count == int((found[1] > 0).sum())
    for one, other in zip(found, expected, strict=True):
        # float32 with other orders of sums; boxes of up to 224 pixels.
        torch.testing.assert_close(one[:count], other, rtol=1e-4, atol=1e-4)
    assert not found[1][count:].any() and not found[0][count:].any()


def compare(run: LoadedRun, answer: Any) -> None:
    """Compare what ``answer`` gives for an image and a least score with the model."""
    counts = []
    for height, width in SIZES:
        image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        expected = objects_of(run, image, 0.05)
        assert_same(answer(image, 0.05), expected)
        counts.append(len(expected[0]))
    assert min(counts) > 0 and len(set(counts)) > 1  # so that some answers are filled up
    assert not answer(image, 0.9999)[1].any()  # nothing is found, and nothing breaks


@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade", "atss", "gfl"])
def test_what_is_exported_finds_what_the_model_finds(kind: str) -> None:
    run = tiny(kind)
    graph = detector_graph(run)
    with torch.no_grad():
        compare(run, lambda image, least: graph(image, torch.tensor(least)))
    image = torch.zeros(1, 3, 64, 64)
    found = int((graph(image, telling_score(graph, image))[1] > 0).sum())
    assert found >= 20 or telling_score(graph, image) < 1e-6


@pytest.mark.parametrize(
    "kind",
    [
        "mask_rcnn",
        pytest.param("atss", marks=pytest.mark.slow),
        pytest.param("gfl", marks=pytest.mark.slow),
        pytest.param("cascade", marks=pytest.mark.slow),
    ],
)
def test_onnxruntime_finds_what_the_model_finds(kind: str, tmp_path: Path) -> None:
    runtime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    run, path = tiny(kind), tmp_path / "model.onnx"
    done = export_model(run, path, source="a tiny one")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    masks = [] if kind in ("atss", "gfl") else ["masks"]
    assert names == ["boxes", "scores", "labels", *masks]

    def answer(image: Tensor, min_score: float) -> tuple[Tensor, ...]:
        fed = {"images": image.numpy(), "min_score": np.array(min_score, np.float32)}
        return tuple(torch.from_numpy(x) for x in session.run(names, fed))

    compare(run, answer)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"} and not model.functions
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["scores"] == "probabilities" and told["classes"] == list(NAMES)
    assert told["scale"] == [160, 96] and told["min_score"] == 0.05 and told["error"] == done.error < 1e-4
    assert (done.height, done.width) == (0, 0) and len(done.checked) == 2


@pytest.mark.parametrize("kind", ["atss", pytest.param("mask_rcnn", marks=pytest.mark.slow)])
def test_torchs_own_format_finds_what_the_model_finds(kind: str, tmp_path: Path) -> None:
    run = tiny(kind)
    export_model(run, tmp_path / "model.pt2", format="torch_export")
    program = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        compare(run, lambda image, least: program(image, torch.tensor(least)))


def test_detectors_that_are_no_graph_are_refused(tmp_path: Path) -> None:
    target, run = tmp_path / "new" / "model.pt2", tiny("gfl")
    with pytest.raises(ConfigError, match="its non-maximum suppression is linear; expected hard"):
        export_model(tiny("htc"), target, format="torch_export")
    soft = replace(run, settings={**run.settings, "selection": {"nms": {"kind": "gaussian"}}})
    with pytest.raises(ConfigError, match="suppression is gaussian"):
        export_model(soft, target, format="torch_export")
    with pytest.raises(CheckpointError, match="a Strides of objects; expected Mask R-CNN"):
        export_model(replace(run, model=Strides()), target, format="torch_export")
    assert not target.parent.exists()


def test_unlikeness_sees_every_kind_of_mistake() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 50, 60], [0, 0, 0, 0]])
    row = (boxes, torch.tensor([0.9, 0.5, 0.0]), torch.tensor([1, 2, 0]), torch.full((3, 2, 2), 0.5))
    order = torch.tensor([1, 0, 2])
    assert unlikeness(tuple(x[order] for x in row), row, (50, 100)) == 0
    assert unlikeness((boxes + 1, *row[1:]), row, (50, 100)) == pytest.approx(0.01)
    assert unlikeness((boxes, row[1] * 0.8, *row[2:]), row, (50, 100)) == pytest.approx(0.18)
    assert unlikeness((*row[:2], row[2] * 0, row[3]), row, (50, 100)) == math.inf
    assert unlikeness((boxes, row[1].clamp(max=0), *row[2:]), row, (50, 100)) == math.inf
    assert unlikeness((*row[:3], row[3] + 0.25), row, (50, 100)) == pytest.approx(0.25)
    nothing = (boxes, row[1] * 0, *row[2:])
    assert unlikeness(nothing, nothing, (50, 100)) == 0 and unlikeness(row, nothing, (50, 100)) == math.inf
