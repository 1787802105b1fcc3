"""Official names of ATSS and GFL map to ours one to one, and back; numbers of parameters are equal."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from imglish.errors import CheckpointError
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.one_stage_weights import one_stage_map
from imglish.models.detectors.vit_detector import ViTDetectorConfig, to_official, to_ours, vit_detector
from tests.models.vit_adapter.test_official import empty, official_shapes, settings, shapes_of
from tests.parity.one_stage_keys import differences, is_one_stage, main, read_config

LISTS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("official_one_stage.json").read_text())


@pytest.mark.parametrize("name", LISTS)
def test_official_names_and_ours_map_one_to_one(name: str) -> None:
    assert is_one_stage(LISTS[name]) and differences(LISTS[name]) == []


@pytest.mark.parametrize("name", LISTS)
def test_the_official_settings_are_the_defaults(name: str) -> None:
    config, num_classes, width = read_config(LISTS[name]["state_except_backbone"])
    assert config == OneStageConfig(kind=config.kind) and (num_classes, width) == (80, 384)


@pytest.mark.parametrize("name", LISTS)
def test_whole_detectors_have_the_official_names_shapes_and_totals(name: str) -> None:
    content = LISTS[name]
    detector, num_classes, _ = read_config(content["state_except_backbone"])
    family, vit, adapter = settings(content["backbone"])
    config = ViTDetectorConfig(
        family=family, vit=vit, adapter=adapter, detector=detector, num_classes=num_classes
    )
    with torch.device("meta"):
        model = vit_detector(config)
    official = {f"backbone.{name}": shape for name, shape in official_shapes(content["backbone"]).items()}
    official |= {name: tuple(shape) for name, shape in content["state_except_backbone"].items()}
    ours = to_ours(empty(official), family, detector, has_adapter=True)
    assert shapes_of(ours) == shapes_of(model.state_dict())
    assert shapes_of(to_official(model.state_dict(), config)) == official
    assert sum(parameter.numel() for parameter in model.parameters()) == content["n_params"]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("edit", ["drop", "reshape", "rename"])
def test_a_name_or_a_shape_that_differs_is_told(name: str, edit: str) -> None:
    content = deepcopy(LISTS[name])
    shapes = content["state_except_backbone"]
    key = "bbox_head.scales.3.scale"
    shape = shapes.pop(key)
    if edit != "drop":
        shapes[key if edit == "reshape" else f"{key}s.more"] = [*shape, 1, 1] if edit == "reshape" else shape
    assert differences(content)


def test_a_folder_of_lists_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, content = next(iter(LISTS.items()))
    (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "SUMMARY.json").write_text("{}")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{name}: ok\n"
    (tmp_path / "wrong.json").write_text(json.dumps({**content, "n_params": 1}))
    assert main([str(tmp_path)]) == 1


def test_what_belongs_to_no_part_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"bbox_head\.atss_cls\.bias"):
        one_stage_map(OneStageConfig(kind="gfl")).to_ours({"bbox_head.atss_cls.bias": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"head\.extra"):
        one_stage_map(OneStageConfig()).to_official({"head.extra": torch.zeros(1)})
