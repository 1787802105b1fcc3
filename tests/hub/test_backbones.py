"""Files of DeiT, AugReg, MAE, DINOv2 and Uni-Perceiver: recognised, complete, and equal to timm's models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer, _load_weights
from torch import Tensor

from imglish.cli.main import main
from imglish.errors import CheckpointError
from imglish.hub.convert import to_imglish, to_official
from imglish.hub.load import load_model, read_weights
from imglish.hub.manifest import find, find_released
from imglish.hub.manifest_backbones import BACKBONE_FILES
from imglish.hub.official_file import OfficialFile
from imglish.hub.sizes import Hints
from imglish.hub.weights import empty_model, fill
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT, ViTForClassification
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.official import adapter_map, to_ours
from tests.hub.official_files import random_state, same, without_numbers
from tests.hub.plain_files import (
    CLASSES,
    DEPTH,
    HEADS,
    PATCH,
    WIDTH,
    assert_same,
    google_arrays,
    pictures,
    timm_vit,
    write,
)
from tests.models.vit_adapter.test_official import official_shapes

FORMS = ("deit", "augreg", "npz", "mae", "mae_tuned", "dinov2")
CLASSIFIERS = ("deit", "augreg", "npz", "mae_tuned")


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_a_file_computes_what_timm_computes(form: str, tmp_path: Path) -> None:
    path, source = write(form, tmp_path)
    run = load_model(path)
    assert run.kind == ("image_classification" if form in CLASSIFIERS else "backbone")
    if form in CLASSIFIERS:
        assert isinstance(run.model, ViTForClassification) and len(run.labels) == CLASSES
        assert_same(run.model(pictures()), source(pictures()))
        return
    assert isinstance(run.model, ViT)
    assert_same(run.model(pictures()), source.forward_features(pictures())[:, 1:])


@torch.no_grad()
def test_timm_reads_the_npz_as_we_do(tmp_path: Path) -> None:
    path, source = write("npz", tmp_path)
    theirs = timm_vit(num_heads=2)
    for parameter in theirs.parameters():
        parameter.zero_()
    _load_weights(theirs, str(path))
    assert_same(load_model(path).model(pictures()), theirs(pictures()))
    assert_same(theirs(pictures()), source(pictures()))


@torch.no_grad()
def test_a_class_token_without_position_gets_one_of_zeros(tmp_path: Path) -> None:
    source = timm_vit(no_embed_class=True)
    weights = to_imglish(source.state_dict(), where="file")
    assert not weights.state["vit.positions"][:, 0].any()
    assert_same(fill(weights)(pictures()), source(pictures()))


def test_what_belongs_to_other_tasks_is_left_out_by_name(tmp_path: Path) -> None:
    path, _ = write("mae", tmp_path)
    assert set(read_weights(path).dropped) == {
        "mask_token", "decoder_pos_embed", "decoder_embed.weight", "decoder_embed.bias",
    }  # fmt: skip
    state = timm_vit().state_dict()
    before_head = {
        "pre_logits.fc.weight": torch.zeros(WIDTH, WIDTH),
        "pre_logits.fc.bias": torch.zeros(WIDTH),
    }
    weights = to_imglish(state | before_head, where="file")
    # The head reads a layer that is not there, so it is none.
    assert weights.kind == "backbone" and set(weights.dropped) == {*before_head, "head.weight", "head.bias"}


def test_a_distilled_deit_loses_its_token_and_both_heads() -> None:
    state = timm_vit().state_dict()
    token = {"dist_token": torch.ones(1, 1, WIDTH), "head_dist.weight": torch.ones(CLASSES, WIDTH)}
    positions = state["pos_embed"]
    two = torch.cat([positions[:, :1], torch.full((1, 1, WIDTH), 9.0), positions[:, 1:]], dim=1)
    weights = to_imglish(state | token | {"pos_embed": two}, where="file")
    assert weights.kind == "backbone" and torch.equal(weights.state["positions"], positions)
    assert set(weights.dropped) == {*token, "head.weight", "head.bias"}


@pytest.mark.parametrize("form", FORMS)
def test_convert_goes_there_and_back(form: str, tmp_path: Path) -> None:
    path, source = write(form, tmp_path)
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.safetensors"
    heads = [] if form != "npz" else ["--num-heads", "2"]
    assert main(["convert", str(path), str(ours), "--to", "imglish"]) == 0
    assert main(["convert", str(ours), str(back), "--to", "official", *heads]) == 0
    again = read_weights(back)
    assert (again.kind, again.config) == (read_weights(path).kind, read_weights(path).config)
    expected = {name: tensor.detach() for name, tensor in source.state_dict().items()}
    assert same(to_official(again), expected)


@torch.no_grad()
def test_a_picture_of_another_shape_is_kept_through_a_conversion() -> None:
    """15 patches and a class token are 16 positions, which are no 4 x 4 patches without one."""
    source = timm_vit(img_size=(3 * PATCH, 5 * PATCH))
    hints = Hints(image_size=(3 * PATCH, 5 * PATCH))
    weights = to_imglish(source.state_dict(), where="file", hints=hints)
    assert weights.config.grid_size == (3, 5)  # type: ignore[union-attr]
    images = torch.rand(1, 3, 3 * PATCH, 5 * PATCH)
    assert_same(fill(weights)(images), source(images))
    again = to_imglish(weights.state, where="file", hints=weights.hints())
    assert again.config == weights.config and same(to_official(again), dict(source.state_dict()))


@pytest.mark.parametrize("converted", [True, False])
def test_a_uni_perceiver_is_read_as_pretrained_and_as_released(converted: bool) -> None:
    config = replace(presets.uniperceiver("base"), width=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=2.0)
    official = uniperceiver_state(config)
    if not converted:
        official = {pretrained_name(name): tensor for name, tensor in official.items()}
        official |= {
            "loss_prepare.temperature": torch.ones(1),
            "token_embed.embeddings.weight": torch.ones(9, 4),
        }
    weights = to_imglish(official, where="file")
    assert weights.config == config and weights.kind == "backbone"
    # The map of the official adapters, which is held against recorded outputs, says the same.
    expected = to_ours(uniperceiver_state(config), adapter_map("uniperceiver"))
    assert same({f"backbone.{name}": w for name, w in weights.state.items()}, expected)
    assert same(to_official(weights), uniperceiver_state(config))
    assert len(weights.dropped) == (0 if converted else 2)


def uniperceiver_state(config: ViTConfig) -> dict[str, Tensor]:
    """The official names of the ViT of a Uni-Perceiver-Adapter, small."""
    listed = official_shapes("seg_UniPerceiverAdapter_upernet_uniperceiver_adapter_large_512_160k_ade20k")
    sizes = {1024: config.width, 3072: 3 * config.width, 4096: 2 * config.width}
    kept = {}
    for name, shape in listed.items():
        block = int(name.split(".")[1]) if name.startswith("layers.") else 0
        if name.startswith(("visual_embed.", "layers.")) and block < config.depth:
            kept[name] = tuple(sizes.get(n, n) for n in shape)
    assert kept
    return random_state(kept)


def pretrained_name(name: str) -> str:
    """The name in the file that ViT-Adapter's authors converted (adapter FACTS, section 7)."""
    embedding = "visual_embed.patch_embed."
    for new, old in (
        (f"{embedding}proj.", "video_embed.embeddings."),
        (embedding, "video_embed.embeddings_st_pos."),
        ("visual_embed.", "video_embed."),
        ("in_proj.", "in_proj_"),
    ):
        name = name.replace(new, old)
    return f"fused_encoder.{name}" if name.startswith("layers.") else name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.0.attn.q_norm.weight": (WIDTH,)}, "q_norm.weight: norms on queries and keys"),
        ({"reg_token": (1, 4, WIDTH)}, "reg_token: register tokens, which our ViT has not"),
        ({"register_tokens": (1, 4, WIDTH)}, "register_tokens: register tokens"),
        ({"blocks.1.mlp.w12.weight": (8, WIDTH)}, "blocks.1.mlp.w12.weight: a gated feed-forward network"),
        ({"norm_pre.weight": (WIDTH,)}, "norm_pre.weight: a norm before the blocks"),
        ({"blocks.0.gamma_1": (WIDTH,)}, "have no rule in the weight map, first: blocks.0.gamma_1"),
        ({"segmentation.weight": (3,)}, "have no rule in the weight map, first: segmentation.weight"),
        ({"blocks.0.norm2.bias": None}, "missing vit.blocks.0.norm2.bias"),
        ({"norm.bias": None}, "missing vit.norm.bias"),
        ({"cls_token": None}, "a head, but neither cls_token nor fc_norm.weight"),
        ({"cls_token": None, "head.weight": None}, "cls_token is missing, whose position is there"),
        ({"blocks.1.mlp.fc1.bias": (7,)}, r"vit.blocks.1.feed_forward.fc1.bias has shape \(7,\)"),
        ({"pos_embed": (1, 20, WIDTH)}, "19 patches are neither a square grid"),
        ({"pos_embed": (17, WIDTH)}, "positions has shape"),
    ],
)
def test_other_parts_and_damaged_tensors_are_named(
    change: dict[str, tuple[int, ...] | None], message: str
) -> None:
    state = dict(timm_vit().state_dict())
    for name, shape in change.items():
        state.pop(name, None)
        if shape is not None:
            state[name] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=message) as error:
        to_imglish(state, where="file")
    assert "\n" not in str(error.value)


