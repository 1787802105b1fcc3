"""Segmenters and detectors of runs are saved and come back bit for bit; those of no run are refused."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from imglish.hub.detector_run import read_detector
from imglish.hub.load import load_model
from imglish.hub.pretrained import save_pretrained
from imglish.hub.run import LoadedRun
from imglish.hub.transformers_config import plain
from imglish.models.beit3.config import Beit3Config
from imglish.models.segmenters.config import SemanticFpnConfig
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit_adapter.backbone_config import TimmBackboneConfig, backbone_config
from tests.hub.refusals import refusal
from tests.hub.test_detectors import CONFIGS
from tests.inference.test_segmenters import write_run

NAMES = ("sky", "fish", "star")


def detector(form: str, family: str) -> LoadedRun:
    """As `load_run` gives it of a run with these settings."""
    config: Any = CONFIGS[form]
    settings = {
        "kind": "detection",
        "backbone": "vit_adapter",
        "adapter": plain(asdict(config.adapter)),
        "detector": plain(asdict(config.segmenter if form == "panoptic" else config.detector)),
        "pictures": {"range": "imagenet"},
    }
    vit = plain(asdict(config.vit)) | {"kind": family, "output_norm": False, "image_size": [64, 64]}
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = _empty(vit, settings)
    state = {name: torch.randn(w.shape).to(w.dtype) for name, w in shapes.state_dict().items()}
    model, sizes = read_detector(settings | {"model": vit}, state, len(NAMES), Path("run/config.yaml"))
    kind = "panoptic" if form == "panoptic" else "detection"
    if kind == "panoptic":
        settings |= {"panoptic": True, "things": (False, True, True)}
    return LoadedRun(kind=kind, model=model, config=sizes, text=None, labels=NAMES, settings=settings)


def _empty(vit: dict[str, Any], settings: dict[str, Any]) -> nn.Module:
    from imglish.hub.detector_run import build_detector

    return build_detector(backbone_config(vit), settings, len(NAMES))


def assert_same(back: LoadedRun, run: LoadedRun) -> None:
    weights, expected = back.model.state_dict(), run.model.state_dict()
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)  # bit for bit
    assert (back.kind, back.config, back.labels) == (run.kind, run.config, run.labels)
    assert plain(back.settings) == plain(run.settings)


def test_a_segmenter_over_beit3_comes_back(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_run(tmp_path / "run", SemanticFpnConfig(neck_width=8, head_width=8))
    run = load_model(tmp_path / "run")
    back = load_model(save_pretrained(run, tmp_path / "saved"))
    assert_same(back, run)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(back.model(images), run.model(images))
    assert not (tmp_path / "saved" / "config.json").exists()  # transformers has no such model


@pytest.mark.parametrize(
    ("form", "family"),
    [("Mask R-CNN", "vit"), ("Uni-Perceiver", "uniperceiver"), ("panoptic", "beit")],
)
def test_a_detector_over_every_vit_comes_back(form: str, family: str, tmp_path: Path) -> None:
    run = detector(form, family)
    back = load_model(save_pretrained(run, tmp_path / "saved"))
    assert_same(back, run)


def test_a_vit_of_timm_is_refused_as_its_name_is_not_known(tmp_path: Path) -> None:
    head = SemanticFpnConfig(neck_width=8, head_width=8)
    name = TimmBackboneConfig(name="test_vit")
    model = segmenter_on(name, None, head, num_classes=3, out_blocks=(0, 1, 2, 3))
    vit = CONFIGS["Mask R-CNN"].vit
    run = LoadedRun(
        kind="semantic_segmentation", model=model, config=vit, text=None, labels=NAMES,
        settings={"segmenter": asdict(head)},
    )  # fmt: skip
    assert "over a ViT of timm, whose name it does not know" in refusal(
        lambda: save_pretrained(run, tmp_path / "saved")
    )


def test_a_segmenter_of_no_run_is_refused(tmp_path: Path) -> None:
    run = replace(detector("Mask R-CNN", "vit"), settings={"pictures": {"range": "imagenet"}})
    assert not isinstance(run.config, Beit3Config)
    message = refusal(lambda: save_pretrained(run, tmp_path / "saved"))
    assert "which no run has" in message and "imglish convert --to imglish" in message
