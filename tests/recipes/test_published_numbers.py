"""Every recipe has the numbers that were published for it, typed here once more from their sources.

The released base and large: parity FACTS, section 8 (scripts and documents of the official repository). The
giant: the paper's appendices A and B.
"""

from __future__ import annotations

from typing import Any

import pytest

from imglish.models.beit3.config import Beit3Config
from imglish.recipes.config import RunConfig
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.runs import RECIPES

COLUMNS = "pixels batch lr epochs warmup layer_decay drop_path weight_decay betas eps".split()
TUNED, ANSWERS = (0.9, 0.999), (0.9, 0.98)
PUBLISHED: dict[str, tuple[Any, ...]] = {
    # released base and large
    "imagenet_base": (224, 1024, 7e-4, 50, 5, 0.65, 0.15, 0.05, TUNED, 1e-8),
    "imagenet_large": (224, 1024, 2e-4, 50, 5, 0.8, 0.25, 0.05, TUNED, 1e-8),
    "vqav2_base": (480, 128, 3e-5, 10, 1, 1.0, 0.1, 0.01, ANSWERS, 1e-8),
    "vqav2_large": (480, 128, 2e-5, 10, 1, 1.0, 0.15, 0.01, ANSWERS, 1e-8),
    "vqav2_large_768": (768, 128, 2e-5, 10, 1, 1.0, 0.15, 0.01, ANSWERS, 1e-8),
    "nlvr2_base": (224, 256, 7e-4, 20, 5, 0.65, 0.2, 0.2, TUNED, 1e-8),
    "nlvr2_large": (224, 256, 3e-4, 20, 5, 0.85, 0.2, 0.2, TUNED, 1e-8),
    "coco_captioning_base": (480, 256, 4e-5, 10, 1, 1.0, 0.1, 0.05, TUNED, 1e-8),
    "coco_captioning_large": (480, 256, 8e-6, 10, 1, 1.0, 0.1, 0.05, TUNED, 1e-8),
    "nocaps_captioning_base": (480, 256, 1e-5, 10, 1, 1.0, 0.1, 0.05, TUNED, 1e-8),
    "nocaps_captioning_large": (480, 256, 8e-6, 10, 1, 1.0, 0.1, 0.05, TUNED, 1e-8),
    "coco_retrieval_base": (384, 3072, 2e-4, 15, 3, 0.65, 0.2, 0.05, TUNED, 1e-8),
    "coco_retrieval_large": (384, 3072, 5e-5, 15, 3, 0.85, 0.2, 0.05, TUNED, 1e-8),
    "flickr30k_retrieval_base": (384, 3072, 1e-4, 20, 5, 0.65, 0.2, 0.05, TUNED, 1e-8),
    "flickr30k_retrieval_large": (384, 3072, 5e-5, 20, 5, 0.85, 0.2, 0.05, TUNED, 1e-8),
    # the paper's giant; 3k, 16k and 2k of its tables as powers of two and their sums
    "nlvr2_giant": (224, 256, 1e-3, 20, 5, 0.8, 0.4, 0.05, TUNED, 1e-8),
    "vqav2_giant": (756, 128, 1e-5, 10, 1, 1.0, 0.4, 0.01, TUNED, 1e-8),
    "coco_captioning_giant": (392, 256, 8e-6, None, None, 1.0, 0.3, 0.01, TUNED, 1e-8),
    "coco_retrieval_giant": (420, 3072, 1e-5, 15, 3, 0.95, 0.3, 0.05, TUNED, 1e-8),
    "flickr30k_retrieval_giant": (420, 3072, 1e-5, 20, 5, 0.95, 0.3, 0.05, TUNED, 1e-8),
    "imagenet21k_giant": (224, 16384, 5e-5, 50, 5, 0.85, 0.4, 0.05, ANSWERS, 1e-6),
    "imagenet_giant": (336, 2048, 3e-5, 15, 3, 0.95, 0.4, 0.05, TUNED, 1e-8),
    # appendix A, which has no epsilon: that of the fine-tuning tables
    "contrastive_giant": (224, 16384, 3e-5, 5, 1, 0.95, 0.3, 0.05, TUNED, 1e-8),
    "contrastive_base": (224, 16384, 3e-5, 5, 1, 0.95, 0.3, 0.05, TUNED, 1e-8),
    "contrastive_large": (224, 16384, 3e-5, 5, 1, 0.95, 0.3, 0.05, TUNED, 1e-8),
}
# Layers, width, feed-forward width, heads, side of a patch.
SIZES = {
    "base": (12, 768, 3072, 12, 16),
    "large": (24, 1024, 4096, 16, 16),
    "giant": (40, 1408, 6144, 16, 14),
}
RELEASED = [name for name in PUBLISHED if "giant" not in name]
# tests/recipes/test_segmentation_data.py and test_segmentation_recipes.py have their numbers.
SEGMENTATION = ("ade20k_", "segmentation_", "upernet_", "mask2former_")
OTHERS = ("world_", "vqkd_", "beit", *SEGMENTATION)
OURS = {name for name in RECIPES if name.startswith(OTHERS) or name.endswith("_demo")}
# tests/recipes/test_detection_recipes.py and test_sparse_recipes.py have theirs.
DETECTION = {name for name, recipe in RECIPES.items() if isinstance(recipe().task, DetectionTask)}


