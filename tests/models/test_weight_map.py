from __future__ import annotations

import pytest
import torch

from imglish.errors import CheckpointError
from imglish.models.weight_map import Rule, WeightMap, check_state

MAP = WeightMap(
    (
        Rule("layers.{i}.ffn.{e}.{p}", "blocks.{i}.mlp.{e}.{p}", {"e": {"A": "vision", "B": "text"}}),
        Rule("x", "y"),
    ),
    dropped=(r"teacher\..*",),
)


def test_names_go_there_and_back() -> None:
    state = {"layers.3.ffn.A.weight": torch.ones(1), "x": torch.zeros(2)}
    ours = MAP.to_ours(state)
    assert list(ours) == ["blocks.3.mlp.vision.weight", "y"]
    assert MAP.to_official(ours).keys() == state.keys()


def test_an_unknown_name_is_an_error_that_names_it() -> None:
    with pytest.raises(CheckpointError, match=r"layers\.3\.ffn\.C\.weight"):
        MAP.to_ours({"layers.3.ffn.C.weight": torch.ones(1)})
    with pytest.raises(CheckpointError, match="z"):
        MAP.to_official({"z": torch.ones(1)})


def test_names_dropped_on_purpose_are_left_out() -> None:
    assert MAP.to_ours({"teacher.a.b": torch.ones(1), "x": torch.ones(1)}).keys() == {"y"}


def test_a_state_of_another_architecture_is_refused() -> None:
    expected = {"a": torch.ones(2), "b": torch.ones(3)}
    with pytest.raises(CheckpointError, match=r"run\.pt.*missing b.*unexpected c"):
        check_state({"a": torch.ones(2), "c": torch.ones(3)}, expected, where="run.pt")
    with pytest.raises(CheckpointError, match=r"b has shape \(4,\), the model expects \(3,\)"):
        check_state({"a": torch.ones(2), "b": torch.ones(4)}, expected, where="run.pt")
