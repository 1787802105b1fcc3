"""What the settings of masked data modelling do to its batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imglish.data.loader import Loaded
from imglish.data.transforms.image import from_model_range
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.recipes.assemble import assemble, train_recipe
from imglish.recipes.assembly.base import Shares
from imglish.recipes.config import MaskedDataModelingTask, RunConfig
from imglish.recipes.data_config import FolderData
from imglish.recipes.pretraining import beit3_demo_pretraining
from imglish.recipes.run_folder import RunFolder, find_run
from imglish.structures.batches import MaskedBatch


def settings(**changes: Any) -> RunConfig:
    """The demo with few samples and the World's text tokenizer."""
    config = beit3_demo_pretraining(num_steps=2)
    small = {"num_images": 2, "num_texts": 2, "num_pairs": 2, **changes}
    return replace(
        config,
        task=replace(config.task, **small),
        data=replace(config.data, num_validation=2),
        text_tokenizer=str(find_run("world", "encoder").text_path),
        train=replace(config.train, num_workers=0, log_every=1),
    )


def first_batch(config: RunConfig, folder: Path) -> MaskedBatch:
    plan = assemble(config, RunFolder(folder), Shares()).plan
    assert plan is not None
    loaded: Loaded[MaskedBatch] = plan.batch(0)
    return loaded.batch


@pytest.mark.parametrize("stream", ["images", "texts", "pairs"])
def test_a_stream_of_quota_0_is_left_out_and_the_others_stay(stream: str, tmp_path: Path) -> None:
    whole = first_batch(settings(), tmp_path)
    config = settings(**{f"num_{stream}": 0})
    batch = first_batch(config, tmp_path)
    sizes = {
        "images": (len(whole.images.images), len(batch.images.images)),
        "texts": (hidden(whole, tmp_path)["texts"], hidden(batch, tmp_path)["texts"]),
        "pairs": (hidden(whole, tmp_path)["pairs"], hidden(batch, tmp_path)["pairs"]),
    }
    for name, (before, after) in sizes.items():
        assert after == (0 if name == stream else before) and before > 0
    assert stream == "images" or torch.equal(whole.images.images, batch.images.images)
    scores = train_recipe(config, tmp_path / "run")
    trained = {"images": "image/accuracy", "texts": "text/accuracy", "pairs": "pair_image/accuracy"}
    for name, key in trained.items():
        assert (key in scores) == (name != stream)


def hidden(batch: MaskedBatch, folder: Path) -> dict[str, int]:
    config = settings()
    task = assemble(config, RunFolder(folder), Shares()).task
    counts = task.counts(batch)
    assert counts is not None
    return {"texts": counts["text"], "pairs": counts["pair_image"]}


def test_at_least_one_stream_is_needed() -> None:
    with pytest.raises(ValueError, match="at least one stream"):
        MaskedDataModelingTask(num_images=0, num_texts=0, num_pairs=0)


def test_random_masks_hide_as_many_patches_anywhere(tmp_path: Path) -> None:
    shares, neighbours = {}, {}
    for masking in ("blocks", "random"):
        config = settings(masking=masking, num_images=64, min_block=4)
        mask = first_batch(config, tmp_path).images.corruption.reshape(-1, 4, 4)
        shares[masking] = mask.sum((1, 2)).tolist()
        neighbours[masking] = float((mask[:, 1:] & mask[:, :-1]).float().mean())
    assert shares["blocks"] == shares["random"] == [6] * 64
    assert neighbours["random"] < 0.75 * neighbours["blocks"]


def test_pictures_of_pairs_are_changed_only_where_asked(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"crop_scale": 0.5, "flip": 0.5, "color_jitter": 0.4}
    plain = first_batch(settings(), tmp_path)
    images = first_batch(settings(**changes), tmp_path)
    both = first_batch(settings(**changes, augment_pairs=True), tmp_path)
    assert not torch.equal(plain.images.images, images.images.images)
    assert torch.equal(images.images.images, both.images.images)
    assert torch.equal(pair_pictures(plain), pair_pictures(images))
    assert not torch.equal(pair_pictures(plain), pair_pictures(both))


def test_scored_pictures_are_not_changed(tmp_path: Path) -> None:
    scored = []
    for changes in (
        {"flip": 0.0},
        {"flip": 1.0, "crop_scale": 0.3, "color_jitter": 0.4, "augment_pairs": True},
    ):
        plan = assemble(settings(**changes), RunFolder(tmp_path), Shares()).evaluation_plan
        assert plan is not None
        batch = plan.batch(0).batch
        scored.append(from_model_range(torch.cat([batch.images.images, pair_pictures(batch)])))
    assert torch.equal(*scored)


def pair_pictures(batch: MaskedBatch) -> torch.Tensor:
    return batch.pairs.images


def test_the_whole_validation_split_is_scored_where_no_number_is_given(tmp_path: Path) -> None:
    write_world(WorldConfig(), tmp_path / "world", num_train=4, num_validation=70)
    data = FolderData(root=tmp_path / "world")
    for wanted, ranks, batches in ((0, 1, 3), (64, 2, 1), (33, 1, 1), (5, 1, 1)):
        config = replace(settings(), data=replace(data, num_validation=wanted))
        shares = Shares(rank=0, world_size=ranks)
        assert assemble(config, RunFolder(tmp_path), shares).num_evaluation_batches == batches
