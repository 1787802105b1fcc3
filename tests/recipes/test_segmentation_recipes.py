"""Every official ViT-Adapter segmentation config as a recipe.

The rows are typed from the adapter's FACTS: section 10 (backbone, head, rates, steps, crops), 6 (optimiser
and schedule), 8 (scales and scoring). Totals of parameters are those of the official models (section 4 and
the lists of their parameters). What FACTS do not tell of Potsdam and CHASE-DB1 is from the official
repository's own configs and documents. Scores are those of its documents.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

import pytest
import torch

from imglish.config.core import from_yaml, to_yaml
from imglish.data.formats.segmentation_sets import SegmentationSet
from imglish.hub.load import list_models
from imglish.hub.manifest import find
from imglish.models.segmenters.config import Mask2FormerConfig, UPerNetConfig
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.backbone_config import (
    BeitBackboneConfig,
    TimmBackboneConfig,
    UniPerceiverBackboneConfig,
    ViTBackboneConfig,
)
from imglish.recipes.assembly.segmentation import build_segmenter
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.data_config import SegmentationSetData
from imglish.recipes.runs import RECIPES
from imglish.recipes.segmentation_config import CroppedPictures

BEIT, BEIT_B = "beit_large_patch16_224_pt22k_ft22k", "beit_base_patch16_224_pt22k_ft22k"
BEIT_V2 = "beitv2_large_patch16_224_pt1k_ft21k"
COCO = "mask2former_beit_adapter_large_896_80k_cocostuff164k"
COCO_V2 = "mask2former_beitv2_adapter_large_896_80k_cocostuff164k"
MAPILLARY = "mask2former_beit_adapter_large_896_80k_mapillary"
CLASSES: dict[SegmentationSet, int] = {
    "ade20k": 150, "cityscapes": 19, "mapillary": 19, "coco_stuff10k": 171, "coco_stuff164k": 171,
    "pascal_context": 59, "potsdam": 6, "chase_db1": 2,
}  # fmt: skip
STRIDES = {128: 85, 480: 320, 512: 341, 640: 426, 896: 512}


class Row(NamedTuple):
    """A config: ``head`` is UPerNet's width, or width and queries of Mask2Former."""

    init: str
    kind: str
    drop_path: float
    width: int
    depth: int
    side: int
    deform_heads: int
    deform_ratio: float
    head: int | tuple[int, int]
    lr: float
    weight_decay: float
    layer_decay: float
    steps: int
    crop: int
    data: SegmentationSet
    scale: tuple[int, int]
    parameters: int | None


def beit(
    init: str,
    head: Any,
    steps: int,
    crop: int,
    data: SegmentationSet,
    scale: tuple[int, int],
    parameters: Any,
) -> Row:
    """BEiT or BEiT v2 with the adapter: the numbers that go with its size."""
    if init == BEIT_B:
        sizes: tuple[Any, ...] = (0.2, 768, 12, crop, 12, 0.5)
        rates = (3e-5, 0.05, 0.95)
    else:
        sizes, rates = (0.3, 1024, 24, crop, 16, 0.5), (2e-5, 0.05, 0.9)
    return Row._make((init, "beit", *sizes, head, *rates, steps, crop, data, scale, parameters))


def vit(init: str, kind: str, sizes: tuple[Any, ...], rates: tuple[float, ...], parameters: int) -> Row:
    """UPerNet on ADE20K at 512 pixels."""
    return Row._make((init, kind, *sizes, 512, *rates, 160_000, 512, "ade20k", (2048, 512), parameters))


