"""The released segmenters of ViT-Adapter: names, shapes and wrappings of their files, what they compute."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import imglish
from imglish.cli.convert import run as convert_command
from imglish.decoding.masks import class_scores
from imglish.errors import CheckpointError
from imglish.hub.convert import to_imglish, to_official
from imglish.hub.load import load_model, read_weights
from imglish.hub.manifest import find
from imglish.hub.weights import backbone_of, empty_model, fill
from imglish.models.segmenters.config import Mask2FormerConfig, SemanticFpnConfig, UPerNetConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig, vit_segmenter
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter import presets
from tests.hub.official_files import same, without_numbers
from tests.models.vit_adapter.test_official import official_shapes

SIDE = 64
CLASSES = ("sky", "fish", "star")
HEADS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "models" / "segmenters" / "official_heads.json").read_text()
)
# Released files whose names and shapes are all listed: of the head, and of the backbone.
LISTED = {
    "upernet_deit_adapter_tiny_512_160_ade20k": (
        "upernet_deit_adapter_tiny_512_160k_ade20k",
        "seg_ViTAdapter_upernet_deit_adapter_tiny_512_160k_ade20k",
    ),
    "mask2former_beit_adapter_base_512_40k_cocostuff10k": (
        "mask2former_beit_adapter_base_512_40k_cocostuff10k_ss",
        "seg_BEiTAdapter_mask2former_beit_adapter_base_512_40k_cocostuff10k_ss",
    ),
}
UPERNET = UPerNetConfig(head_width=8, auxiliary_width=4)
MASK2FORMER = Mask2FormerConfig(
    width=32, num_queries=5, num_pixel_layers=1, num_layers=2, num_heads=2, pixel_feed_forward_width=12,
    feed_forward_width=20, num_groups=32,
)  # fmt: skip


def small(vit: ViTConfig) -> ViTConfig:
    """Heads of 64 features, as in the released models."""
    size = (SIDE, SIDE)
    return replace(vit, width=64, depth=4, num_heads=1, mlp_ratio=2.0, image_size=size)


def configs() -> Mapping[str, ViTSegmenterConfig]:
    """Each form of the official segmentation tree, small."""
    slim: dict[str, Any] = {"num_heads": 2, "stem_width": 8}
    plain = ViTSegmenterConfig(
        family="vit",
        vit=small(presets.vit("base")),
        adapter=replace(presets.vit_adapter("base", "segmentation"), **slim),
        segmenter=UPERNET,
        num_classes=len(CLASSES),
    )
    beit = replace(
        plain,
        family="beit",
        vit=small(presets.beit("base", "segmentation")),
        adapter=replace(presets.beit_adapter("base", "segmentation"), **slim),
        segmenter=MASK2FORMER,
    )
    return {
        "ViT": plain,
        "ViT with Semantic FPN": replace(plain, segmenter=SemanticFpnConfig(neck_width=16, head_width=8)),
        "light": replace(plain, adapter=replace(presets.light_adapter("base"), **slim)),
        "plain ViT": replace(plain, adapter=None),
        "BEiT": beit,
        "plain BEiT": replace(beit, adapter=None, segmenter=UPERNET),
        "Uni-Perceiver": replace(
            plain,
            family="uniperceiver",
            vit=small(presets.uniperceiver("base")),
            adapter=replace(presets.uniperceiver_adapter("base", "segmentation"), **slim),
        ),
    }


CONFIGS = configs()


def built(config: ViTSegmenterConfig) -> torch.nn.Module:
    """A model in evaluation mode whose numbers are all of some size, running statistics included."""
    torch.manual_seed(0)
    model = vit_segmenter(config)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                positive = name.endswith("running_var")
                tensor.copy_(
                    0.5 + torch.rand_like(tensor) if positive else tensor + 0.2 * torch.randn_like(tensor)
                )
    return model.eval()


def official(config: ViTSegmenterConfig) -> dict[str, Tensor]:
    return to_official(to_imglish(built(config).state_dict(), where="file"))


def mmcv_file(path: Path, state: Mapping[str, Tensor], classes: tuple[str, ...] | None = CLASSES) -> Path:
    """What mmcv saves: weights among settings, classes, the optimizer, and a best score of NumPy's."""
    meta: dict[str, Any] = {"epoch": 1, "iter": 160, "hook_msgs": {"best_score": np.float64(0.5)}}
    if classes is not None:
        meta |= {"CLASSES": list(classes), "PALETTE": [[0, 1, 2]] * len(classes)}
    torch.save(
        {"meta": meta, "state_dict": dict(state), "optimizer": {"state": {}, "param_groups": []}}, path
    )
    return path


