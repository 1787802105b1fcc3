"""Every official ViT-Adapter detection config as a recipe, and BEiT-3's own.

The rows are typed from the adapter's FACTS: section 10 (backbone, rates, schedule, pictures of a GPU), 5
(heads), 6 (optimiser) and 8 (pictures). Totals of parameters are those of the official models (section 4 and
the lists of their parameters). What FACTS leave open (the learned factors of the tiny one of 12 epochs, soft
proposals, boxes of a picture, Objects365's pictures) is from the official configs, scores from the official
documents. BEiT-3's numbers are the paper's.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from imglish.config.core import from_yaml, to_yaml
from imglish.hub.load import list_models
from imglish.losses.two_stage import TwoStageLoss
from imglish.models.beit3.config import Beit3Config
from imglish.models.detectors.config import TwoStageConfig
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.vit_detector import ViTDetectorConfig, to_official
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter.backbone_config import (
    BeitBackboneConfig,
    UniPerceiverBackboneConfig,
    ViTBackboneConfig,
    vit_settings,
)
from imglish.recipes.assembly.detection import build_detector
from imglish.recipes.config import RunConfig
from imglish.recipes.data_config import CocoInstancesData, CocoPanopticData
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.runs import RECIPES
from imglish.train.schedule import learning_rate
from tests.models.vit_adapter.test_official import official_shapes, shapes_of

DEIT = {"T": "deit_tiny_patch16_224", "S": "deit_small_patch16_224", "B": "deit_base_patch16_224"}
AUGREG, MAE = "augreg_large_patch16_384", "mae_base_patch16_224"
BEIT, BEIT_V2 = "beit_large_patch16_224_pt22k_ft22k", "beitv2_large_patch16_224_pt1k_ft21k"
UNIPERCEIVER = {"B": "uniperceiver_base_patch16_224", "L": "uniperceiver_large_patch16_224"}
SIZES = {"T": (192, 12, 6, 1.0), "S": (384, 12, 6, 1.0), "B": (768, 12, 12, 0.5), "L": (1024, 24, 16, 0.5)}
IN_MODEL_RANGE = {
    "mask_rcnn_augreg_adapter_large_fpn_1x_coco",
    "mask_rcnn_augreg_adapter_large_fpn_3x_coco",
    "mask_rcnn_augreg_large_fpn_3x_coco",
    "mask_rcnn_dinov2_adapter_large_fpn_3x_coco",
}


class Row(NamedTuple):
    """A config: ``decay`` of layers, 1 where names say what decays; ``schedule`` in epochs or steps."""

    init: str
    kind: str
    size: str
    drop_path: float
    decay: float
    schedule: str
    detector: str
    parameters: int | None
    scores: tuple[float, ...]


def vit(
    size: str, drop_path: float, schedule: str, detector: str, parameters: int | None, *scores: float
) -> Row:
    """DeiT, whose decay goes by names."""
    return Row(DEIT[size], "vit", size, drop_path, 1.0, schedule, detector, parameters, scores)


def augreg(schedule: str, detector: str, decay: float, parameters: int | None, *scores: float) -> Row:
    return Row(AUGREG, "vit", "L", 0.4, decay, schedule, detector, parameters, scores)


def beit(init: str, drop_path: float, detector: str, parameters: int, *scores: float) -> Row:
    return Row(init, "beit", "L", drop_path, 0.9, "36", detector, parameters, scores)


AFTER_365 = "htc++_beitv2_adapter_large_fpn_o365"
TABLE = {
    "atss_deit_adapter_small_fpn_3x_coco": vit("S", 0.2, "36", "atss", 35_668_586, 49.6),
    "gfl_deit_adapter_small_fpn_3x_coco": vit("S", 0.2, "36", "gfl", 35_813_801, 50.0),
    "cascade_mask_rcnn_deit_adapter_base_fpn_3x_coco": vit(
        "B", 0.3, "36", "cascade", 158_022_290, 52.1, 44.8
    ),
    "cascade_mask_rcnn_deit_adapter_small_fpn_3x_coco": vit(
        "S", 0.2, "36", "cascade", 85_637_570, 51.5, 44.3
    ),
    "cascade_mask_rcnn_deit_base_fpn_3x_coco": vit("B", 0.2, "36", "cascade", 151_429_554),
    "htc_augreg_adapter_large_fpn_3x_coco": augreg("36", "htc", 0.9, 400_319_861, 56.6, 49.0),
    "htc_augreg_adapter_large_fpn_3x_coco_ms": augreg("36", "htc", 0.9, 400_319_861, 57.7, 49.9),
    "htc_beit_adapter_large_fpn_3x_coco": beit(BEIT, 0.4, "htc", 400_726_261, 58.4, 50.8),
    "htc_beit_adapter_large_fpn_3x_coco_ms": beit(BEIT, 0.4, "htc", 400_726_261, 60.2, 52.2),
    "htc_beit_adapter_large_fpn_3x_coco_old": beit(BEIT, 0.3, "htc", 400_726_261, 57.9, 50.2),
    "htc_beitv2_adapter_large_fpn_3x_coco": beit(BEIT_V2, 0.4, "htc", 400_726_261, 58.8, 51.1),
    "htc_beitv2_adapter_large_fpn_3x_coco_ms": beit(BEIT_V2, 0.4, "htc", 400_726_261, 60.5, 52.5),
    "htc_beitv2_adapter_large_fpn_o365_coco": beit(
        AFTER_365, 0.3, "htc365", 400_731_381, 61.8, 53.0
    )._replace(decay=0.8, schedule="20000 steps"),
    "htc_beitv2_adapter_large_fpn_o365_coco_ms": beit(
        AFTER_365, 0.3, "htc365", 400_731_381, 62.6, 54.2
    )._replace(decay=0.8, schedule="20000 steps"),
    "htc_uniperceiver_adapter_large_fpn_3x_coco": Row(
        UNIPERCEIVER["L"], "uniperceiver", "L", 0.4, 0.9, "36", "htc", 399_939_957, ()
    ),
    "mask2former_beitv2_adapter_large_16x1_3x_coco_panoptic": beit(
        BEIT_V2, 0.4, "mask2former", 347_974_534, 58.4, 65.0, 48.4
    )._replace(schedule="265500 steps"),
    "mask_rcnn_dinov2_adapter_base_fpn_3x_coco": Row(
        "dinov2_base_patch14_518", "vit", "B", 0.3, 0.6, "36", "mask_rcnn", None, (54.1, 47.8)
    ),
    "mask_rcnn_dinov2_adapter_large_fpn_3x_coco": Row(
        "dinov2_large_patch14_518", "vit", "L", 0.4, 0.65, "36", "mask_rcnn", 348_739_504, (55.3, 49.0)
    ),
    "mask_rcnn_dinov2_adapter_small_fpn_3x_coco": Row(
        "dinov2_small_patch14_518", "vit", "S", 0.2, 0.7, "36", "mask_rcnn", 48_252_800, (51.5, 45.6)
    ),
    "mask_rcnn_augreg_adapter_large_fpn_1x_coco": augreg("12", "mask_rcnn", 0.8, 347_927_472, 48.7, 43.3),
    "mask_rcnn_augreg_adapter_large_fpn_3x_coco": augreg("36", "mask_rcnn", 0.8, 347_927_472, 52.1, 46.0),
    "mask_rcnn_augreg_large_fpn_3x_coco": augreg("36", "mask_rcnn", 0.8, 337_286_896, 48.3, 43.3),
    "mask_rcnn_deit_adapter_base_fpn_1x_coco": vit("B", 0.3, "12", "mask_rcnn", 120_187_088, 47.0, 41.8),
    "mask_rcnn_deit_adapter_base_fpn_3x_coco": vit("B", 0.3, "36", "mask_rcnn", 120_187_088, 49.6, 43.6),
    "mask_rcnn_deit_adapter_small_fpn_1x_coco": vit("S", 0.2, "12", "mask_rcnn", 47_802_368, 44.7, 39.9),
    "mask_rcnn_deit_adapter_small_fpn_3x_coco": vit("S", 0.2, "36", "mask_rcnn", 47_802_368, 48.2, 42.8),
    "mask_rcnn_deit_adapter_tiny_fpn_1x_coco": vit(  # without 12 x 2 factors of 192 features
        "T", 0.1, "12", "mask_rcnn", 28_068_512 - 12 * 2 * 192, 41.1, 37.5
    ),
    "mask_rcnn_deit_adapter_tiny_fpn_3x_coco": vit("T", 0.1, "36", "mask_rcnn", 28_068_512, 46.0, 41.0),
    "mask_rcnn_deit_base_fpn_3x_coco": vit("B", 0.1, "36", "mask_rcnn", 113_594_352, 45.8, 41.3),
    "mask_rcnn_deit_small_fpn_3x_coco": vit("S", 0.1, "36", "mask_rcnn", 43_746_672, 44.0, 39.9),
    "mask_rcnn_deit_tiny_fpn_3x_coco": vit("T", 0.1, "36", "mask_rcnn", 26_075_184, 40.2, 37.0),
    "mask_rcnn_uniperceiver_adapter_base_fpn_3x_coco": Row(
        UNIPERCEIVER["B"], "uniperceiver", "B", 0.2, 0.65, "36", "mask_rcnn", 120_194_000, (51.2, 45.3)
    ),
    "mask_rcnn_deit_adapter_small_3x_coco": vit("S", 0.2, "36", "mapper", 45_442_048, 48.2, 42.7),
    "mask_rcnn_mae_adapter_base_lsj_fpn_25ep_coco": Row(
        MAE, "vit", "B", 0.1, 1.0, "25", "upgraded", 120_065_328, (50.3, 44.7)
    ),
    "mask_rcnn_mae_adapter_base_lsj_fpn_50ep_coco": Row(
        MAE, "vit", "B", 0.2, 1.0, "50", "upgraded", 120_065_328, (50.8, 45.1)
    ),
}
Settings = tuple[RunConfig, DetectionTask]
VITS = (ViTBackboneConfig, BeitBackboneConfig, UniPerceiverBackboneConfig)


def settings_of(name: str) -> Settings:
    config = RECIPES[name]()
    assert isinstance(config.task, DetectionTask)
    return config, config.task


def published(name: str) -> bool:
    """Whether a recipe is of an official config: Sparse R-CNN's has a test of its own."""
    return not name.endswith(("_demo", "_giant")) and not name.startswith("sparse_rcnn_")


