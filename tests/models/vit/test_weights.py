from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from imglish.errors import CheckpointError
from imglish.models.vit.config import RelativePositions, ViTConfig
from imglish.models.vit.model import Pooling, ViTForClassification
from imglish.models.vit.weights import classification_map, to_official

KEYS = Path(__file__).parents[2] / "parity" / "data" / "keys"
# Sizes of the official models of those names; both have relative positions in each block.
OFFICIAL: dict[str, dict[str, Any]] = {
    "beit2_finetune_beit_base_patch16_224": {"image_size": (224, 224)},
    "beit1_finetune_beit_large_patch16_512": {
        "image_size": (512, 512), "width": 1024, "depth": 24, "num_heads": 16,
    },
}  # fmt: skip
TINY = ViTConfig(image_size=(16, 24), patch_size=8, width=16, depth=2, num_heads=2)


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_names_and_ours_map_one_to_one(name: str) -> None:
    listed = json.loads((KEYS / f"{name}.json").read_text())
    config = ViTConfig(
        **OFFICIAL[name], absolute_positions=False, relative_positions="per_block", layer_scale=0.1
    )
    with torch.device("meta"):
        model = ViTForClassification(config, 1000)
        official = to_official(model.state_dict(), config, "mean")
    expected = listed["parameters"] | listed["buffers"]
    assert {key: list(tensor.shape) for key, tensor in official.items()} == expected
    assert classification_map("mean").to_ours(official).keys() == model.state_dict().keys()
    assert sum(parameter.numel() for parameter in model.parameters()) == listed["total_parameters"]


@pytest.mark.parametrize("pooling", ["mean", "class_token"])
@pytest.mark.parametrize("relative", ["none", "shared", "per_block"])
def test_there_and_back_is_the_same(pooling: Pooling, relative: RelativePositions) -> None:
    config = ViTConfig(
        image_size=(16, 24), patch_size=8, width=16, depth=2, num_heads=2, relative_positions=relative
    )
    state = ViTForClassification(config, 5, pooling=pooling).state_dict()
    back = classification_map(pooling).to_ours(to_official(state, config, pooling))
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)


def test_a_checkpoint_of_the_other_pooling_is_refused() -> None:
    official = to_official(ViTForClassification(TINY, 5).state_dict(), TINY, "mean")
    with pytest.raises(CheckpointError, match=r"fc_norm.bias, fc_norm.weight"):
        classification_map("class_token").to_ours(official)
