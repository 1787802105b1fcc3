"""Pretrained backbones and segmenters as the start of classifiers and segmenters, fitted and told aloud."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.errors import CheckpointError
from imglish.hub.manifest import find
from imglish.hub.timm_weights import timm_weights
from imglish.models.beit3.config import Beit3Config
from imglish.models.segmenters.build import build_segmenter
from imglish.models.segmenters.config import Mask2FormerConfig, UPerNetConfig
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig, to_official, vit_segmenter
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT, ViTForClassification
from imglish.models.vit.transfer import fit_state
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.backbone_config import (
    TimmBackboneConfig,
    ViTBackboneConfig,
    vit_settings,
)
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.join import dense_backbone
from imglish.models.vit_adapter.timm_backbone import timm_backbone
from imglish.models.weight_map import check_state
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.data_config import SegmentationFolderData
from imglish.recipes.initial import load_initial
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.runs import RECIPES
from tests.hub.plain_files import (
    CLASSES,
    DEPTH,
    HEADS,
    PATCH,
    SIDE,
    WIDTH,
    assert_same,
    pictures,
    timm_vit,
    write,
)
from tests.hub.test_segmenters import CONFIGS, built, mmcv_file

HELD = "backbone.backbone."
SMALL: dict[str, Any] = {"width": WIDTH, "depth": 4, "num_heads": HEADS}
ADAPTER = ViTAdapterConfig(num_heads=2, stem_width=8, num_interactions=2)
UPERNET = UPerNetConfig(head_width=8, auxiliary_width=4)


def classifier(num_classes: int) -> ViTForClassification:
    config = replace(
        presets.vit("base", pretrained_size=SIDE, layer_scale=False), patch_size=PATCH, width=WIDTH,
        depth=DEPTH, num_heads=HEADS, class_token=True, output_norm=True,
    )  # fmt: skip
    return ViTForClassification(config, num_classes, pooling="class_token").eval()


def segmenter(vit: ViTConfig) -> Any:
    backbone = dense_backbone(ViT(vit), ADAPTER)
    return build_segmenter(backbone, backbone.width, UPERNET, num_classes=3)


def held(side: int, **changes: Any) -> ViTConfig:
    """The ViT as an adapter holds it, with the factors of one that the official ones have."""
    return replace(presets.vit("base", pretrained_size=side), **(SMALL | changes))


def file_of(model: nn.Module, folder: Path, name: str = "weights.pth") -> str:
    torch.save(model.state_dict(), folder / name)
    return str(folder / name)


@torch.no_grad()
@pytest.mark.parametrize("form", ["deit", "augreg"])
def test_a_classifier_goes_on_from_a_released_one(form: str, tmp_path: Path) -> None:
    path, source = write(form, tmp_path)
    model = classifier(CLASSES)
    assert load_initial(model, str(path)) == []
    assert_same(model(pictures()), source(pictures()))
    other = classifier(CLASSES + 1)
    assert load_initial(other, str(path)) == ["head.bias", "head.weight"]
    before_head = source.forward_head(source.forward_features(pictures()), pre_logits=True)
    assert_same(other.features(pictures()), before_head)


@torch.no_grad()
@pytest.mark.parametrize("form", ["deit", "npz", "mae", "mae_tuned", "dinov2"])
def test_each_form_fills_the_vit_under_an_adapter(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, source = write(form, tmp_path)
    heads = 2 if form == "npz" else HEADS
    config = held(SIDE * 2, depth=DEPTH, num_heads=heads, patch_size=PATCH)
    model = segmenter(config)
    with caplog.at_level(logging.INFO):
        fresh = load_initial(model, str(path))
    assert fresh and not any(name.startswith(HELD) for name in fresh)
    told = " ".join(record.message for record in caplog.records if "left out" in record.message)
    assert "class_token" in told and ("head.weight" in told) == (form in ("deit", "npz", "mae_tuned"))
    assert ("decoder_embed" in told) == (form == "mae") and ("mask_token" in told) == (
        form in ("mae", "dinov2")
    )
    # The same ViT by timm, at the larger picture and without its class token.
    vit = model.backbone.backbone
    images = pictures(SIDE * 2)
    table = source.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    table = F.interpolate(table, size=(8, 8), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    source.patch_embed.strict_img_size = False
    x = source.blocks(source.patch_embed(images) + table)
    assert_same(vit.tokens(images), x)


def test_patches_of_14_pixels_become_patches_of_16(tmp_path: Path) -> None:
    source = timm_vit(img_size=5 * 14, patch_size=14, init_values=1.0, num_classes=0)
    model = segmenter(held(5 * 16, depth=DEPTH))
    load_initial(model, file_of(source, tmp_path))
    state = model.state_dict()
    kernel = F.interpolate(
        source.patch_embed.proj.weight, size=(16, 16), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(state[f"{HELD}patches.proj.weight"], kernel)
    assert torch.equal(state[f"{HELD}positions"], source.pos_embed)
    assert torch.equal(state[f"{HELD}blocks.1.scale2"], source.blocks[1].ls2.gamma)


def test_a_beit_is_fitted_to_the_crop_and_shares_out_its_table(tmp_path: Path) -> None:
    """The numbers of the tables are held against recorded ones by the parity cases ckpt_*."""
    pretrained = ViTConfig(
        image_size=(64, 64), **SMALL, absolute_positions=False, relative_positions="shared", layer_scale=0.1
    )
    source: Any = ViT(pretrained)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_()
    config = replace(presets.beit("base", "segmentation", image_size=128), **SMALL)
    model = segmenter(config)
    fresh = load_initial(model, file_of(source, tmp_path))
    assert not any(name.startswith(HELD) for name in fresh)
    state = model.state_dict()
    for block in range(4):
        table = state[f"{HELD}blocks.{block}.attention.relative_positions.table"]
        assert table.shape == (15 * 15 + 3, HEADS)
        assert torch.equal(table[-3:], source.relative_positions.table[-3:])
        assert torch.equal(state[f"{HELD}blocks.{block}.scale1"], source.blocks[block].scale1)
    # Detection's has windows of 14 patches and of 56, and no rows of the class token.
    windows = replace(presets.beit("base", "detection"), **SMALL, windows=(14, 14, 14, 56))
    detector = segmenter(windows)
    load_initial(detector, file_of(source, tmp_path))
    tables = [detector.state_dict()[f"{HELD}blocks.{b}.attention.relative_positions.table"] for b in (0, 3)]
    assert [len(table) for table in tables] == [27 * 27, 111 * 111]


@pytest.mark.parametrize("name", ["ViT", "BEiT", "Uni-Perceiver", "plain ViT"])
def test_a_segmenter_of_other_classes_goes_on_from_an_official_one(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = CONFIGS[name]
    source = built(config)
    path = mmcv_file(tmp_path / "official.pth", to_official(source.state_dict(), config))
    same = vit_segmenter(config)
    assert load_initial(same, str(path)) == []
    given = source.state_dict()
    assert all(torch.equal(tensor, given[key]) for key, tensor in same.state_dict().items())
    other = vit_segmenter(replace(config, num_classes=9))
    with caplog.at_level(logging.INFO):
        fresh = load_initial(other, str(path))
    classifiers = [key for key in given if ".classifier." in key]
    assert classifiers and fresh == sorted(classifiers)
    assert "left out" in caplog.text and "classifier" in caplog.text
    state = other.state_dict()
    assert all(torch.equal(state[key], given[key]) for key in given if key not in fresh)


def run_of(task: SegmentationTask, model: nn.Module, path: Path) -> RunFolder:
    """The folder of a finished run."""
    folder = RunFolder(path)
    folder.write_config(RunConfig(name="segmenter", task=task, data=SegmentationFolderData()))
    folder.save_weights(model.state_dict())
    folder.classes_path.write_text("sky\nfish\nstar\n")
    return folder


def test_a_segmenter_goes_on_from_a_run_of_ours_with_adapter_and_neck(tmp_path: Path) -> None:
    """Also where its pictures are not square: the run's settings say their shape."""
    vit = ViTBackboneConfig(**vit_settings(held(64)) | {"image_size": (48, 80)})
    mask2former = Mask2FormerConfig(
        width=32, num_queries=5, num_pixel_layers=1, num_layers=2, num_heads=2, pixel_feed_forward_width=12,
        feed_forward_width=20, num_groups=32,
    )  # fmt: skip
    source = segmenter_on(vit, ADAPTER, mask2former, num_classes=3)
    task = SegmentationTask(model=vit, adapter=ADAPTER, segmenter=mask2former)
    run_of(task, source, tmp_path / "run")
    larger = replace(vit, image_size=(96, 96))
    for name in (tmp_path / "run", tmp_path / "run" / "model.safetensors"):
        model = segmenter_on(larger, ADAPTER, mask2former, num_classes=8)
        fresh = load_initial(model, str(name))
        assert fresh == ["head.classifier.bias", "head.classifier.weight"]
        state, given = model.state_dict(), source.state_dict()
        resized = F.interpolate(
            given[f"{HELD}positions"][:, 1:].transpose(1, 2).unflatten(2, (3, 5)), size=(6, 6), mode="bicubic"
        )
        assert_same(state[f"{HELD}positions"][:, 1:], resized.flatten(2).transpose(1, 2))
        kept = [key for key in given if key not in fresh and key != f"{HELD}positions"]
        assert all(torch.equal(state[key], given[key]) for key in kept)
    # Under another head the backbone and the adapter are the same.
    upernet = segmenter_on(vit, ADAPTER, UPERNET, num_classes=3)
    fresh = load_initial(upernet, str(tmp_path / "run"))
    assert fresh and not any(name.startswith("backbone.") for name in fresh)


