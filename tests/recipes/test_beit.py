"""BEiT's pretraining from a command to a model that another run starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from imglish import load_model
from imglish.cli.main import main
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.errors import CheckpointError, ConfigError
from imglish.hub.load import read_weights
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.layers import layer_of
from imglish.models.vit.model import ViT, ViTForClassification
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.recipes.assemble import assemble
from imglish.recipes.assembly.base import Shares
from imglish.recipes.assembly.masked_image_modeling import First
from imglish.recipes.beit import beit2_demo
from imglish.recipes.beit_config import MaskedImageModelingTask
from imglish.recipes.config import RunConfig
from imglish.recipes.data_config import (
    ClassFolderData,
    DataConfig,
    FolderData,
    Nlvr2Data,
    TableData,
    WorldStreamData,
)
from imglish.recipes.initial_vit import load_vit
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.runs import RECIPES
from imglish.structures.batches import MaskedImages
from tests.recipes.tiny_runs import error_line

NUM_TRAIN, NUM_VALIDATION = 8, 6
LOOP = (
    "--task.batch-size 4 --train.num-steps 2 --train.log-every 1 --train.num-workers 0 --train.device cpu "
    "--schedule.warmup-steps 0 --task.model.width 16 --task.model.depth 2 --task.model.num-heads 2"
).split()
PRETRAIN = ["train", "beit2_demo", *LOOP, "--task.early-layers", "2"]
SMALL = ViTConfig(image_size=(32, 32), width=8, depth=1, num_heads=1)
LAST_BLOCK = "blocks.1.attention.relative_positions.table"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small World, and a finished pretraining on its shards."""
    root = tmp_path_factory.mktemp("beit")
    write_world(WorldConfig(), root / "world", num_train=NUM_TRAIN, num_validation=NUM_VALIDATION)
    data = ["--data.kind", "folder", "--data.root", str(root / "world")]
    assert main([*PRETRAIN, *data, "--out", str(root / "run")]) == 0
    return root


def pretrained(root: Path) -> ViTForMaskedImageModeling:
    model = load_model(root / "run").model
    assert isinstance(model, ViTForMaskedImageModeling)
    return model


def tuned(root: Path, *more: str) -> list[str]:
    """The command that fine-tunes the pretrained ViT to tell classes."""
    data = ["--data.root", str(root / "world"), "--init", str(root / "run")]
    return ["train", "beit2_classification_demo", *LOOP, *data, *more]


# What the official documents say, typed here once more from beit/README.md and beit2/PRETRAINING.md.
BEITS = {
    "beit_base": (12, 768, 12, 0.1, 0, 0.08, False, "model", (0.9, 0.98), 150, 0, 10_000),
    "beit_large": (24, 1024, 16, 1e-5, 0, 0.08, False, "model", (0.9, 0.98), 150, 0, 10_000),
    "beit2_base": (12, 768, 12, 0.1, 9, 0.2, True, "imagenet", (0.9, 0.999), 1600, 10, 0),
    "beit2_large": (24, 1024, 16, 1e-5, 21, 0.2, True, "imagenet", (0.9, 0.999), 1600, 10, 0),
}


@pytest.mark.parametrize("name", BEITS)
def test_recipes_have_the_official_numbers(name: str) -> None:
    config = RECIPES[name]()
    task, model = config.task, config.task.model if isinstance(config.task, MaskedImageModelingTask) else None
    assert isinstance(task, MaskedImageModelingTask) and model is not None
    assert (
        model.depth, model.width, model.num_heads, model.layer_scale, task.early_layers, task.crop_scale,
        task.exact, task.pictures, config.optimizer.betas, config.train.num_epochs,
        config.schedule.warmup_epochs, config.schedule.warmup_steps,
    ) == BEITS[name]  # fmt: skip
    assert (model.relative_positions, model.absolute_positions, model.drop_path) == ("shared", False, 0.1)
    assert (task.num_masked, task.min_block, task.batch_size, task.flip, task.color_jitter) == (
        75, 16, 2048, 0.5, 0.4,
    )  # fmt: skip
    assert (task.class_layers, task.shared_head) == (2, True)
    assert (config.optimizer.lr, config.optimizer.eps, config.optimizer.weight_decay) == (1.5e-3, 1e-8, 0.05)
    assert (config.schedule.kind, config.schedule.final_lr) == ("cosine", 1e-5)
    assert config.train.max_grad_norm == 3.0 and config.name == name