CONTEXT, CITY = (520, 520), (2048, 1024)
TABLE = {
    "upernet_deit_adapter_tiny_512_160k_ade20k": vit(
        "deit_tiny_patch16_224", "vit", (0.1, 192, 12, 224, 6, 1.0), (12e-5, 0.01, 0.95), 36_062_428
    ),
    "upernet_deit_adapter_small_512_160k_ade20k": vit(
        "deit_small_patch16_224", "vit", (0.2, 384, 12, 224, 6, 1.0), (6e-5, 0.01, 0.95), 57_614_908
    ),
    "upernet_deit_adapter_base_512_160k_ade20k": vit(
        "deit_base_patch16_224", "vit", (0.3, 768, 12, 224, 12, 0.5), (6e-5, 0.01, 0.95), 133_636_876
    ),
    "upernet_deit_adapter_light_base_512_160k_ade20k": vit(
        "deit_base_patch16_224", "vit", (0.3, 768, 12, 224, 12, 0.5), (6e-5, 0.01, 0.95), 125_535_916
    ),
    "upernet_augreg_adapter_tiny_512_160k_ade20k": vit(
        "augreg_tiny_patch16_224", "vit", (0.1, 192, 12, 224, 6, 1.0), (12e-5, 0.01, 0.95), 36_062_428
    ),
    "upernet_augreg_adapter_base_512_160k_ade20k": vit(
        "augreg_base_patch16_384", "vit", (0.3, 768, 12, 384, 12, 0.5), (2e-5, 0.01, 1.0), 133_928_716
    ),
    "upernet_augreg_adapter_large_512_160k_ade20k": vit(
        "augreg_large_patch16_384", "vit", (0.4, 1024, 24, 384, 16, 0.5), (2e-5, 0.05, 0.95), 363_802_092
    ),
    "upernet_uniperceiver_adapter_large_512_160k_ade20k": vit(
        "uniperceiver_large_patch16_224", "uniperceiver", (0.4, 1024, 24, 224, 16, 0.5), (6e-5, 0.05, 0.8),
        363_422_188,
    ),
    "upernet_beit_large_512_160k_ade20k": beit(
        BEIT, 1024, 160_000, 512, "ade20k", (2048, 512), 440_398_636
    )._replace(drop_path=0.2),
    "upernet_beit_adapter_large_640_160k_ade20k": beit(
        BEIT, 1024, 160_000, 640, "ade20k", (2048, 640), 451_919_852
    ),
    "mask2former_beit_adapter_large_640_160k_ade20k": beit(
        BEIT, (1024, 100), 160_000, 640, "ade20k", (2048, 640), 568_204_887
    ),
    "mask2former_beit_adapter_large_896_80k_ade20k": beit(
        COCO, (1024, 200), 80_000, 896, "ade20k", (3584, 896), 570_744_407
    ),
    "mask2former_beitv2_adapter_large_896_80k_ade20k": beit(
        COCO_V2, (1024, 200), 80_000, 896, "ade20k", (3584, 896), 570_744_407
    ),
    "mask2former_beitv2_adapter_large_896_160k_ade20k": beit(
        BEIT_V2, (1024, 200), 160_000, 896, "ade20k", (3584, 896), None
    ),
    "mask2former_beit_adapter_base_512_40k_cocostuff10k": beit(
        BEIT_B, (256, 100), 40_000, 512, "coco_stuff10k", (2048, 512), 120_249_740
    ),
    "mask2former_beit_adapter_large_512_40k_cocostuff10k": beit(
        BEIT, (1024, 100), 40_000, 512, "coco_stuff10k", (2048, 512), None
    ),
    "upernet_beit_adapter_large_512_80k_cocostuff10k": beit(
        BEIT, 1024, 80_000, 512, "coco_stuff10k", (2048, 512), 451_074_326
    ),
    "upernet_beit_adapter_large_640_80k_cocostuff164k": beit(
        BEIT, 1024, 80_000, 640, "coco_stuff164k", (2560, 640), None
    ),
    COCO: beit(BEIT, (1024, 200), 80_000, 896, "coco_stuff164k", (3584, 896), 570_765_932),
    COCO_V2: beit(BEIT_V2, (1024, 200), 80_000, 896, "coco_stuff164k", (3584, 896), None),
    "mask2former_beit_adapter_base_480_40k_pascal_context_59": beit(
        BEIT_B, (256, 100), 40_000, 480, "pascal_context", CONTEXT, None
    ),
    "mask2former_beit_adapter_large_480_40k_pascal_context_59": beit(
        BEIT, (1024, 100), 40_000, 480, "pascal_context", CONTEXT, 567_051_772
    ),
    "upernet_beit_adapter_large_480_80k_pascal_context_59": beit(
        BEIT, 1024, 80_000, 480, "pascal_context", CONTEXT, None
    ),
    MAPILLARY: beit(BEIT, (1024, 100), 80_000, 896, "mapillary", CITY, None),
    "mask2former_beit_adapter_large_896_80k_cityscapes": beit(
        MAPILLARY, (1024, 100), 80_000, 896, "cityscapes", CITY, 570_405_332
    ),
    "mask2former_beit_adapter_large_512_80k_potsdam": beit(
        BEIT, (256, 100), 80_000, 512, "potsdam", (2048, 512), None
    ),
    "mask2former_beit_adapter_large_128_40k_chase_db1": beit(
        BEIT, (256, 100), 40_000, 128, "chase_db1", (999, 960), None
    ),
}  # fmt: skip
# Published, of one scale and of several.
SCORES = {
    "upernet_deit_adapter_tiny_512_160k_ade20k": (42.6, 43.6),
    "upernet_augreg_adapter_tiny_512_160k_ade20k": (43.9, 44.8),
    "mask2former_beit_adapter_large_512_80k_potsdam": (80.0,),
    "mask2former_beit_adapter_large_128_40k_chase_db1": (89.4,),
}
UNSCORED = {
    "upernet_deit_adapter_light_base_512_160k_ade20k",
    "upernet_beit_large_512_160k_ade20k",
    "mask2former_beitv2_adapter_large_896_160k_ade20k",
    MAPILLARY,
}
Settings = tuple[RunConfig, SegmentationTask, CroppedPictures]


