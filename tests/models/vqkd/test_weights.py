from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from imglish.errors import CheckpointError
from imglish.models.vit.config import ViTConfig
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.models.vqkd.weights import from_official, to_official
from tests.models.vqkd.test_model import CONFIG

KEYS = Path(__file__).parents[2] / "parity" / "data" / "keys"
# Of each released tokenizer: depth of the decoder, features of the teacher.
OFFICIAL = {
    "vqkd_encoder_base_decoder_3x768x12_clip": (3, 512),
    "vqkd_encoder_base_decoder_1x768x12_clip": (1, 512),
    "vqkd_encoder_base_decoder_1x768x12_dino": (1, 768),
}


def shapes(state: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_names_and_ours_map_one_to_one(name: str) -> None:
    listed = json.loads((KEYS / f"{name}.json").read_text())
    expected = listed["parameters"] | listed["buffers"]
    depth, teacher_dim = OFFICIAL[name]
    config = VqkdConfig(encoder=ViTConfig(), decoder_depth=depth, teacher_dim=teacher_dim)
    with torch.device("meta"):
        ours = Vqkd(config).state_dict()
        theirs = {key: torch.empty(shape) for key, shape in expected.items()}
        assert shapes(from_official(theirs)) == shapes(ours)
        assert shapes(to_official(ours)) == expected


def test_there_and_back_is_the_same_but_for_the_counter_that_only_we_have() -> None:
    model = Vqkd(CONFIG)
    model.quantizer.start(torch.randn(4, 50, 8))
    model.quantizer.idle_updates.fill_(3)
    state = model.state_dict()
    back = from_official(to_official(state))
    assert back.keys() == state.keys()
    assert back["quantizer.idle_updates"].sum() == 0
    kept = state.keys() - {"quantizer.idle_updates"}
    assert all(torch.equal(back[key], state[key]) for key in kept)


def test_teacher_and_loss_of_an_official_training_file_are_left_out() -> None:
    official = to_official(Vqkd(CONFIG).state_dict())
    extra = {"teacher_model.visual.proj": torch.zeros(1), "scaling_layer.mean": torch.zeros(1)}
    assert from_official(official | extra).keys() == from_official(official).keys()


def test_an_unknown_name_is_an_error_that_names_it() -> None:
    official = to_official(Vqkd(CONFIG).state_dict())
    with pytest.raises(CheckpointError, match=r"encoder\.blocks\.0\.adapter\.weight"):
        from_official(official | {"encoder.blocks.0.adapter.weight": torch.zeros(1)})
