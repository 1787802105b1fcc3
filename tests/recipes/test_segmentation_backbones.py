"""Segmenters over plain ViTs and those of timm: trained, resumed, scored, their rates, and wrong settings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from imglish.cli.main import main
from imglish.cli.settings import choose
from imglish.config.core import from_yaml, override, to_yaml
from imglish.errors import CheckpointError, ConfigError, DataFormatError
from imglish.hub.run import load_run
from imglish.inference.predictor import Predictor
from imglish.models.beit3.config import Beit3Config
from imglish.models.segmenters.config import Mask2FormerConfig, SegmenterConfig, UPerNetConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig, to_official
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter.backbone_config import (
    BackboneConfig,
    BeitBackboneConfig,
    TimmBackboneConfig,
    UniPerceiverBackboneConfig,
    ViTBackboneConfig,
    backbone_config,
    vit_settings,
)
from imglish.models.vit_adapter.baseline import PlainViT
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.recipes.assemble import assemble, train_recipe
from imglish.recipes.assembly.base import Shares, Splits
from imglish.recipes.assembly.segmentation import build_segmenter
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.data_config import SegmentationFolderData, SegmentationSetData
from imglish.recipes.dense_rates import decayed_by_name, dense_rates
from imglish.recipes.initial import load_initial
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.runs import RECIPES
from imglish.recipes.scoring import evaluate_weights
from imglish.recipes.segmentation_config import CroppedPictures, SeveralViews
from imglish.train.config import OptimizerConfig, TrainConfig
from imglish.train.optimizer import build_optimizer
from tests.recipes.test_segmentation_data import own_folder
from tests.recipes.tiny_runs import error_line

SIZES = {"image_size": (32, 32), "width": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 1.0}
VIT = ViTBackboneConfig(**SIZES, drop_path=0.1)  # type: ignore[arg-type]
BEIT = BeitBackboneConfig(**SIZES)  # type: ignore[arg-type]
UNIPERCEIVER = UniPerceiverBackboneConfig(**SIZES)  # type: ignore[arg-type]
TIMM = TimmBackboneConfig(name="test_vit", drop_path=0.1)
ADAPTER = ViTAdapterConfig(num_interactions=1, stem_width=8, num_heads=2, drop_path=0.1)
HEAD = UPerNetConfig(head_width=8, auxiliary_width=8)
MASKS = Mask2FormerConfig(
    width=32, num_queries=4, num_pixel_layers=1, num_layers=1, num_heads=2, pixel_feed_forward_width=8,
    feed_forward_width=8, num_groups=2,
)  # fmt: skip
PICTURES = CroppedPictures(crop=(32, 32), stride=(24, 24), scale=(96, 40), scored_scale=(96, 40))
TWO_STEPS = TrainConfig(num_steps=2, save_every=1, log_every=1, tensorboard=False, device="cpu")


def task(
    model: BackboneConfig, segmenter: SegmenterConfig = HEAD, *, plain: bool = False
) -> SegmentationTask:
    return SegmentationTask(
        model=model,
        backbone="plain_vit" if plain else "vit_adapter",
        adapter=ADAPTER,
        segmenter=segmenter,
        pictures=PICTURES,
        num_points=32,
        batch_size=4,
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_folder(tmp_path_factory.mktemp("own"))


def run_of(own: Path, settings: SegmentationTask, **changes: object) -> RunConfig:
    config = RunConfig(
        name="tiny",
        task=settings,
        data=SegmentationFolderData(root=own),
        optimizer=OptimizerConfig(lr=1e-3, layer_decay=0.8),
        train=TWO_STEPS,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


# Training


@pytest.mark.parametrize(
    "settings", [task(VIT), task(TIMM, MASKS), task(BEIT, MASKS)], ids=["vit", "timm", "beit"]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    own: Path, tmp_path: Path, settings: SegmentationTask
) -> None:
    config = run_of(own, settings)
    scores = train_recipe(config, tmp_path / "whole")
    assert 0 <= scores["semantic/mean_iou"] <= 1
    assert RunFolder(tmp_path / "whole").config() == config
    stopped = Path(shutil.copytree(tmp_path / "whole", tmp_path / "stopped"))
    (stopped / "model.safetensors").unlink()
    (stopped / "scores.json").unlink()
    *_, last = sorted((stopped / "checkpoints").iterdir())
    shutil.rmtree(last)
    assert train_recipe(config, stopped, resume=True) == scores
    whole, resumed = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", stopped))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.fixture(scope="module")
def finished(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step over a ViT."""
    out = tmp_path_factory.mktemp("finished") / "run"
    train_recipe(run_of(own, task(VIT), train=replace(TWO_STEPS, num_steps=1)), out)
    return out