def test_every_config_has_its_row() -> None:
    named = {name for name, recipe in RECIPES.items() if isinstance(recipe().task, DetectionTask)}
    assert {name for name in named if published(name)} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_backbones_are_those_of_the_configs(name: str) -> None:
    row, (_, task) = TABLE[name], settings_of(name)
    width, depth, heads, ratio = SIZES[row.size]
    model, adapter = task.model, task.adapter
    assert isinstance(model, VITS)
    assert (model.kind, model.drop_path, model.width, model.depth) == (
        row.kind, row.drop_path, width, depth,
    )  # fmt: skip
    side = 592 if "dinov2" in name else 384 if "augreg" in name else 224
    assert model.image_size == (side, side) and model.patch_size == 16
    last = 56 if row.kind == "beit" else 0
    assert model.windows == (*[14] * (depth // 4 - 1), last) * 4
    factors = {"vit": 1.0, "beit": 1e-6, "uniperceiver": 0.0}[row.kind]
    without = row.detector == "upgraded" or name == "mask_rcnn_deit_adapter_tiny_fpn_1x_coco"
    assert model.layer_scale == (0.0 if without else factors)
    if "adapter" not in name:
        assert (task.backbone, task.out_blocks) == ("plain_vit", ())  # the last of each quarter
        return
    assert (task.backbone, adapter.drop_path) == ("vit_adapter", row.drop_path)
    assert (adapter.num_heads, adapter.value_ratio, adapter.num_points) == (heads, ratio, 4)
    assert (adapter.num_interactions, adapter.feed_forward_ratio) == (4, 0.25)
    assert adapter.vit_features == ("per_interaction" if name.endswith("_old") else "last")
    assert adapter.num_extra_extractors == (0 if row.detector == "upgraded" else 2)
    assert adapter.injector_scale == (1e-6 if row.kind == "beit" else 0.0)
    assert adapter.norm_eps == (1e-5 if row.kind == "uniperceiver" else 1e-6)


@pytest.mark.parametrize("name", TABLE)
def test_detectors_are_those_of_the_configs(name: str) -> None:
    row, (_, task) = TABLE[name], settings_of(name)
    detector = task.detector
    if isinstance(detector, OneStageConfig):
        assert (row.detector, detector.num_convs, detector.width) == (detector.kind, 4, 256)
        assert (task.selection.min_score, task.selection.nms.max_overlap) == (0.05, 0.6)
        return
    if isinstance(detector, Mask2FormerConfig):
        assert detector == Mask2FormerConfig(width=256, num_queries=100) and task.panoptic
        assert (detector.num_pixel_layers, detector.num_layers, task.num_points) == (6, 9, 12_544)
        return
    assert isinstance(detector, TwoStageConfig) and detector.mask_head is not None
    assert detector.neck.kind == ("mapper" if row.detector == "mapper" else "fpn")
    assert detector.neck.norm == {"upgraded": "batch", "htc365": "group"}.get(row.detector, "none")
    assert detector.rpn.num_convs == (2 if row.detector == "upgraded" else 1)
    assert len(detector.stages) == (1 if "mask_rcnn" in name and "cascade" not in name else 3)
    htc = row.detector.startswith("htc")
    convs = (4, 1) if htc or row.detector in ("cascade", "upgraded") else (0, 2)
    assert (detector.box_head.num_convs, detector.box_head.num_linears) == convs
    normed = row.detector in ("cascade", "upgraded", "htc365")
    assert detector.box_head.norm == ("batch" if normed else "none")
    assert (detector.box_head.class_agnostic, detector.interleaved) == (htc, htc)
    assert detector.neck.attention_heads == (32 if htc else 0)
    if htc:
        assert detector.semantic_head is not None and detector.semantic_head.num_classes == 183
        deep = "augreg" in name or "uniperceiver" in name
        assert detector.neck.attention_drop_path == (0.4 if deep else 0.3)
        soft = "htc_beit_" in name and not name.endswith("_old")
        assert detector.rpn.nms.kind == ("linear" if soft else "hard")
    kept = 2000 if htc or row.detector == "cascade" else 1000
    assert (detector.rpn.training.kept, detector.rpn.testing.kept) == (kept, 1000)
    selection = detector.selection
    assert (selection.min_score, selection.nms.kind) == ((0.001, "linear") if htc else (0.05, "hard"))
    most = 1000 if name.endswith("_ms") else 300 if "htc_augreg" in name else 100
    assert (selection.max_boxes, selection.nms.max_overlap) == (most, 0.5)


@pytest.mark.parametrize("name", TABLE)
def test_losses_are_those_of_the_configs(name: str) -> None:
    row, loss = TABLE[name], settings_of(name)[1].two_stage_loss
    expected = {
        "cascade": ("smooth_l1", "giou", 10.0), "htc": ("smooth_l1", "smooth_l1", 1.0),
        "htc365": ("smooth_l1", "giou", 10.0),
    }.get(row.detector, ("l1", "l1", 1.0))  # fmt: skip
    assert (loss.rpn_box, loss.box, loss.box_weight) == expected
    assert (loss.stages, loss.semantic) == ((1.0, 0.5, 0.25), 0.2)
    assert loss.rpn_beta == 1 / 9 and isinstance(loss, TwoStageLoss)


@pytest.mark.parametrize("name", TABLE)
def test_training_is_that_of_the_configs(name: str) -> None:
    row, (config, task) = TABLE[name], settings_of(name)
    optimizer, schedule, train = config.optimizer, config.schedule, config.train
    special = name == "mask_rcnn_deit_adapter_tiny_fpn_1x_coco"
    lr, weight_decay = (2e-4, 0.01) if special else (1e-4, 0.05)
    assert (optimizer.lr, optimizer.weight_decay, optimizer.layer_decay) == (lr, weight_decay, row.decay)
    assert (optimizer.betas, optimizer.eps) == ((0.9, 0.999), 1e-8)
    assert optimizer.decay_by == ("name" if row.decay == 1 else "shape")
    clip = {"htc365": 0.1, "mask2former": 0.01}.get(row.detector, 0.0)
    assert train.max_grad_norm == clip
    assert train.ema_decay == (0.9999 if clip else 0.0)
    number, in_steps = int(row.schedule.split()[0]), "steps" in row.schedule
    assert (train.num_epochs, train.num_steps) == ((0.0, number) if in_steps else (number, 1))
    assert config.init == row.init and config.name == name
    assert task.batch_size == (64 if row.detector == "htc365" else 16)
    drops = {"12": (8, 11), "36": (27, 33), "265500 steps": (191_750, 236_000)}.get(row.schedule, ())
    # The rate right before and at each drop, in a run of 1000 steps an epoch.
    steps = number if in_steps else 1000 * number
    for index, drop in enumerate(drops):
        at = drop if in_steps else 1000 * drop
        found = [learning_rate(step, steps, optimizer, schedule) for step in (at - 1, at)]
        assert found == pytest.approx([lr * 0.1**index, lr * 0.1 ** (index + 1)])
    if not drops and row.schedule != "20000 steps":  # the upgraded ones, a cosine to a hundredth
        assert (schedule.kind, schedule.warmup_steps, schedule.final_lr) == ("cosine", 2000, 1e-6)
        assert learning_rate(0, steps, optimizer, schedule) == pytest.approx(1e-3 * lr)
    elif row.detector != "mask2former":
        assert schedule.warmup_steps == 500
        assert learning_rate(0, steps, optimizer, schedule) == pytest.approx(1e-3 * lr)
    last = learning_rate(steps - 1, steps, optimizer, schedule)
    assert last == pytest.approx(1e-6 if row.detector == "upgraded" else lr * 0.1 ** len(drops), rel=1e-3)


@pytest.mark.parametrize("name", TABLE)
def test_pictures_are_those_of_the_configs(name: str) -> None:
    row, (config, task) = TABLE[name], settings_of(name)
    pictures = task.pictures
    assert pictures.range == ("model" if name in IN_MODEL_RANGE else "imagenet") and pictures.flip == 0.5
    pipeline = {"12": "one_scale", "25": "large_scale_jitter", "50": "large_scale_jitter"}.get(
        row.schedule, "htc" if row.detector.startswith("htc") else "many_scales"
    )
    assert pictures.pipeline == pipeline
    transform = pictures.training()
    if pipeline == "one_scale":
        assert pictures.scale == (1333, 800)
    if pipeline == "many_scales":
        assert transform.crop == (None if row.detector == "mask2former" else (1024, 1024))
    if pipeline == "large_scale_jitter":
        assert (transform.crop, transform.padded) == ((1024, 1024), (1024, 1024))
    if pipeline == "htc":
        after = row.detector == "htc365"
        assert (pictures.longer, pictures.shorter) == ((2000, (600, 1600)) if after else (1600, (400, 1400)))
        assert (transform.copy_paste is None) == after
    if name.endswith("_ms"):
        scales = tuple((3000, shorter) for shorter in (600, 800, 1000, 1200, 1400, 1600))
        small, large, inf = 32.0**2, 96.0**2, math.inf
        areas = ((large, inf),) * 2 + ((small, inf),) + ((-inf, large),) * 3
        assert (pictures.scored_scales, pictures.scored_areas) == (scales, areas) and pictures.scored_flip
        return
    scored = {"htc": (1600, 1400), "htc365": (2000, 1000)}.get(row.detector, (1333, 800))
    assert (pictures.scored_scales, pictures.scored_flip) == ((scored,), False)
    assert pictures.scored_areas == ()
    data = config.data
    if row.detector == "mask2former":
        assert isinstance(data, CocoPanopticData)
        return
    assert isinstance(data, CocoInstancesData)
    assert data.semantic == ("stuffthingmaps" if row.detector.startswith("htc") else "")


@cache
def model_of(name: str) -> torch.nn.Module:
    task = settings_of(name)[1]
    with torch.device("meta"):
        return build_detector(task, 133 if task.panoptic else 365 if "365_" in name[:12] else 80)


@pytest.mark.parametrize("name", [name for name in TABLE if not name.endswith("_ms")])
def test_models_have_the_official_number_of_parameters(name: str) -> None:
    total = sum(parameter.numel() for parameter in model_of(name).parameters())
    if TABLE[name].parameters is not None:
        assert total == TABLE[name].parameters


LISTS: dict[str, Any] = {}
for _file in ("official_two_stage.json", "official_one_stage.json"):
    LISTS |= json.loads((Path(__file__).parents[1] / "models" / "detectors" / _file).read_text())


@pytest.mark.parametrize("name", LISTS)
def test_models_have_the_official_names_and_shapes(name: str) -> None:
    ours = name.replace("htc++", "htc")
    task, content = settings_of(ours)[1], LISTS[name]
    assert isinstance(task.model, VITS) and not isinstance(task.detector, Mask2FormerConfig)
    config = ViTDetectorConfig(
        family=task.model.kind,
        vit=ViTConfig(**vit_settings(task.model)),
        adapter=task.adapter if task.backbone == "vit_adapter" else None,
        detector=task.detector,
        num_classes=80,
    )
    official = {f"backbone.{key}": shape for key, shape in official_shapes(content["backbone"]).items()}
    official |= {key: tuple(shape) for key, shape in content["state_except_backbone"].items()}
    assert shapes_of(to_official(model_of(ours).state_dict(), config)) == official


@pytest.mark.parametrize("name", TABLE)
def test_documents_tell_command_source_and_score(name: str) -> None:
    text = RECIPES[name].__doc__ or ""
    assert f"imglish train {name} --data.root " in text and "Source: " in text and "Needs: " in text
    first = text.splitlines()[0]
    scores = TABLE[name].scores
    assert all(str(score) in first for score in scores) and ("no score" in first) == (not scores)


@pytest.mark.parametrize("name", TABLE)
def test_a_recipe_starts_from_weights_that_there_are(name: str) -> None:
    assert RECIPES[name]().init in list_models()


@pytest.mark.parametrize("name", [*TABLE, "objects365_detection_giant", "coco_detection_giant"])
def test_recipes_survive_yaml(name: str) -> None:
    config = RECIPES[name]()
    assert from_yaml(RunConfig, to_yaml(config), "config.yaml") == config


@pytest.mark.parametrize(
    ("name", "peak", "epochs", "side"),
    [("objects365_detection_giant", 1e-4, 15, 1024), ("coco_detection_giant", 5e-5, 20, 1280)],
)
def test_the_giant_is_the_papers(name: str, peak: float, epochs: int, side: int) -> None:
    config, task = settings_of(name)
    model, detector, optimizer = task.model, task.detector, config.optimizer
    assert isinstance(model, Beit3Config) and isinstance(detector, TwoStageConfig)
    assert (model.width, model.depth, model.drop_path, model.image_size) == (1408, 40, 0.6, (side, side))
    assert (task.backbone, detector.neck.kind, len(detector.stages)) == ("last_map", "simple", 3)
    assert task.windows == (*[14] * 9, 0) * 4
    assert detector.selection.nms.kind == "linear"
    assert (detector.mask_head is None) == name.startswith("objects365")
    assert (optimizer.lr, optimizer.weight_decay, optimizer.layer_decay) == (peak, 0.1, 0.9)
    assert (optimizer.betas, optimizer.eps) == ((0.9, 0.999), 1e-8)
    assert (config.train.num_epochs, config.schedule.warmup_steps, task.batch_size) == (epochs, 250, 64)
    assert (task.pictures.pipeline, task.pictures.side, task.pictures.range) == (
        "large_scale_jitter", side, "model",
    )  # fmt: skip
    vision = model_of(name).get_submodule("backbone.backbone")
    assert vision.windows == task.windows
