"""Parts of a joint model as files, and a judge of statements, which no joint run has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from imglish.cli.main import main
from imglish.hub.load import load_model
from imglish.hub.run import LoadedRun
from imglish.inference.export_beit3 import export_parts
from imglish.models.beit3.classification_heads import Beit3ForNlvr2
from tests.inference.test_export_beit3 import CONFIG, SIDE, TOLERANCE

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the exporter about its own parts


def run_onnx(path: Path, **inputs: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: np.asarray(value) for name, value in inputs.items()})
    return torch.from_numpy(found)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()


@torch.no_grad()
def test_a_judge_of_statements(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Beit3ForNlvr2(CONFIG).eval()
    for parameter in model.parameters():  # so that every part counts
        parameter.add_(0.3 * torch.randn_like(parameter))
    run = LoadedRun(
        kind="nlvr2", model=model, config=CONFIG, text=None, labels=("false", "true"),
        settings={"max_text_tokens": 12},
    )  # fmt: skip
    done = export_parts(run, tmp_path / "judge.onnx")
    for rows, length in ((1, 2), (4, 7), (2, 12)):
        left, right = torch.randn(2, rows, 3, SIDE, SIDE)
        ids = torch.randint(4, 45, (rows, length))
        padding = torch.arange(length) >= torch.randint(1, length + 1, (rows, 1))
        found = run_onnx(tmp_path / "judge.onnx", left=left, right=right, token_ids=ids, padding=padding)
        assert_same(found, model(left, right, ids, padding))
        swapped = model(right, left, ids, padding)
        assert (found - swapped).abs().max() > 1e-3  # which picture is left matters
    assert done.labels == ("false", "true") and done.probabilities == "softmax"
    assert done.max_text_tokens == 12 and done.error <= TOLERANCE


@torch.no_grad()
def test_the_command_exports_a_part_of_the_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["export", "world", "classes.onnx", "--part", "image_classification"]
    assert main(command) == 0
    run = load_model("world").parts["image_classification"]
    images = torch.randn(3, 3, 64, 64)
    assert_same(run_onnx(Path("classes.onnx"), images=images), run.model(images))
    told = json.loads(Path("classes.json").read_text())
    assert tuple(told["labels"]) == run.labels and told["source"] == "world"
    refused = {
        "world has several heads; give --part with one of vqa, captioning, retrieval": [],
        "world has no part 'nlvr2'; give --part with one of vqa": ["--part", "nlvr2"],
        "size is 96 x 64; world has several heads for pictures of 64 x 64: leave --size out": [
            "--part", "vqa", "--size", "96", "64",
        ],
    }  # fmt: skip
    for words, options in refused.items():
        assert main(["export", "world", "other.onnx", *options]) == 1
        assert words in " ".join(capsys.readouterr().err.split())
    assert not Path("other.onnx").exists()