def test_a_run_goes_on_from_another_with_other_classes(finished: Path) -> None:
    """As the official runs on ADE20K from those on COCO-Stuff: all is taken over but the classifiers."""
    model = build_segmenter(task(replace(VIT, image_size=(64, 64))), 5)
    fresh = load_initial(model, str(finished))
    assert fresh == [
        f"{head}.classifier.{part}" for head in ("auxiliary", "head") for part in ("bias", "weight")
    ]
    trained, found = load_file(finished / "model.safetensors"), model.state_dict()
    same = [name for name in trained if trained[name].shape == found[name].shape]
    assert set(trained) - set(same) == {*fresh, "backbone.backbone.positions"}  # resampled for its pictures
    assert all(torch.equal(trained[name], found[name]) for name in same)


def test_several_scales_are_a_setting_of_scoring(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = choose(RunFolder(finished).config(), [])
    assert isinstance(config.task, SegmentationTask)
    assert main(["evaluate", str(finished), "--task.pictures.scored-at", "several_scales"]) == 0
    assert "semantic/mean_iou" in capsys.readouterr().out
    scored = override(config, {"task.pictures.scored_at": "several_scales"})
    views = []
    for settings in (config, scored):
        ready = assemble(settings, RunFolder(finished), Shares(), Splits(train=False))
        assert ready.plan is None and ready.evaluation_set is not None
        views.append(ready.evaluation_set.get(0, np.random.default_rng(0)).views)
    assert (len(views[0]), len(views[1])) == (1, 12)  # six scales, each flipped as well
    assert [view.flipped for view in views[1][:2]] == [False, True]
    assert min(min(view.size) for view in views[1]) == 32  # at least the crop


def test_a_run_answers_about_pictures(finished: Path, own: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    maps = [Predictor(folder).segment(own / "images" / "00.jpg") for _ in range(2)]
    assert maps[0].classes.shape == (36, 48) and maps[0].names == ("background", "class 3")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("depth: 2", "depth: 1"))
    with pytest.raises(CheckpointError, match=r"task.model.depth is 1, the weights have 2 blocks"):
        Predictor(folder).segment(own / "images" / "00.jpg")


def test_a_run_over_timm_is_read_with_the_sizes_of_its_model(own: Path, tmp_path: Path) -> None:
    settings = replace(task(TIMM), segmenter=replace(HEAD, auxiliary_width=0))
    model = build_segmenter(settings, 2)
    folder = RunFolder(tmp_path)
    folder.write_config(run_of(own, settings))
    folder.save_weights(model.state_dict())
    folder.classes_path.write_text("a\nb\n")
    loaded = load_run(tmp_path)
    assert isinstance(loaded.config, ViTConfig)
    assert (loaded.config.image_size, loaded.config.width, loaded.config.depth) == ((160, 160), 64, 6)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(loaded.model(images), model.eval()(images))


def test_wrong_views_at_several_scales_are_refused_when_they_are_set() -> None:
    with pytest.raises(ValueError, match="there must be a ratio"):
        CroppedPictures(several=SeveralViews(ratios=()))


def test_released_weights_are_scored_without_training_data(tmp_path: Path) -> None:
    """A file as mmcv writes it, on ADE20K's validation pictures alone."""
    for kind, suffix in (("images", "jpg"), ("annotations", "png")):
        folder = tmp_path / kind / "validation"
        folder.mkdir(parents=True)
        pixels = np.full((36, 48), 3, np.uint8)
        Image.fromarray(pixels).save(folder / f"a.{suffix}")
    model = replace(VIT, width=64, num_heads=1, depth=4, drop_path=0.0)
    settings = replace(
        task(model), adapter=replace(ADAPTER, num_interactions=4, vit_features="per_interaction")
    )
    config = RunConfig(
        name="tiny", task=settings, data=SegmentationSetData(root=tmp_path), train=replace(TWO_STEPS)
    )
    torch.manual_seed(0)
    segmenter = build_segmenter(settings, 150)
    with torch.no_grad():
        segmenter.get_parameter("head.classifier.bias")[2] = 100.0  # all is sky
    described = ViTSegmenterConfig(
        family="vit",
        vit=ViTConfig(**vit_settings(model)),
        adapter=settings.adapter,
        segmenter=HEAD,
        num_classes=150,
    )
    state = to_official(segmenter.state_dict(), described)
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "tiny.pth.tar")
    scores = evaluate_weights(config, str(tmp_path / "tiny.pth.tar"))
    assert scores["semantic/iou/sky"] == scores["semantic/pixel_accuracy"] == 1
    with pytest.raises(DataFormatError, match="annotations/training"):  # which training reads
        assemble(config, RunFolder(tmp_path), Shares())


# Settings


