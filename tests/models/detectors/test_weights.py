"""Official names of two-stage detectors map to ours one to one, and back; numbers of parameters are equal."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imglish.errors import CheckpointError
from imglish.models.detectors.config import (
    cascade_mask_rcnn,
    htc,
    htc_objects365,
    mask_rcnn,
    mask_rcnn_upgraded,
)
from imglish.models.detectors.vit_detector import ViTDetectorConfig, to_official, to_ours, vit_detector
from imglish.models.detectors.weights import two_stage_map
from tests.models.vit_adapter.test_official import empty, official_shapes, settings, shapes_of
from tests.parity.two_stage_keys import differences, is_two_stage, main, read_config

# Lists of official configs without their backbones, and the names of those.
LISTS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("official_two_stage.json").read_text())


@pytest.mark.parametrize("name", LISTS)
def test_official_names_and_ours_map_one_to_one(name: str) -> None:
    assert is_two_stage(LISTS[name]) and differences(LISTS[name]) == []


@pytest.mark.parametrize(
    "name",
    [
        "mask_rcnn_deit_adapter_tiny_fpn_3x_coco",
        "mask_rcnn_deit_base_fpn_3x_coco",
        "mask_rcnn_mae_adapter_base_lsj_fpn_25ep_coco",
        "htc++_beitv2_adapter_large_fpn_o365_coco",
    ],
)
def test_whole_detectors_have_the_official_names_shapes_and_totals(name: str) -> None:
    content = LISTS[name]
    detector, num_classes, _ = read_config(content["state_except_backbone"])
    family, vit, adapter = settings(content["backbone"])
    blocks = () if adapter is not None else (2, 5, 8, 11)
    config = ViTDetectorConfig(
        family=family, vit=vit, adapter=adapter, detector=detector, num_classes=num_classes, out_blocks=blocks
    )
    with torch.device("meta"):
        model = vit_detector(config)
    official = {f"backbone.{name}": shape for name, shape in official_shapes(content["backbone"]).items()}
    official |= {name: tuple(shape) for name, shape in content["state_except_backbone"].items()}
    ours = to_ours(empty(official), family, detector, has_adapter=adapter is not None)
    assert shapes_of(ours) == shapes_of(model.state_dict())
    assert shapes_of(to_official(model.state_dict(), config)) == official
    assert sum(parameter.numel() for parameter in model.parameters()) == content["n_params"]


def test_the_official_settings_are_the_presets() -> None:
    presets = {
        "mask_rcnn_deit_adapter_tiny_fpn_3x_coco": mask_rcnn(),
        "cascade_mask_rcnn_deit_adapter_small_fpn_3x_coco": cascade_mask_rcnn(),
        "htc++_beit_adapter_large_fpn_3x_coco": htc(soft_proposals=True),
        "htc++_beitv2_adapter_large_fpn_o365_coco": htc_objects365(),
        "mask_rcnn_mae_adapter_base_lsj_fpn_25ep_coco": mask_rcnn_upgraded(),
    }
    for name, preset in presets.items():
        read, num_classes, _ = read_config(LISTS[name]["state_except_backbone"])
        assert num_classes == 80
        assert (read.box_head, read.mask_head, read.semantic_head) == (
            preset.box_head, preset.mask_head, preset.semantic_head,
        )  # fmt: skip
        assert [stage.stds for stage in read.stages] == [stage.stds for stage in preset.stages]
        assert replace(read.neck, attention_drop_path=0.3) == replace(preset.neck, attention_drop_path=0.3)
        assert (read.interleaved, read.rpn.num_convs) == (preset.interleaved, preset.rpn.num_convs)


@pytest.mark.parametrize("name", LISTS)
def test_a_name_or_a_shape_that_differs_is_told(name: str) -> None:
    for edit in ("drop", "reshape", "rename"):
        content = deepcopy(LISTS[name])
        shapes = content["state_except_backbone"]
        key = next(key for key in reversed(shapes) if key.endswith("weight"))
        shape = shapes.pop(key)
        if edit != "drop":
            shapes[key if edit == "reshape" else f"{key}s.more"] = [*shape[:-1], shape[-1] + 1]
        assert differences(content), edit


def test_a_folder_of_lists_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, content = next(iter(LISTS.items()))
    (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "SUMMARY.json").write_text("{}")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{name}: ok\n"
    (tmp_path / "wrong.json").write_text(json.dumps({**content, "n_params": 1}))
    assert main([str(tmp_path)]) == 1


def test_what_belongs_to_no_head_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"roi_head\.extra\.weight"):
        two_stage_map(htc()).to_ours({"roi_head.extra.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"heads\.extra"):
        two_stage_map(htc()).to_official({"heads.extra": torch.zeros(1)})
