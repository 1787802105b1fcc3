"""Official names of necks and heads map to ours one to one, and back; numbers of parameters are equal."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from imglish.errors import CheckpointError
from imglish.models.segmenters.build import build_segmenter
from imglish.models.segmenters.config import SetrPupConfig, UPerNetConfig
from imglish.models.segmenters.weights import head_map
from tests.parity.segmentation_keys import differences, is_segmenter, main

# Lists of the official configs, without their backbones.
LISTS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("official_heads.json").read_text())


@pytest.mark.parametrize("name", LISTS)
def test_official_names_and_ours_map_one_to_one(name: str) -> None:
    assert is_segmenter(LISTS[name]) and differences(LISTS[name]) == []


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


def test_setr_maps_to_names_of_its_own_and_back() -> None:
    """There is no official list; names are those of the library that the official configs use."""
    config = SetrPupConfig(head_width=4, auxiliary_width=3)
    state = build_segmenter(nn.Identity(), 5, config, num_classes=2).state_dict()
    weight_map = head_map(config)
    official = weight_map.to_official(state)
    assert {"decode_head.norm.weight", "decode_head.up_convs.3.0.conv.weight"} <= official.keys()
    back = weight_map.to_ours(official)
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


def test_what_belongs_to_no_head_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"decode_head\.extra\.weight"):
        head_map(UPerNetConfig()).to_ours({"decode_head.extra.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"head\.extra"):
        head_map(UPerNetConfig()).to_official({"head.extra": torch.zeros(1)})
