"""BEiT-3's vision side goes to timm's own models and comes back, through files, with the same features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from imglish.cli.main import main
from imglish.hub.load import load_model, read_weights
from imglish.hub.timm_weights import timm_weights
from imglish.hub.weights import fill
from imglish.models.beit3.encoder import Beit3Encoder
from tests.hub.official_files import (
    CLASSIFICATION,
    DEPTH,
    GRID,
    NUM_CLASSES,
    PATCH,
    RETRIEVAL,
    VQA,
    WIDTH,
    random_state,
    saved,
    shapes,
    shrunk,
)

SIZE = (GRID * PATCH, GRID * PATCH)
# float32, the same sums in another order: timm joins queries, keys and values in one product.
TOLERANCE = 1e-5
NAMES = ("beit3_base_patch16_224", "beit3_large_patch16_224")


def tiny(name: str, **settings: Any) -> nn.Module:
    """timm's model of that name, smaller; what makes it a BEiT-3 stays as timm has it."""
    model: nn.Module = timm.create_model(
        name, img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=1, **settings
    )
    return model.eval()


def pictures(size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_timm_opens_the_converted_file_and_sees_the_same(name: str, tmp_path: Path) -> None:
    source, target = saved(shrunk(RETRIEVAL), tmp_path / "file.pth"), tmp_path / "timm.safetensors"
    assert main(["convert", str(source), str(target), "--to", "timm-vision"]) == 0
    model: Any = tiny(name, num_classes=0, global_pool="token", checkpoint_path=str(target))
    encoder = load_model(source).model.get_submodule("encoder")
    assert isinstance(encoder, Beit3Encoder)
    assert_close(model.forward_features(pictures()), encoder(pictures()).vision)
    assert_close(model(pictures()), encoder(pictures()).vision[:, 0])


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_timm_comes_back_and_sees_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = tiny(name, num_classes=0, global_pool="token")
    for parameter in model.parameters():  # timm's own start is so small that much would look equal
        parameter.normal_(std=0.2)
    weights = timm_weights(model, "timm's")
    assert weights.kind == "backbone" and weights.vision_only
    encoder = fill(weights)
    assert isinstance(encoder, Beit3Encoder)
    assert_close(encoder(pictures()).vision, model.forward_features(pictures()))
    save_file(model.state_dict(), tmp_path / "timm.safetensors")
    ours = tmp_path / "ours.safetensors"
    assert main(["convert", str(tmp_path / "timm.safetensors"), str(ours), "--to", "imglish"]) == 0
    assert_close(load_model(ours).model(pictures()).vision, model.forward_features(pictures()))
    again = tmp_path / "again.safetensors"
    assert main(["convert", str(ours), str(again), "--to", "timm-vision"]) == 0
    first, last = model.state_dict(), load_file(again)
    assert first.keys() == last.keys() and all(torch.equal(first[key], last[key]) for key in first)


@torch.no_grad()
def test_classes_are_the_same_there_and_after_the_way_back(tmp_path: Path) -> None:
    source, target = saved(shrunk(CLASSIFICATION), tmp_path / "file.pth"), tmp_path / "timm.safetensors"
    assert main(["convert", str(source), str(target), "--to", "timm-vision"]) == 0
    model = tiny(NAMES[0], num_classes=NUM_CLASSES, global_pool="avg", checkpoint_path=str(target))
    assert_close(model(pictures()), load_model(source).model(pictures()))
    assert_close(load_model(target).model(pictures()), load_model(source).model(pictures()))


def test_a_vqa_model_has_no_output_norm_for_timm(tmp_path: Path) -> None:
    source, target = saved(shrunk(VQA), tmp_path / "file.pth"), tmp_path / "timm.safetensors"
    assert main(["convert", str(source), str(target), "--to", "timm-vision"]) == 0
    model = tiny(NAMES[0], num_classes=0, global_pool="token")
    missing = model.load_state_dict(load_file(target), strict=False)
    assert sorted(missing.missing_keys) == ["norm.bias", "norm.weight"] and not missing.unexpected_keys


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    ("key_list", "name"),
    [
        ("beit3_base_patch16_384_retrieval", NAMES[0]),
        ("beit3_large_patch16_224_imageclassification", NAMES[1]),
    ],
)
def test_the_full_sizes_see_the_same(key_list: str, name: str, tmp_path: Path) -> None:
    source, target = saved(random_state(shapes(key_list)), tmp_path / "file.pth"), tmp_path / "t.safetensors"
    assert main(["convert", str(source), str(target), "--to", "timm-vision"]) == 0
    weights = read_weights(source)
    size = weights.config.image_size  # type: ignore[union-attr]
    classifies = weights.kind == "image_classification"
    settings: dict[str, Any] = {"num_classes": 1000 if classifies else 0}
    settings["global_pool"] = "avg" if classifies else "token"
    model: Any = timm.create_model(name, img_size=size, checkpoint_path=str(target), **settings).eval()
    ours: Any = fill(weights)
    expected = ours(pictures(size)) if classifies else ours.encoder(pictures(size)).vision
    found = model(pictures(size)) if classifies else model.forward_features(pictures(size))
    # 24 blocks of random weights without training's restraint enlarge roundings.
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