def test_a_run_is_scored_beside_frequencies_by_both_ways(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = RunFolder(root / "run").scores()
    assert scores is not None
    # Six patches of each picture are hidden.
    for way in ("patches", "class_patches"):
        assert scores[f"{way}/count"] == 6 * NUM_VALIDATION
        assert 0 < scores[f"{way}/unigram"] < 1 and 0 <= scores[f"{way}/accuracy"] <= 1
    assert main(["evaluate", str(root / "run")]) == 0
    shown = capsys.readouterr().out
    assert "class_patches/accuracy" in shown and "patches/unigram" in shown


def test_a_finished_run_loads_whole_and_as_a_backbone(root: Path) -> None:
    run = load_model(root / "run")
    assert (run.kind, run.settings["pictures"]) == ("masked_image_modeling", "model")
    model = run.model
    assert isinstance(model, ViTForMaskedImageModeling)
    # What shapes can not tell comes from the run's settings.
    assert model.aggregation is not None and model.aggregation.early_layers == 2
    assert model.vit.config.num_heads == 2 and model.vit.config.depth == 2
    saved = RunFolder(root / "run").weights()
    assert saved.keys() == model.state_dict().keys()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    backbone = read_weights(root / "run" / "model.safetensors", backbone=True)
    assert backbone.kind == "backbone" and backbone.config == model.vit.config
    vit = ViT(model.vit.config)
    vit.load_state_dict(backbone.state)
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(vit.eval()(images), model.vit(images))
    assert isinstance(load_model(root / "run", image_size=96).model, ViTForMaskedImageModeling)


def test_fine_tuning_starts_each_block_from_a_copy_of_the_shared_table(root: Path) -> None:
    source = pretrained(root).vit
    assert source.relative_positions is not None
    with torch.no_grad():  # a table of zeros would tell nothing
        source.relative_positions.table.normal_()
    weights = {f"vit.{name}": tensor for name, tensor in source.state_dict().items()}
    weights = RunFolder(root / "run").weights() | weights
    copy = root / "copy"
    copy.mkdir()
    save_file(weights, copy / "model.safetensors")
    (copy / "config.yaml").write_text((root / "run" / "config.yaml").read_text())
    model = ViTForClassification(replace(source.config, relative_positions="per_block"), 5)
    fresh = load_vit(model, str(copy))
    # The norm of the mean is new, as there was no mean in pretraining.
    assert fresh == ["head.bias", "head.weight", "vit.norm.bias", "vit.norm.weight"]
    state = model.vit.state_dict()
    for block in range(2):
        table = state[f"blocks.{block}.attention.relative_positions.table"]
        assert torch.equal(table, source.relative_positions.table)
    for name, tensor in source.state_dict().items():
        if name.startswith(("blocks.", "patches.", "class_token")):
            assert torch.equal(state[name], tensor), name
    # From the class token it is the same norm as in pretraining.
    by_token = ViTForClassification(model.vit.config, 5, pooling="class_token")
    assert load_vit(by_token, str(copy)) == ["head.bias", "head.weight"]
    # At another size the table is resampled before it is copied.
    wide = replace(source.config, relative_positions="per_block", image_size=(96, 96))
    larger = ViT(wide)
    assert load_vit(larger, str(copy)) == []
    assert larger.state_dict()[LAST_BLOCK].shape == (11 * 11 + 3, 2)


def test_pretraining_goes_on_from_a_run_with_its_heads(root: Path) -> None:
    source = pretrained(root)
    model = ViTForMaskedImageModeling(
        source.vit.config, codebook_size=source.token_head.out_features, aggregation=source.aggregation
    )
    assert load_vit(model, str(root / "run")) == []
    assert torch.equal(model.token_head.weight, source.token_head.weight)
    own, given = model.class_blocks.state_dict(), source.class_blocks.state_dict()
    assert own and all(torch.equal(own[name], given[name]) for name in own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 32}, r"another architecture: .* is \(16,\), in the model \(32,\)"),
        ({"depth": 3}, "blocks.2.* is missing, in the model"),
        ({"layer_scale": 0.1}, r"scale1 is missing, in the model \(16,\)"),
        ({"relative_positions": "none", "absolute_positions": True}, "positions is missing, in the model"),
    ],
)
def test_weights_of_another_architecture_are_refused(
    root: Path, change: dict[str, object], message: str
) -> None:
    config = replace(pretrained(root).vit.config, **change)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=message):
        load_vit(ViT(config), str(root / "run"))


def test_weights_of_another_family_and_unfinished_runs_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no model.safetensors; train it to its end"):
        load_vit(ViT(SMALL), str(tmp_path))
    with pytest.raises(CheckpointError, match="no plain ViT, but a BEiT-3; name a BEiT"):
        load_vit(ViT(SMALL), "world")
    with pytest.raises(CheckpointError, match="Linear has no plain ViT"):
        load_vit(torch.nn.Linear(1, 1), str(root / "run"))


