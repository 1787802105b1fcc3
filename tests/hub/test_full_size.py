"""Files of the official sizes, every name and shape of them, with random numbers for the learned ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from imglish.hub.convert import convert, to_official
from imglish.hub.load import load_model, read_weights
from imglish.hub.manifest import find
from imglish.hub.state_file import write_state
from imglish.models.beit3.config import Beit3Config
from imglish.models.vit.config import ViTConfig
from tests.hub.answers import NUM_TOKENS, answer
from tests.hub.official_files import FULL_SIZE, random_state, shapes


def answer_shape(kind: str, config: Beit3Config | ViTConfig) -> tuple[int, ...]:
    num_patches = config.grid_size[0] * config.grid_size[1]
    return {
        "masked_data_modeling": (1, 8192 + 64010),
        "image_classification": (1, 1000),
        "nlvr2": (1, 2),
        "vqa": (1, 3129),
        "captioning": (NUM_TOKENS, 64010),
        "retrieval": (1, config.width),
        "masked_image_modeling": (2, 8192),
        "backbone": (1, num_patches, config.width),
    }[kind]


@pytest.mark.slow
@pytest.mark.parametrize("key_list", FULL_SIZE)
def test_a_full_size_file_is_loaded_answers_and_comes_back(key_list: str, tmp_path: Path) -> None:
    file = find(FULL_SIZE[key_list])
    assert file is not None
    # The released pretraining files are said to be in half precision.
    dtype = torch.float16 if "pretrain" in key_list else torch.float32
    official = random_state(shapes(key_list), dtype)
    path = tmp_path / "file.pth"
    torch.save({"model": official}, path)

    weights = read_weights(path)
    back = to_official(weights)
    kept = official.keys() - set(weights.dropped)
    assert kept <= back.keys() <= official.keys()
    assert all(back[name].dtype == dtype and torch.equal(back[name], official[name]) for name in kept)
    del back, official
    if isinstance(weights.config, Beit3Config):
        with torch.device("meta"):
            model = timm.create_model(
                f"beit3_{'large' if '_large_' in key_list else 'base'}_patch16_224",
                img_size=weights.config.image_size,
                num_classes=weights.num_labels if file.kind == "image_classification" else 0,
                global_pool="avg" if file.kind == "image_classification" else "token",
            )
        wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
        if file.kind == "vqa":  # its head normalises
            wanted = {name: shape for name, shape in wanted.items() if not name.startswith("norm.")}
        given = convert(weights, "timm-vision")
        assert {name: tensor.shape for name, tensor in given.items()} == wanted
        del given

    ours = tmp_path / "ours.safetensors"
    write_state(weights.state, weights.hints(), ours)
    del weights
    run = load_model(path)
    said = answer(run)
    if file.kind != "visual_tokenizer":
        assert said.shape == answer_shape(file.kind, run.config)
    del run
    path.unlink()
    torch.testing.assert_close(answer(load_model(ours)), said)