@pytest.mark.parametrize("model", [VIT, BEIT, UNIPERCEIVER, TIMM, Beit3Config(width=16, num_heads=2)])
def test_every_backbone_survives_yaml(own: Path, model: BackboneConfig) -> None:
    config = run_of(own, task(model))
    text = to_yaml(config)
    assert from_yaml(RunConfig, text, "config.yaml") == config
    if not isinstance(model, Beit3Config):
        assert backbone_config(yaml.safe_load(text)["task"]["model"]) == model


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "swin"}, "no backbone of kind 'swin'; there are vit, beit, uniperceiver, timm"),
        ({"kind": "timm", "nam": "x"}, "unknown settings of a backbone: nam"),
        ({"kind": "vit", "width": 10, "num_heads": 3}, "width 10 is not divisible by num_heads 3"),
    ],
)
def test_plain_values_of_no_backbone_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        backbone_config(values)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("vit", ViTBackboneConfig()), ("beit", BeitBackboneConfig()), ("timm", TimmBackboneConfig())],
)
def test_the_command_line_chooses_a_backbone(kind: str, expected: BackboneConfig) -> None:
    config = choose(RECIPES["segmentation_base"](), ["--task.model.kind", kind, "--task.batch-size", "2"])
    assert isinstance(config.task, SegmentationTask) and config.task.model == expected


SMALL = (
    "--init= --train.num-steps 1 --train.num-workers 0 --train.device cpu --train.no-tensorboard "
    "--task.batch-size 2 --task.pictures.crop 32 32 --task.pictures.stride 24 24 --task.pictures.scale 96 40 "
    "--task.pictures.scored-scale 96 40 --task.adapter.stem-width 8 --task.segmenter.head-width 8 "
    "--data.kind segmentation_folder"
).split()


def test_a_recipe_is_changed_on_the_command_line(own: Path, tmp_path: Path) -> None:
    sizes = "--task.model.width 32 --task.model.depth 4 --task.model.num-heads 2".split()
    baseline = (
        "--task.backbone plain_vit --task.out-blocks 0 1 2 3 --task.segmenter.auxiliary-width 0".split()
    )
    words = ["--data.root", str(own), "--out", str(tmp_path / "run"), *SMALL, *sizes, *baseline]
    assert main(["train", "upernet_deit_adapter_tiny_512_160k_ade20k", *words]) == 0
    config = RunFolder(tmp_path / "run").config()
    assert isinstance(config.task, SegmentationTask) and isinstance(config.task.model, ViTBackboneConfig)
    assert (config.task.model.depth, config.task.out_blocks) == (4, (0, 1, 2, 3))
    names = load_file(tmp_path / "run" / "model.safetensors").keys()
    assert "backbone.pyramid.up8.weight" in names and "auxiliary.classifier.weight" not in names


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "--task.model.kind timm --task.model.name resnet18",
            "ResNet is no plain ViT of timm; expected a Vision",
        ),
        (
            "--task.model.kind timm --task.model.name test_vitt",
            "is no model of timm; did you mean 'test_vit'?",
        ),
        (
            "--task.model.kind timm --task.model.name test_vit.nix",
            "timm can not make 'test_vit.nix': Invalid",
        ),
        (
            "--task.model.kind vitt",
            "task.model.kind is 'vitt'; expected one of vit, beit, uniperceiver, timm",
        ),
        ("--task.model.depth 3 --task.model.width 48", "task: depth 3 does not divide into 4 interactions"),
        (
            "--task.model.depth 4 --task.backbone plain_vit --task.out-blocks 0 1 2 9",
            "task: out_blocks must be one or four rising numbers below 4",
        ),
        (
            "--task.model.patch-size 14 --task.model.image-size 28 28",
            "has patches of 14 pixels; expected 4 or",
        ),
    ],
)
def test_wrong_settings_end_in_one_line(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, line: str
) -> None:
    command = ["train", "upernet_deit_adapter_tiny_512_160k_ade20k", "--data.root", str(own), *SMALL]
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "run"), *words.split()]) == 1
    assert re.search(re.escape(line), error_line(capsys.readouterr().err))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_the_baseline_of_a_beit_is_that_of_the_official_code() -> None:
    """No layer norms and a batch norm; the ViT's has layer norms and a group norm (FACTS, section 2)."""
    deep = {**SIZES, "depth": 4}
    for model, layer_norms, kind in (
        (BeitBackboneConfig(**deep), 0, torch.nn.BatchNorm2d),  # type: ignore[arg-type]
        (ViTBackboneConfig(**deep), 4, torch.nn.GroupNorm),  # type: ignore[arg-type]
    ):
        settings = replace(task(model, plain=True), out_blocks=(0, 1, 2, 3))
        backbone = build_segmenter(settings, 3).backbone
        assert isinstance(backbone, PlainViT) and backbone.out_blocks == (0, 1, 2, 3)
        assert len(backbone.pyramid.norms) == layer_norms and isinstance(backbone.pyramid.up4[1], kind)
    quarters = build_segmenter(task(ViTBackboneConfig(**{**SIZES, "depth": 8}), plain=True), 3)  # type: ignore[arg-type]
    assert isinstance(quarters.backbone, PlainViT) and quarters.backbone.out_blocks == (1, 3, 5, 7)