def test_a_damaged_npz_is_refused_in_a_line(tmp_path: Path) -> None:
    path, source = write("npz", tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="no .npz of arrays, or cut short"):
        read_weights(path)
    path.write_bytes(whole[:3000] + b"\0" * 200 + whole[3200:])
    with pytest.raises(CheckpointError, match="no .npz of arrays, or cut short"):
        read_weights(path)
    np.savez(path, code=np.array([print], dtype=object))
    with pytest.raises(CheckpointError, match="no .npz of arrays, or cut short .*allow_pickle"):
        read_weights(path)
    np.savez(path, words=np.array(["cls"]))
    with pytest.raises(CheckpointError, match="an array of no number type"):
        read_weights(path)
    for left_out, message in (
        ("Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/kernel", "KeyError: .*_1/key/kernel"),
        ("embedding/bias", "missing vit.patches.proj.bias"),
    ):
        arrays = google_arrays(source)
        del arrays[left_out]
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with pytest.raises(CheckpointError, match=message):
            read_weights(path)
    np.savez(path, **google_arrays(source), **{"conv_root/kernel": np.zeros(3)})  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="no rule in the weight map, first: conv_root/kernel"):
        read_weights(path)


@pytest.mark.parametrize("listed", BACKBONE_FILES, ids=lambda file: file.name)
def test_released_files_have_the_names_of_their_full_size(listed: OfficialFile) -> None:
    """Names and shapes by timm's own model of that size, without numbers."""
    config = listed.config
    assert isinstance(config, ViTConfig)
    if config.embedding_norm:
        large = "seg_UniPerceiverAdapter_upernet_uniperceiver_adapter_large_512_160k_ade20k"
        base = "det_UniPerceiverAdapter_mask_rcnn_uniperceiver_adapter_base_fpn_3x_coco"
        shapes = official_shapes(large if config.depth == 24 else base)
        state = without_numbers(
            {name: shape for name, shape in shapes.items() if name.startswith(("visual_embed.", "layers."))}
        )
    else:
        with torch.device("meta"):
            state = VisionTransformer(
                img_size=config.image_size, patch_size=config.patch_size, embed_dim=config.width,
                depth=config.depth, num_heads=config.num_heads, init_values=config.layer_scale or None,
                num_classes=listed.num_labels or 0,
            ).state_dict()  # fmt: skip
    weights = to_imglish(state, where=listed.name)
    assert weights.kind == listed.kind and isinstance(weights.config, ViTConfig)
    assert replace(weights.config, layer_scale=config.layer_scale) == config
    assert empty_model(weights).state_dict().keys() == weights.state.keys()


def test_a_file_downloaded_by_hand_is_known_by_its_released_name(tmp_path: Path) -> None:
    released = find_released("deit_tiny_patch16_224-a1311bcf.pth")
    assert released is not None and released is find("deit_tiny_patch16_224")
    path, _ = write("deit", tmp_path)
    assert load_model(path).settings == {}
    named = path.rename(tmp_path / "deit_tiny_patch16_224-a1311bcf.pth")
    assert load_model(named).settings == {"pictures": "imagenet", "crop_share": 224 / 256}
