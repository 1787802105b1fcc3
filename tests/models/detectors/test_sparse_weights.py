"""Official names of Sparse R-CNN map to ours one to one, and back; numbers of parameters are equal."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from imglish.errors import CheckpointError
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.detectors.sparse_weights import sparse_rcnn_map
from imglish.models.detectors.vit_detector import ViTDetectorConfig, to_official, to_ours, vit_detector
from tests.models.vit_adapter.test_official import empty, official_shapes, settings, shapes_of
from tests.parity.sparse_keys import differences, is_sparse, main, read_config

NAME = "sparse_rcnn_deit_adapter_small_fpn_3x_coco"
CONTENT: dict[str, Any] = json.loads(Path(__file__).with_name("official_sparse_rcnn.json").read_text())[NAME]


def test_official_names_and_ours_map_one_to_one() -> None:
    assert is_sparse(CONTENT) and differences(CONTENT) == []


def test_the_official_settings_are_the_defaults() -> None:
    config, num_classes, width = read_config(CONTENT["state_except_backbone"])
    assert config == SparseRcnnConfig() and (num_classes, width) == (80, 384)


def test_whole_detectors_have_the_official_names_shapes_and_totals() -> None:
    family, vit, adapter = settings(CONTENT["backbone"])
    detector = SparseRcnnConfig()
    config = ViTDetectorConfig(family=family, vit=vit, adapter=adapter, detector=detector, num_classes=80)
    with torch.device("meta"):
        model = vit_detector(config)
    official = {f"backbone.{name}": shape for name, shape in official_shapes(CONTENT["backbone"]).items()}
    official |= {name: tuple(shape) for name, shape in CONTENT["state_except_backbone"].items()}
    ours = to_ours(empty(official), family, detector, has_adapter=True)
    assert shapes_of(ours) == shapes_of(model.state_dict())
    assert shapes_of(to_official(model.state_dict(), config)) == official
    assert sum(parameter.numel() for parameter in model.parameters()) == CONTENT["n_params"] == 109_748_920


@pytest.mark.parametrize("edit", ["drop", "reshape", "rename"])
def test_a_name_or_a_shape_that_differs_is_told(edit: str) -> None:
    content = deepcopy(CONTENT)
    shapes = content["state_except_backbone"]
    key = "roi_head.bbox_head.4.attention.attn.in_proj_bias"
    shape = shapes.pop(key)
    if edit != "drop":
        shapes[key if edit == "reshape" else f"{key}es"] = [*shape, 1] if edit == "reshape" else shape
    assert differences(content)


def test_a_folder_of_lists_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"{NAME}.json").write_text(json.dumps(CONTENT))
    (tmp_path / "SUMMARY.json").write_text("{}")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{NAME}: ok\n"
    (tmp_path / "wrong.json").write_text(json.dumps({**CONTENT, "n_params": 1}))
    assert main([str(tmp_path)]) == 1


def test_what_belongs_to_no_part_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"roi_head\.bbox_head\.fc_cls\.bias"):
        sparse_rcnn_map().to_ours({"roi_head.bbox_head.fc_cls.bias": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"stages\.0\.extra"):
        sparse_rcnn_map().to_official({"stages.0.extra": torch.zeros(1)})