def settings_of(name: str) -> Settings:
    config = RECIPES[name]()
    assert isinstance(config.task, SegmentationTask)
    assert isinstance(config.task.pictures, CroppedPictures)
    return config, config.task, config.task.pictures


def test_every_config_has_its_row() -> None:
    named = {name for name in RECIPES if name.startswith(("upernet_", "mask2former_"))}
    assert {name for name in named if not name.endswith(("_demo", "_panoptic"))} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_backbones_are_those_of_the_configs(name: str) -> None:
    row, (_, task, _) = TABLE[name], settings_of(name)
    model, adapter = task.model, task.adapter
    assert isinstance(model, ViTBackboneConfig | BeitBackboneConfig | UniPerceiverBackboneConfig)
    assert (model.kind, model.drop_path, model.width, model.depth) == (
        row.kind, row.drop_path, row.width, row.depth,
    )  # fmt: skip
    assert model.image_size == (row.side, row.side)
    if name == "upernet_beit_large_512_160k_ade20k":
        assert (task.backbone, task.out_blocks) == ("plain_vit", (7, 11, 15, 23))
        return
    assert (task.backbone, task.out_blocks) == ("vit_adapter", ())
    assert (adapter.num_heads, adapter.value_ratio, adapter.num_points) == (
        row.deform_heads, row.deform_ratio, 4,
    )  # fmt: skip
    assert adapter.drop_path == row.drop_path
    light = "light" in name
    assert (adapter.num_interactions, adapter.vit_features) == (
        (1, "none") if light else (4, "per_interaction")
    )
    assert (adapter.feed_forward_ratio, adapter.num_extra_extractors) == ((0.0, 0) if light else (0.25, 2))
    assert adapter.injector_scale == (1e-6 if row.kind == "beit" else 0.0)


@pytest.mark.parametrize("name", TABLE)
def test_heads_are_those_of_the_configs(name: str) -> None:
    row, (_, task, _) = TABLE[name], settings_of(name)
    head = task.segmenter
    if isinstance(row.head, int):
        assert head == UPerNetConfig(head_width=row.head, auxiliary_width=256, dropout=0.1)
        assert task.auxiliary_weight == 0.4
        return
    width, queries = row.head
    assert isinstance(head, Mask2FormerConfig)
    assert (head.width, head.num_queries, head.num_heads) == (width, queries, 8 if width == 256 else 32)
    assert (head.num_pixel_layers, head.num_layers, task.num_points) == (6, 9, 12_544)
    pixel = 1024 if row.data not in ("potsdam", "chase_db1") else 2048
    inner = (4096, 4096) if width == 1024 else (pixel, 2048)
    assert (head.pixel_feed_forward_width, head.feed_forward_width) == inner


@pytest.mark.parametrize("name", TABLE)
def test_training_is_that_of_the_configs(name: str) -> None:
    row, (config, task, pictures) = TABLE[name], settings_of(name)
    optimizer, schedule = config.optimizer, config.schedule
    assert (optimizer.lr, optimizer.weight_decay, optimizer.layer_decay) == (
        row.lr, row.weight_decay, row.layer_decay,
    )  # fmt: skip
    assert (optimizer.betas, optimizer.eps, config.train.max_grad_norm) == ((0.9, 0.999), 1e-8, 0.0)
    special = name == "upernet_augreg_adapter_base_512_160k_ade20k"
    assert (optimizer.head_lr_scale, optimizer.decay_by) == ((10.0, "name") if special else (1.0, "shape"))
    assert (schedule.kind, schedule.warmup_steps, schedule.final_lr) == ("poly", 1500, 0.0)
    assert schedule.warmup_lr == pytest.approx(1e-6 * row.lr, rel=1e-9)
    assert (config.train.num_steps, config.init) == (row.steps, row.init)
    assert task.batch_size == (8 if row.data == "potsdam" else 16)
    data = config.data
    assert isinstance(data, SegmentationSetData) and data.name == row.data and config.name == name
    assert (pictures.crop, pictures.scale) == ((row.crop, row.crop), row.scale)
    assert (pictures.ratios, pictures.most_of_one, pictures.flip) == ((0.5, 2.0), 0.75, 0.5)
    assert pictures.distortion
    in_model_range = "augreg_adapter_base" in name or "augreg_adapter_large" in name
    assert pictures.range == ("model" if in_model_range else "imagenet")


