"""Every parameter of the official models has exactly one name of ours, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from imglish.models.beit3 import weights
from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.config import Beit3Config, beit3_base, beit3_large
from imglish.models.beit3.heads import (
    Beit3ForCaptioning,
    Beit3ForMaskedDataModeling,
    Beit3ForRetrieval,
    Beit3ForVqa,
)
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.models.vqkd.weights import from_official, to_official
from imglish.models.weight_map import WeightMap

FOLDER = Path(__file__).parent / "data" / "keys"
KEYS = sorted(FOLDER.glob("beit3_*.json"))


def build(name: str) -> tuple[nn.Module, WeightMap]:
    """The model that a key list belongs to, without weights."""
    _, size, _, side, task = name.split("_")
    make = {"base": beit3_base, "large": beit3_large}[size]
    config: Beit3Config = make(image_size=(int(side), int(side)))
    with torch.device("meta"):
        if task == "vqav2":
            return Beit3ForVqa(replace(config, output_norm=False), num_answers=3129), weights.VQA_MAP
        if task == "retrieval":
            return Beit3ForRetrieval(config), weights.RETRIEVAL_MAP
        if task == "nlvr2":
            return Beit3ForNlvr2(config), weights.NLVR2_MAP
        if task == "imageclassification":
            model = Beit3ForImageClassification(replace(config, output_norm=False), num_classes=1000)
            return model, weights.IMAGE_CLASSIFICATION_MAP
        if task == "captioning":
            return Beit3ForCaptioning(config), weights.CAPTIONING_MAP
        return Beit3ForMaskedDataModeling(config, codebook_size=8192), weights.PRETRAINING_MAP


@pytest.mark.parametrize("path", KEYS, ids=lambda path: path.stem)
def test_official_names_and_ours_map_one_to_one(path: Path) -> None:
    official = json.loads(path.read_text())
    model, weight_map = build(path.stem)
    ours = shapes(model.state_dict())
    expected = official["parameters"]
    assert {weight_map.our_name(name): shape for name, shape in expected.items()} == ours
    assert {weight_map.official_name(name): shape for name, shape in ours.items()} == expected
    assert sum(parameter.numel() for parameter in model.parameters()) == official["total_parameters"]


def test_names_of_the_visual_tokenizer_map_one_to_one() -> None:
    official = json.loads((FOLDER / "vqkd_encoder_base_decoder_3x768x12_clip.json").read_text())
    expected = official["parameters"] | official["buffers"]
    with torch.device("meta"):
        ours = Vqkd(VqkdConfig()).state_dict()
        theirs = {name: torch.empty(shape) for name, shape in expected.items()}
    assert shapes(from_official(theirs)) == shapes(ours)
    assert shapes(to_official(ours)) == expected


def shapes(state: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in state.items()}
