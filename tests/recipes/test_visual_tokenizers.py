"""The recipes of visual tokenizers have the numbers of the released training, and their parts fit.

The numbers are typed here once more from beit2/TOKENIZER.md, beit2/run_vqkd_training.py and parity FACTS,
section 10.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from imglish.errors import ConfigError
from imglish.models.vit.config import ViTConfig
from imglish.models.vqkd.config import VqkdConfig
from imglish.models.vqkd.model import Vqkd
from imglish.models.vqkd.teachers import TimmTeacher
from imglish.models.vqkd.weights import to_official
from imglish.recipes.assemble import assemble
from imglish.recipes.assembly import pretraining
from imglish.recipes.assembly.base import Shares
from imglish.recipes.assembly.pretraining import find_teacher, load_visual_tokenizer
from imglish.recipes.config import RunConfig, VisualTokenizerTask
from imglish.recipes.data_config import ClassFolderData
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.runs import RECIPES
from imglish.recipes.visual_tokenizers import vqkd_demo

KEYS = Path(__file__).parents[1] / "parity" / "data" / "keys"
# Name: released file (None where none was), decoder layers, teacher's features, timm's name of the teacher.
RELEASED: dict[str, tuple[str | None, int, int, str]] = {
    "vqkd_base_clip": (
        "vqkd_encoder_base_decoder_3x768x12_clip", 3, 512, "vit_base_patch16_clip_quickgelu_224.openai",
    ),
    "vqkd_base_clip_decoder1": (
        "vqkd_encoder_base_decoder_1x768x12_clip", 1, 512, "vit_base_patch16_clip_quickgelu_224.openai",
    ),
    "vqkd_base_dino": (None, 3, 768, "vit_base_patch16_224.dino"),
    "vqkd_base_dino_decoder1": (
        "vqkd_encoder_base_decoder_1x768x12_dino", 1, 768, "vit_base_patch16_224.dino",
    ),
}  # fmt: skip


def task_of(config: RunConfig) -> VisualTokenizerTask:
    assert isinstance(config.task, VisualTokenizerTask)
    return config.task


@pytest.mark.parametrize("name", RELEASED)
def test_numbers_are_those_of_the_released_training(name: str) -> None:
    config = RECIPES[name]()
    task, optimizer, schedule, train = (
        task_of(config),
        config.optimizer,
        config.schedule,
        config.train,
    )
    assert config.name == name
    assert (task.batch_size, task.beta, task.crop_scale, task.flip) == (8 * 64, 1.0, 0.08, 0.5)
    assert optimizer.lr == pytest.approx(5e-5 * 512 / 128)
    assert (optimizer.betas, optimizer.eps, optimizer.weight_decay) == ((0.9, 0.99), 1e-8, 1e-4)
    assert (schedule.kind, schedule.warmup_epochs, schedule.warmup_lr, schedule.final_lr) == (
        "cosine",
        10,
        0.0,
        1e-5,
    )
    assert (train.num_epochs, train.max_grad_norm, train.ema_decay) == (100, 0.0, 0.0)
    assert isinstance(config.data, ClassFolderData)


@pytest.mark.parametrize("name", RELEASED)
def test_models_have_the_released_sizes(name: str) -> None:
    _, decoder_depth, teacher_dim, teacher = RELEASED[name]
    task = task_of(RECIPES[name]())
    sizes = task.tokenizer
    encoder = sizes.encoder
    assert (encoder.image_size, encoder.patch_size, encoder.depth) == ((224, 224), 16, 12)
    assert (encoder.width, encoder.num_heads, encoder.mlp_ratio) == (768, 12, 4)
    assert (encoder.absolute_positions, encoder.relative_positions, encoder.layer_scale) == (True, "none", 0)
    assert (sizes.decoder_depth, sizes.decoder_width, sizes.decoder_heads) == (decoder_depth, 768, 12)
    assert (sizes.codebook_size, sizes.codebook_dim, sizes.decay) == (8192, 32, 0.99)
    assert (sizes.teacher_dim, task.teacher) == (teacher_dim, f"timm:{teacher}")
    assert sizes.revive_after == 0  # the released code leaves dead codes alone


@pytest.mark.parametrize("name", [name for name, row in RELEASED.items() if row[0]])
def test_every_released_tensor_has_its_place_in_the_model(name: str) -> None:
    listed = json.loads((KEYS / f"{RELEASED[name][0]}.json").read_text())
    with torch.device("meta"):
        ours = to_official(Vqkd(task_of(RECIPES[name]()).tokenizer).state_dict())
    assert {key: list(value.shape) for key, value in ours.items()} == listed["parameters"] | listed["buffers"]


@pytest.mark.parametrize("name", RELEASED)
def test_timm_has_the_teacher_with_the_features_that_the_decoder_rebuilds(name: str) -> None:
    task = task_of(RECIPES[name]())
    model_name = task.teacher.removeprefix("timm:")
    with torch.device("meta"):
        model = timm.create_model(model_name, pretrained=False)
    teacher = TimmTeacher(model, task.tokenizer.encoder.grid_size, projected="clip" in model_name)
    assert teacher.dim == task.tokenizer.teacher_dim
    assert model_name in timm.list_pretrained(model_name)


@pytest.mark.parametrize("name", [*RELEASED, "vqkd_demo"])
def test_documents_say_how_to_run_them_and_where_numbers_come_from(name: str) -> None:
    text = RECIPES[name].__doc__ or ""
    assert f"imglish train {name}" in text
    assert ("Source: " in text) == (name != "vqkd_demo")


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Two classes with six pictures each, in ImageNet's layout."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for name in ("n01", "n02"):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "imagenet"


TINY = VqkdConfig(
    encoder=ViTConfig(image_size=(32, 32), patch_size=16, width=16, depth=1, num_heads=2),
    decoder_width=16, decoder_depth=1, decoder_heads=2, codebook_size=8, codebook_dim=8, teacher_dim=12,
)  # fmt: skip


def tiny_teacher(name: str, rest: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=12, depth=1, num_heads=2, num_classes=0)


def test_a_recipe_trains_on_class_folders(
    imagenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the recipe but its sizes; the teacher is timm's class with random weights: no download."""
    monkeypatch.setattr(pretraining, "_timm_model", tiny_teacher)
    config = RECIPES["vqkd_base_dino"]()
    config = replace(
        config,
        task=replace(task_of(config), tokenizer=TINY, batch_size=4),
        data=ClassFolderData(root=imagenet),
    )
    assembly = assemble(config, RunFolder(tmp_path), Shares())
    assert assembly.plan is not None
    batch = assembly.plan.batch(0).batch
    again = assembly.plan.batch(0).batch
    assert batch.images.shape == (4, 3, 32, 32) and torch.equal(batch.images, again.images)
    out = assembly.task.training_step(batch)
    out.loss.backward()
    assembly.task.after_step()
    assert out.loss.isfinite()
    for loaded in assembly.evaluation(Shares()):
        assembly.task.evaluation_step(loaded.batch)
    assert 0 < assembly.task.metrics.compute()["codebook/usage"] <= 1