def images() -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", LISTED)
def test_a_released_file_has_the_names_and_shapes_of_the_official_model(name: str) -> None:
    head, backbone = LISTED[name]
    file = find(name)
    assert file is not None and isinstance(file.config, ViTSegmenterConfig)
    shapes = {key: tuple(shape) for key, shape in HEADS[head]["state_except_backbone"].items()}
    shapes |= {f"backbone.{key}": shape for key, shape in official_shapes(backbone).items()}
    weights = to_imglish(without_numbers(shapes), where=name)
    assert asdict(weights.config) == asdict(file.config)
    assert {key: tuple(w.shape) for key, w in to_official(weights).items()} == shapes
    parameters = sum(parameter.numel() for parameter in empty_model(weights).parameters())
    assert parameters == HEADS[head]["n_params"]


@torch.no_grad()
@pytest.mark.parametrize("form", CONFIGS)
def test_an_official_file_is_read_computes_the_same_and_comes_back(form: str, tmp_path: Path) -> None:
    config, state = CONFIGS[form], official(CONFIGS[form])
    path = mmcv_file(tmp_path / "a_model.pth.tar", state)
    weights = read_weights(path)
    assert weights.config == config and same(to_official(weights), state)
    run = load_model(path)
    assert run.kind == "semantic_segmentation" and run.labels == CLASSES
    torch.testing.assert_close(
        class_scores(run.model(images())), class_scores(built(config)(images())), rtol=0, atol=0
    )


@pytest.mark.parametrize("form", ["ViT", "BEiT"])
@pytest.mark.parametrize("missing", ["a tensor of the backbone", "a tensor of the head"])
def test_every_tensor_is_needed_and_none_is_left_over(form: str, missing: str) -> None:
    state = official(CONFIGS[form])
    beginning = "backbone.interactions.2." if "backbone" in missing else "decode_head."
    name = [key for key in state if key.startswith(beginning)][-1]
    with pytest.raises(CheckpointError, match="^file: .*missing"):
        to_imglish({key: w for key, w in state.items() if key != name}, where="file")
    with pytest.raises(CheckpointError, match="^file: .*unexpected"):
        to_imglish({**state, f"{name}x": state[name]}, where="file")