def test_a_classifier_starts_from_the_run_and_names_classes(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = root / "classifier"
    assert main(tuned(root, "--out", str(out), "--optimizer.layer-decay", "0.8")) == 0
    scores = RunFolder(out).scores()
    assert scores is not None and 0 <= scores["classification/top_1_accuracy"] <= 1
    run = load_model(out)
    assert run.kind == "image_classification" and isinstance(run.model, ViTForClassification)
    assert run.labels == tuple((out / "classes.txt").read_text().split())
    assert run.model.vit.config.relative_positions == "per_block"
    picture = next((root / "world").rglob("*.png"))
    capsys.readouterr()
    assert main(["predict", str(picture), "--run", str(out), "--classify"]) == 0
    assert any(label in capsys.readouterr().out for label in run.labels)


def test_a_classifier_says_that_no_run_is_there_to_start_from(
    root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(tuned(root, "--init", str(tmp_path / "none"), "--out", str(tmp_path / "out"))) != 0
    assert "neither a model's name nor a file or run folder" in error_line(capsys.readouterr().err)


def batch_of(data: DataConfig, **task: object) -> tuple[MaskedImages, int, int]:
    """The first training batch of a data set, and how many pictures there are to train and to score."""
    demo = beit2_demo()
    assert isinstance(demo.task, MaskedImageModelingTask)
    settings = replace(demo.task, batch_size=4, **task)  # type: ignore[arg-type]
    config = RunConfig(name="test", task=settings, data=data)
    assembly = assemble(config, RunFolder(Path("unused")), Shares())
    assert assembly.plan is not None and isinstance(assembly.evaluation_set, First)
    return assembly.plan.batch(0).batch, len(assembly.plan.source.dataset), len(assembly.evaluation_set)  # type: ignore[attr-defined]


def test_pictures_come_from_shards_folders_tables_and_the_world(root: Path, tmp_path: Path) -> None:
    world = root / "world"
    folders = tmp_path / "folders"
    names = sorted(world.rglob("classes/train/*/*.png")) or sorted(world.rglob("train/*/*.png"))
    for number, split in enumerate(("train", "train", "val")):
        (folders / split / f"c{number}").mkdir(parents=True)
        (folders / split / f"c{number}" / "a.png").write_bytes(names[0].read_bytes())
    rows = [f'{{"image": "{name}", "text": "a thing"}}\n' for name in names[:3]]
    (tmp_path / "table.jsonl").write_text("".join([*rows, rows[0]]))
    table = TableData(train=tmp_path / "table.jsonl", validation=tmp_path / "table.jsonl")
    sources: dict[DataConfig, tuple[int, int]] = {
        FolderData(root=world): (NUM_TRAIN, NUM_VALIDATION),
        FolderData(root=world, num_validation=2): (NUM_TRAIN, 2),
        ClassFolderData(root=folders): (2, 1),
        table: (len(rows), len(rows)),
        WorldStreamData(num_scenes=7, num_validation=5): (7, 5),
    }
    for data, expected in sources.items():
        batch, *counts = batch_of(data)
        assert tuple(counts) == expected, data
        assert batch.images.shape == (4, 3, 64, 64) and batch.images.abs().max() <= 1
        assert batch.corruption.sum(dim=1).tolist() == [6] * 4
    with pytest.raises(ConfigError, match="nlvr2 has no captions"):
        batch_of(Nlvr2Data())


def test_shards_need_no_texts(root: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for path in (root / "world" / "shards").glob("images-*.tar"):
        (shards / path.name).write_bytes(path.read_bytes())
    batch, *counts = batch_of(FolderData(root=tmp_path))
    assert counts == [NUM_TRAIN, NUM_VALIDATION]
    for path in shards.iterdir():
        path.rename(path.with_name(path.name.replace("images", "pairs")))
    again, *counts = batch_of(FolderData(root=tmp_path))
    assert counts == [NUM_TRAIN, NUM_VALIDATION] and torch.equal(batch.images, again.images)


def test_training_pictures_are_jittered_and_cropped_and_scored_ones_are_not(root: Path) -> None:
    data = FolderData(root=root / "world")
    plain, jittered, cropped = (
        batch_of(data, flip=0.0, **change)[0].images
        for change in ({}, {"color_jitter": 0.4}, {"crop_scale": 0.2})
    )
    assert not torch.equal(plain, jittered) and not torch.equal(plain, cropped)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_masked": 17}, "num_masked 17 is more than the 16 patches"),
        ({"early_layers": 5}, "early_layers 5 is more than model.depth 4"),
        ({"flip": 2.0}, r"flip must lie in \[0, 1\]"),
    ],
)
def test_settings_that_can_not_be_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(beit2_demo().task, **change)  # type: ignore[arg-type]


def test_tokenizers_are_runs_files_and_nothing_else(root: Path) -> None:
    weights = root / "run" / "model.safetensors"
    with pytest.raises(ConfigError, match="holds weights of masked_image_modeling; expected a visual"):
        batch_of(WorldStreamData(), visual_tokenizer=str(weights))
    with pytest.raises(ConfigError, match="is a run of masked_image_modeling; expected one of visual_tok"):
        batch_of(WorldStreamData(), visual_tokenizer=str(root / "run"))


def test_layers_of_a_vit_are_those_of_the_official_code() -> None:
    # get_num_layer_for_vit in beit2/optim_factory.py with 3 blocks.
    names = {
        "class_token": 0,
        "positions": 0,
        "patches.proj.weight": 0,
        "blocks.0.norm1.weight": 1,
        "blocks.2.attention.relative_positions.table": 3,
        "relative_positions.table": 4,
        "norm.weight": 4,
    }
    assert {name: layer_of(name, 3) for name in names} == names
    with pytest.raises(ValueError, match="no parameter of a ViT of 3 blocks"):
        layer_of("blocks.3.norm1.weight", 3)