# Rates


def groups_of(settings: SegmentationTask, optimizer: OptimizerConfig) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter as the optimiser has them."""
    model = build_segmenter(settings, 3)
    built = build_optimizer(
        model, optimizer, scale=dense_rates(model, optimizer), decayed=decayed_by_name(model, optimizer)
    )
    known = {id(p): (g["lr"], g["weight_decay"]) for g in built.param_groups for p in g["params"]}
    return {name: known[id(parameter)] for name, parameter in model.named_parameters()}


NAMED = OptimizerConfig(lr=2e-5, weight_decay=0.01, head_lr_scale=10.0, decay_by="name")


@pytest.mark.parametrize(
    ("name", "rate", "decays"),
    [
        ("backbone.backbone.positions", 1, False),
        ("backbone.backbone.patches.proj.weight", 1, True),
        ("backbone.backbone.patches.proj.bias", 1, False),
        ("backbone.backbone.blocks.0.norm1.weight", 1, False),
        ("backbone.backbone.blocks.0.scale1", 1, True),  # a vector, and no norm
        ("backbone.backbone.blocks.0.attention.qkv.weight", 1, True),
        ("backbone.level_embedding", 1, False),
        ("backbone.spatial_prior.stem.1.weight", 1, True),  # a batch norm whose name says nothing of it
        ("backbone.norms.0.weight", 1, False),
        ("backbone.interactions.0.injector.gamma", 1, True),
        ("backbone.interactions.0.injector.query_norm.weight", 1, False),
        ("head.classifier.weight", 10, True),
        ("head.classifier.bias", 1, False),
        ("auxiliary.classifier.weight", 10, True),
        ("head.fusion.norm.weight", 10, True),  # bn in the official names
    ],
)
def test_augreg_b_decays_by_names_and_its_heads_learn_ten_times_as_fast(
    name: str, rate: float, decays: bool
) -> None:
    """The rule of its config (adapter FACTS, section 6): parts of names, the longest first."""
    found = groups_of(task(VIT), NAMED)
    assert found[name] == pytest.approx((2e-5 * rate, 0.01 if decays else 0.0), abs=0)


def test_tables_of_relative_positions_do_not_decay_by_name_as_bias_is_in_theirs() -> None:
    name = "backbone.backbone.blocks.0.attention.relative_positions.table"
    assert groups_of(task(BEIT), NAMED)[name][1] == 0.0
    assert groups_of(task(BEIT), replace(NAMED, decay_by="shape"))[name][1] == 0.01


@pytest.mark.parametrize("segmenter", [HEAD, MASKS])
@pytest.mark.parametrize(
    "model", [VIT, TIMM, Beit3Config(image_size=(32, 32), width=32, depth=2, num_heads=2)]
)
def test_heads_of_every_backbone_follow_their_own_rate(
    model: BackboneConfig, segmenter: SegmenterConfig
) -> None:
    settings = replace(task(model, segmenter), adapter=replace(ADAPTER, num_interactions=1))
    for name, (rate, _) in groups_of(settings, OptimizerConfig(lr=1e-3, head_lr_scale=3.0)).items():
        expected = 1e-3 if name.startswith("backbone.") else 3e-3
        assert rate == pytest.approx(expected), name


@pytest.mark.parametrize("model", [VIT, TIMM])
def test_layers_of_every_backbone_have_falling_rates(model: BackboneConfig) -> None:
    found = groups_of(task(model), OptimizerConfig(lr=1.0, layer_decay=0.5))
    depth = build_segmenter(task(model), 3).get_submodule("backbone.backbone").depth
    assert isinstance(depth, int)
    for name, (rate, _) in found.items():
        inside = name.removeprefix("backbone.backbone.")
        if inside == name:
            expected = 1.0
        elif inside.startswith("blocks."):
            expected = 0.5 ** (depth - int(inside.split(".")[1]))
        else:
            expected = 0.5 ** (depth + 1)
        assert rate == pytest.approx(expected), name


def test_names_say_what_decays_in_segmenters_alone() -> None:
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ConfigError, match='decay_by is "name", a rule of segmenters and detectors, but this'):
        decayed_by_name(model, NAMED)
    by_shape: Callable[[str], bool] | None = decayed_by_name(model, OptimizerConfig())
    assert by_shape is None