def model_of(config: RunConfig) -> Beit3Config:
    model = getattr(config.task, "model", None)
    assert isinstance(model, Beit3Config)
    return model


def numbers_of(config: RunConfig) -> tuple[Any, ...]:
    model, optimizer = model_of(config), config.optimizer
    height, width = model.image_size
    assert height == width
    return (
        height,
        config.task.batch_size,
        optimizer.lr,
        config.train.num_epochs or None,
        config.schedule.warmup_epochs or None,
        optimizer.layer_decay,
        model.drop_path,
        optimizer.weight_decay,
        optimizer.betas,
        optimizer.eps,
    )


def test_every_recipe_of_a_published_result_has_its_row() -> None:
    assert set(RECIPES) - OURS - DETECTION == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_are_the_published_ones(name: str) -> None:
    config = RECIPES[name]()
    found = dict(zip(COLUMNS, numbers_of(config), strict=True))
    assert found == dict(zip(COLUMNS, PUBLISHED[name], strict=True))
    assert config.name == name
    assert (config.schedule.kind, config.schedule.warmup_lr, config.schedule.final_lr) == (
        "cosine",
        0.0,
        1e-6,
    )
    assert config.train.max_grad_norm == 0.0  # no clipping by default


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_have_the_published_sizes(name: str) -> None:
    (size,) = (size for size in SIZES if f"_{size}" in name)
    model = model_of(RECIPES[name]())
    found = (model.depth, model.width, model.feed_forward_width, model.num_heads, model.patch_size)
    assert found == SIZES[size]
    assert bool(model.num_fusion_layers) == (size == "giant")  # the released ones have no such experts


@pytest.mark.parametrize("name", PUBLISHED)
def test_runs_start_from_the_weights_that_their_source_names(name: str) -> None:
    size = "large" if "_large" in name else "base"
    if "giant" in name:
        expected = ""  # never released: --init names a run
    elif "retrieval" in name:
        expected = f"beit3_{size}_itc_patch16_224"
    elif name == "vqav2_large_768":
        expected = "beit3_large_indomain_patch16_224"
    else:
        expected = f"beit3_{size}_patch16_224"
    assert RECIPES[name]().init == expected