def test_a_beit3_segmenter_goes_on_from_a_segmenter_at_another_size(tmp_path: Path) -> None:
    config = Beit3Config(
        image_size=(64, 64), width=32, depth=4, num_heads=2, feed_forward_width=64, vocab_size=20,
        max_text_tokens=8,
    )  # fmt: skip
    source = segmenter_on(config, ADAPTER, UPERNET, num_classes=3)
    run_of(SegmentationTask(model=config, adapter=ADAPTER, segmenter=UPERNET), source, tmp_path / "run")
    model = segmenter_on(replace(config, image_size=(96, 96)), ADAPTER, UPERNET, num_classes=4)
    fresh = load_initial(model, str(tmp_path / "run"))
    assert fresh == sorted(key for key in source.state_dict() if ".classifier." in key)
    adapted = "backbone.interactions.0.extractor.attention.value_proj.weight"
    assert torch.equal(model.state_dict()[adapted], source.state_dict()[adapted])
    with pytest.raises(CheckpointError, match="a run over BEiT-3, no plain ViT"):
        load_initial(segmenter(held(64)), str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 32}, r"another architecture: .* is \(64,\), in the model \(32,\)"),
        ({"depth": 6}, "blocks.4.* is missing, in the model"),
        ({"depth": 2}, "blocks.2.* in the model missing"),
        ({"attention_bias": "query_value"}, "blocks.0.attention.q.* in the model"),
        ({"absolute_positions": False}, "positions is .* in the model missing"),
        ({"layer_scale": 0.1}, "blocks.0.scale1 is missing, in the model"),
        ({"in_channels": 4}, r"patches.proj.weight is \(64, 3, 8, 8\), in the model \(64, 4, 8, 8\)"),
    ],
)
def test_weights_of_another_architecture_are_refused_by_the_tensor(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = timm_vit(depth=4)
    config = held(SIDE, patch_size=PATCH, **change)
    model = ViT(config)
    with pytest.raises(CheckpointError, match=message) as error:
        load_initial(model, file_of(source, tmp_path))
    assert "\n" not in str(error.value)


def official_starts() -> dict[str, tuple[str, ViTConfig]]:
    """Official weights and the ViT they go into, of each recipe that starts from some; a pair once."""
    pairs: dict[str, tuple[str, ViTConfig]] = {}
    for recipe in RECIPES.values():
        config = recipe()
        task = config.task if isinstance(config, RunConfig) else None
        if isinstance(task, SegmentationTask) and isinstance(task.model, ViTConfig) and config.init:
            side = task.model.image_size[0]
            pairs[f"{config.init}, {task.model.depth} blocks, {side}"] = (config.init, task.model)
    return pairs


@pytest.mark.parametrize(("name", "config"), official_starts().values(), ids=official_starts())
def test_what_a_recipe_starts_from_fits_its_vit_at_full_size(name: str, config: ViTConfig) -> None:
    """Names and shapes alone."""
    file = find(name)
    assert file is not None and isinstance(file.config, (ViTConfig, ViTSegmenterConfig))
    source = file.config.vit if isinstance(file.config, ViTSegmenterConfig) else file.config
    with torch.device("meta"):
        given, expected = ViT(source).state_dict(), ViT(config).state_dict()
    fitted = fit_state(given, config, where=name, source=source)
    if config.layer_scale < 1:  # the file has them: none is made up
        assert {key for key in fitted if "scale" in key} <= given.keys()
    check_state(fitted, expected, where=name)


@torch.no_grad()
@pytest.mark.parametrize("registers", [0, 4])
def test_a_vit_of_timm_is_filled_at_other_patches_and_pictures(registers: int, tmp_path: Path) -> None:
    form: dict[str, Any] = {"reg_tokens": registers, "no_embed_class": True, "init_values": 1.0}
    source = timm_vit(**form)
    whole: Any = timm_backbone(source, patch_size=PATCH)
    empty: Any = timm_backbone(timm_vit(**form).apply(_zero), patch_size=PATCH)
    backbone = dense_backbone(empty, ADAPTER)
    model = build_segmenter(backbone, backbone.width, UPERNET, num_classes=3)
    name = file_of(source, tmp_path)
    fresh = load_initial(model, name)
    assert fresh and not any(key.startswith(HELD) for key in fresh)
    tokens, grid = whole.embed(pictures())
    other, _ = empty.embed(pictures())
    assert_same(empty.run_blocks(other, 0, DEPTH, grid), whole.run_blocks(tokens, 0, DEPTH, grid))
    larger: Any = timm_backbone(timm_vit(img_size=2 * SIDE, **form), patch_size=2 * PATCH)
    load_initial(larger, name)
    assert larger.positions.shape == (1, 64, WIDTH)
    kernel = F.interpolate(source.patch_embed.proj.weight, size=(16, 16), mode="bilinear")
    torch.testing.assert_close(larger.projection.weight, kernel)
    if registers:  # as DINOv2's own file has them: the class token still with its position
        official = dict(source.state_dict())
        place = torch.randn(1, 1, WIDTH)
        official["register_tokens"] = official.pop("reg_token")
        official["cls_token"] = official["cls_token"] - place
        official["pos_embed"] = torch.cat([place, official["pos_embed"]], dim=1)
        torch.save(official, tmp_path / "official.pth")
        load_initial(empty.apply(_zero), str(tmp_path / "official.pth"))
        assert_same(empty.embed(pictures())[0], tokens)
    with pytest.raises(CheckpointError, match="head_of_another.weight has no place in a timm backbone"):
        torch.save(source.state_dict() | {"head_of_another.weight": torch.ones(1)}, tmp_path / "more.pth")
        load_initial(empty, str(tmp_path / "more.pth"))
    with pytest.raises(CheckpointError, match=r"another architecture: blocks.2.* is missing, in the model"):
        load_initial(timm_backbone(timm_vit(depth=3, **form), patch_size=PATCH), name)


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.data.zero_()


@pytest.fixture
def timm_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub, which is not asked."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(cache: Path, name: str, state: dict[str, Tensor]) -> None:
    """Lay weights into the cache as the Hub's own library does."""
    repository = cache / f"models--timm--{name}"
    snapshot = repository / "snapshots" / "0123456789012345678901234567890123456789"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    save_file(state, snapshot / "model.safetensors")


@torch.no_grad()
def test_timm_weights_are_taken_by_name_from_its_cache(timm_cache: Path) -> None:
    torch.manual_seed(0)
    source: Any = timm.create_model("test_vit").eval()
    put(timm_cache, "test_vit.r160_in1k", {k: w.contiguous() for k, w in source.state_dict().items()})
    vit = replace(
        presets.vit("base", pretrained_size=160, layer_scale=False), width=source.embed_dim,
        depth=len(source.blocks), num_heads=source.blocks[0].attn.num_heads,
        mlp_ratio=source.blocks[0].mlp.fc1.out_features / source.embed_dim,
        class_token=True, output_norm=True,
    )  # fmt: skip
    model = ViT(vit).eval()
    assert load_initial(model, "timm:test_vit") == []
    images = pictures(160)
    assert_same(model(images), source.forward_features(images)[:, 1:])
    held_by_timm = segmenter_on(
        TimmBackboneConfig(name="test_vit"), None, UPERNET, num_classes=3, out_blocks=(0, 1, 2, 3)
    )
    fresh = load_initial(held_by_timm, "timm:test_vit.r160_in1k")
    assert fresh and not any(key.startswith(HELD) for key in fresh)
    blocks = held_by_timm.state_dict()[f"{HELD}blocks.0.attn.qkv.weight"]
    assert torch.equal(blocks, source.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:test_vit", "timm:test_vit: its weights are not to be had .*check the name's tag, the network"),
        ("timm:test_vitt", "timm:test_vitt: no model of timm; did you mean timm:test_vit"),
        ("timm:test_vit.none", "timm:test_vit.none: its weights are not to be had"),
        ("timm:", "timm:: no model of timm"),
    ],
)
def test_weights_of_timm_that_cannot_be_had_are_told_in_a_line(
    timm_cache: Path, name: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        load_initial(ViT(held(160)), name)
    assert "\n" not in str(error.value)


def test_a_vit_of_timm_that_computes_something_else_is_no_start_of_ours(timm_cache: Path) -> None:
    for name, part in (("vit_tiny_patch16_224", "QuickGELU"), ("eva02_tiny_patch14_224", "rotary positions")):
        settings: dict[str, Any] = {"act_layer": "quick_gelu"} if part == "QuickGELU" else {}
        with torch.device("meta"):
            model = timm.create_model(name, depth=1, **settings)
        with pytest.raises(
            CheckpointError, match=f"timm:x: has .*{part}.*take the timm model as the backbone"
        ):
            timm_weights(model, "timm:x")
    with pytest.raises(CheckpointError, match="a ResNet of timm; expected a VisionTransformer"):
        timm_weights(timm.create_model("resnet18"), "timm:x")


def test_a_timm_beit_goes_into_a_beit_of_ours() -> None:
    beit = timm.create_model("beit_base_patch16_224", depth=2, embed_dim=64, num_heads=2, num_classes=4)
    weights = timm_weights(beit, "timm:beit")
    assert weights.kind == "image_classification" and isinstance(weights.config, ViTConfig)
    assert weights.config.relative_positions == "per_block"