@pytest.mark.parametrize("name", TABLE)
def test_a_single_scale_is_that_of_the_configs(name: str) -> None:
    row, (_, _, pictures) = TABLE[name], settings_of(name)
    views, windows = pictures.views(), pictures.windows()
    assert (
        windows is not None and windows.stride == (STRIDES[row.crop],) * 2 and windows.size == (row.crop,) * 2
    )
    assert views.scale == ((4096, 520) if row.data == "pascal_context" else row.scale)
    flips = name == "mask2former_beitv2_adapter_large_896_80k_ade20k"
    assert (views.ratios, views.flip, views.padding) == ((1.0,), flips, "none")
    assert views.fit == ("plain" if row.data == "cityscapes" else "multiple_of_32")


@pytest.mark.parametrize("name", TABLE)
def test_several_scales_are_those_of_the_configs(name: str) -> None:
    row, (_, _, pictures) = TABLE[name], settings_of(name)
    several = CroppedPictures(
        **{
            field: getattr(pictures, field)
            for field in ("crop", "stride", "scale", "scored_scale", "scored_flip", "fit", "range", "several")
        },
        scored_at="several_scales",
    ).views()
    assert several.flip and several.scale == pictures.views().scale and several.crop == pictures.crop
    sides: tuple[int, ...] = ()
    if row.crop == 896 and row.data in ("ade20k", "coco_stuff164k"):
        version_2 = "beitv2" in name and row.data == "ade20k"
        sides = (800, 832, 864, 896) if version_2 else (640, 768, 896)
        assert (several.fit, several.padding) == ("multiple_of_32", "mean" if version_2 else "black")
        assert [ratio * 896 for ratio in several.ratios] == pytest.approx(sides, abs=1e-9)
        return
    assert several.padding == "none"
    assert several.fit == ("at_least_crop" if row.kind == "beit" else "multiple_of_32")
    more = (2.0,) if row.data in ("cityscapes", "mapillary") else ()
    assert several.ratios == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, *more)


@pytest.mark.parametrize("name", TABLE)
def test_models_have_the_official_number_of_parameters(name: str) -> None:
    row, (_, task, _) = TABLE[name], settings_of(name)
    with torch.device("meta"):
        model = build_segmenter(task, CLASSES[row.data])
    total = sum(parameter.numel() for parameter in model.parameters())
    if row.parameters is not None:
        assert total == row.parameters
    if row.data in ("potsdam", "chase_db1"):  # the documents of the official repository, in millions
        assert round(total / 1e6) == {"potsdam": 352, "chase_db1": 350}[row.data]


@pytest.mark.parametrize("name", TABLE)
def test_documents_tell_command_source_and_score(name: str) -> None:
    text = RECIPES[name].__doc__ or ""
    assert f"imglish train {name} --data.root " in text and "Source: " in text and "Needs: " in text
    file = find(name)
    scores = SCORES.get(name, () if file is None else tuple(score.value for score in file.scores))
    first = text.splitlines()[0]
    assert all(str(score) in first for score in scores) and ("no score" in first) == (not scores)
    assert (not scores) == (name in UNSCORED)


@pytest.mark.parametrize("name", TABLE)
def test_a_recipe_starts_from_weights_that_there_are(name: str) -> None:
    assert RECIPES[name]().init in list_models()


@pytest.mark.parametrize("name", TABLE)
def test_recipes_survive_yaml(name: str) -> None:
    config = RECIPES[name]()
    assert from_yaml(RunConfig, to_yaml(config), "config.yaml") == config


def test_backbones_of_a_kind_are_by_default_those_of_the_base() -> None:
    """So that ``--task.model.kind beit`` alone is a BEiT."""
    expected = {
        ViTBackboneConfig(): presets.vit("base"),
        BeitBackboneConfig(): presets.beit("base", "segmentation"),
        UniPerceiverBackboneConfig(): presets.uniperceiver("base"),
    }
    for ours, preset in expected.items():
        for field in fields(ViTConfig):
            assert getattr(ours, field.name) == getattr(preset, field.name), (type(ours), field.name)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ViTBackboneConfig(output_norm=True),
        lambda: BeitBackboneConfig(output_norm=True),
        lambda: ViTBackboneConfig(width=100, num_heads=3),
        lambda: TimmBackboneConfig(patch_size=0),
        lambda: TimmBackboneConfig(drop_path=1.0),
    ],
)
def test_impossible_backbones_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="output_norm|width|patch_size|drop_path"):
        make()