@pytest.mark.parametrize("name", RELEASED)
def test_released_recipes_share_a_seed_and_their_augmentation(name: str) -> None:
    config = RECIPES[name]()
    if name.startswith("contrastive"):
        return  # not released
    assert config.train.seed == 42
    if name.startswith("imagenet"):
        assert config.task.kind == "image_classification" and config.task.pictures == "imagenet"
        assert (config.task.mix, config.task.mixup, config.task.cutmix, config.task.smoothing) == (
            True,
            0.8,
            1.0,
            0.1,
        )
        return
    augment = config.task.augment  # type: ignore[union-attr]
    assert (augment.crop_scale, augment.flip) == (0.5, 0.5)
    assert augment.rand_augment == name.startswith(("vqav2", "coco_captioning", "nocaps"))


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "imagenet" not in name])
def test_texts_have_the_published_length(name: str) -> None:
    assert RECIPES[name]().task.max_text_tokens == (32 if "captioning" in name else 64)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "captioning" in name])
def test_captions_are_hidden_and_written_as_published(name: str) -> None:
    task = RECIPES[name]().task
    assert task.kind == "captioning"
    giant = "giant" in name
    assert (task.mask_share, task.smoothing) == (0.6 if giant else 0.7, 0.1)
    assert (task.num_beams, task.length_penalty) == (3, 0.6)
    assert (task.drop_worst, task.drop_after) == (0.0 if giant else 0.2, 12_000)


def test_the_giant_writes_captions_for_sixteen_thousand_steps() -> None:
    config = RECIPES["coco_captioning_giant"]()
    assert (config.train.num_steps, config.schedule.warmup_steps) == (16_000, 1600)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "vqav2" in name])
def test_answers_that_occur_nine_times_are_classes_of_a_faster_head(name: str) -> None:
    config = RECIPES[name]()
    assert config.task.kind == "vqa" and config.task.min_answer_count == 9
    assert config.optimizer.head_lr_scale == (1.0 if "giant" in name else 20.0)


@pytest.mark.parametrize("name", ["imagenet_giant", "imagenet21k_giant"])
def test_the_giant_finds_smoothed_names_of_classes(name: str) -> None:
    task = RECIPES[name]().task
    assert task.kind == "class_names" and task.smoothing == 0.1


@pytest.mark.parametrize("name", PUBLISHED)
def test_documents_of_recipes_say_how_to_run_them_and_where_numbers_come_from(name: str) -> None:
    text = RECIPES[name].__doc__ or ""
    assert f"imglish train {name} " in text and "Source: " in text
    assert ("--init RUN" in text) == ("giant" in name)


PRETRAINING = {"base": 0.1, "large": 0.1, "giant": 0.1}  # and their drop path


@pytest.mark.parametrize("size", PRETRAINING)
def test_pretraining_has_the_numbers_of_the_paper(size: str) -> None:
    config = RECIPES[f"beit3_{size}_pretraining"]()
    task = config.task
    assert task.kind == "masked_data_modeling"
    assert (task.num_images, task.num_texts, task.num_pairs, task.batch_size) == (2048, 2048, 2048, 6144)
    assert (task.image_share, task.text_share, task.pair_text_share) == (0.4, 0.15, 0.5)
    assert (task.masking, task.min_block, task.clean_share, task.hide_answers) == ("blocks", 16, 0.0, False)
    assert (task.flip, task.color_jitter) == (0.5, 0.4) and task.crop_scale < 1 and task.augment_pairs
    optimizer, train = config.optimizer, config.train
    assert (optimizer.lr, optimizer.betas, optimizer.eps, optimizer.weight_decay) == (
        1e-3,
        ANSWERS,
        1e-6,
        0.05,
    )
    assert (config.schedule.kind, config.schedule.warmup_steps) == ("cosine", 10_000)
    assert (train.num_steps, train.max_grad_norm) == (1_000_000, 3.0)
    model = task.model
    assert (model.image_size, model.drop_path, model.init) == ((224, 224), PRETRAINING[size], "paper")
    found = (model.depth, model.width, model.feed_forward_width, model.num_heads, model.patch_size)
    assert found == SIZES[size]
    assert model.num_fusion_layers == (3 if size == "giant" else 0)