@torch.no_grad()
def test_a_zipped_file_is_read_and_leaves_nothing_behind(tmp_path: Path) -> None:
    state = official(CONFIGS["BEiT"])
    inner = mmcv_file(tmp_path / "inner.pth.tar", state)
    path = tmp_path / "a_model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(inner, "folder/a_model.pth.tar")
        archive.writestr("folder/README.md", "words")
    weights = read_weights(path)
    assert weights.where == str(path) and same(to_official(weights), state) and weights.labels == CLASSES
    assert {found.name for found in tmp_path.iterdir()} == {"inner.pth.tar", "a_model.zip"}

    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a_model.zip: folder/a_model.pth.tar cannot be unpacked \("):
        read_weights(path)


@pytest.mark.parametrize("names", [(), ("a.pth", "b.pth")])
def test_an_archive_without_the_one_file_of_weights_is_refused(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "a_model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("README.md", *names):
            archive.writestr(name, "words")
    with pytest.raises(
        CheckpointError, match=f"zip archive with {len(names)} files of weights; expected one"
    ):
        read_weights(path)


def test_code_in_a_zipped_file_is_not_run_and_told_by_the_archives_name(tmp_path: Path) -> None:
    inner, path = tmp_path / "a_model.pth", tmp_path / "a_model.zip"
    torch.save({"state_dict": {"x": zipfile.Path}}, inner)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, inner.name)
    with pytest.raises(
        CheckpointError, match=r"a_model.zip: holds zipfile.*Path, which is code and is not run"
    ):
        read_weights(path)


def test_classes_are_those_of_the_file_and_stay_where_it_is_converted(tmp_path: Path) -> None:
    state = official(CONFIGS["ViT"])
    path = mmcv_file(tmp_path / "a_model.pth", state)
    target, back = tmp_path / "ours.safetensors", tmp_path / "official.safetensors"
    convert_command([str(path), str(target), "--to", "imglish"])
    assert load_model(target).labels == CLASSES
    convert_command([str(target), str(back), "--to", "official"])
    assert same(to_official(read_weights(back)), state) and read_weights(back).labels == CLASSES
    # Without: numbers, or a list beside the file.
    bare = mmcv_file(tmp_path / "bare.pth", state, None)
    assert load_model(bare).labels == ("#0", "#1", "#2")
    (tmp_path / "classes.txt").write_text("a\nb\nc")
    assert load_model(bare).labels == ("a", "b", "c")
    with pytest.raises(CheckpointError, match="names 2 classes, its head tells 3"):
        read_weights(mmcv_file(tmp_path / "wrong.pth", state, CLASSES[:2]))


@torch.no_grad()
@pytest.mark.parametrize("form", ["ViT", "BEiT", "Uni-Perceiver"])
def test_another_picture_size_resamples_positions_as_the_model_does_by_itself(
    form: str, tmp_path: Path
) -> None:
    path = mmcv_file(tmp_path / "a_model.pth", official(CONFIGS[form]))
    wide = load_model(path, image_size=(96, 160))
    assert wide.config.image_size == (96, 160)
    pictures = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        class_scores(wide.model(pictures)), class_scores(load_model(path).model(pictures))
    )


def test_a_picture_is_segmented_in_the_range_of_training(tmp_path: Path) -> None:
    """AugReg's large segmenter maps pixels to [-1, 1]; which file it is, its name tells."""
    state = official(CONFIGS["ViT"])
    name = "upernet_augreg_adapter_large_512_160k_ade20k"
    run = load_model(mmcv_file(tmp_path / f"{name}.pth.tar", state))
    assert run.settings["pictures"]["range"] == "model"
    assert run.config.image_size == (512, 512)  # of the official crops, not of the table of positions
    run = load_model(mmcv_file(tmp_path / "a_model.pth", state), image_size=SIDE)
    assert run.settings["pictures"]["range"] == "imagenet"
    picture = np.random.default_rng(0).integers(0, 255, (40, 90, 3), dtype=np.uint8)
    classes, names = imglish.Predictor(run).segment(picture)
    assert classes.shape == (40, 90) and names == CLASSES


def test_blocks_share_one_index_of_relative_positions() -> None:
    model = fill(to_imglish(official(CONFIGS["BEiT"]), where="file"))
    indices = {buffer.data_ptr() for name, buffer in model.named_buffers() if name.endswith(".index")}
    assert len(indices) == 1


def test_a_segmenter_is_no_backbone_and_others_are_no_segmenters() -> None:
    state = official(CONFIGS["ViT"])
    with pytest.raises(CheckpointError, match="file: a segmenter, which is no backbone"):
        backbone_of(to_imglish(state, where="file"))
    others = {name: w for name, w in state.items() if name.startswith("backbone.")}
    others["pose_head.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="file: a ViT-Adapter with pose_head; expected the decode_head"):
        to_imglish(others, where="file")