def test_training_pictures_are_cropped_and_scored_ones_are_whole(
    imagenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining, "_timm_model", tiny_teacher)
    config = RECIPES["vqkd_base_dino"]()
    task = replace(task_of(config), tokenizer=TINY, batch_size=4)
    assembly = assemble(
        replace(config, task=task, data=ClassFolderData(root=imagenet)), RunFolder(tmp_path), Shares()
    )
    plan: Any = assembly.plan
    trained, scored = plan.source.dataset, assembly.evaluation_set
    assert scored is not None
    draws = [trained.get(0, np.random.default_rng(seed)).image for seed in range(2)]
    assert not torch.equal(*draws)
    whole = [scored.get(0, np.random.default_rng(seed)).image for seed in range(2)]
    assert torch.equal(*whole)


def test_the_demo_learns_from_the_weights_in_the_package(tmp_path: Path) -> None:
    config = vqkd_demo()
    config = replace(config, task=replace(task_of(config), batch_size=4))
    assembly = assemble(config, RunFolder(tmp_path), Shares())
    assert assembly.plan is not None
    assert assembly.task.training_step(assembly.plan.batch(0).batch).loss.isfinite()


@pytest.mark.parametrize("name", ["timm:no_such_model", "timm:vit_base_patch16_224.no_such_tag"])
def test_a_teacher_that_cannot_be_had_is_one_clear_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"timm can not give it .*check the name") as error:
        find_teacher(name, (2, 2), 16)
    assert "\n" not in str(error.value)


def test_weights_that_cannot_be_fetched_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without a network: nothing is asked of the Hub, and its cache is empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="timm can not give it .*the network where its weights") as error:
        find_teacher("timm:test_vit.r160_in1k", (2, 2), 16)
    assert "\n" not in str(error.value)


def test_official_files_load_as_tokenizers(tmp_path: Path) -> None:
    """An official state dict of tiny sizes gives the tokens of the model it was written from."""
    torch.manual_seed(0)
    encoder = ViTConfig(image_size=(32, 32), patch_size=16, width=64, depth=1, num_heads=1)
    model = Vqkd(replace(TINY, encoder=encoder, decoder_width=64, decoder_heads=1)).eval()
    path = tmp_path / "tokenizer.pth"
    torch.save({"model": to_official(model.state_dict())}, path)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(load_visual_tokenizer(str(path)).encode(images), model.encode(images))
