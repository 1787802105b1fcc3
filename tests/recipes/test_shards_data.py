"""Masked data modelling on shards: exact quotas, several data sets a stream, packed text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from imglish.data.world.language import captions
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.data.world.writer import write_world
from imglish.recipes.assemble import assemble
from imglish.recipes.assembly.base import Shares
from imglish.recipes.config import MaskedDataModelingTask, RunConfig
from imglish.recipes.data_config import ShardsData
from imglish.recipes.run_folder import RunFolder
from imglish.text.tokenizer import EOS
from imglish.text.training import train_tokenizer
from tests.recipes.test_store_tokens import MODEL


def test_a_batch_has_the_quotas_and_its_texts_are_packed(tmp_path: Path) -> None:
    scenes = [draw_scene(WorldConfig(), "train", index) for index in range(60)]
    train_tokenizer(
        [text for scene in scenes for text in captions(scene)], tmp_path / "t.spm", vocab_size=100
    )
    patterns = []
    for seed in range(2):
        folder = tmp_path / f"world{seed}"
        write_world(replace(WorldConfig(), seed=seed), folder, num_train=6, num_validation=2)
        patterns.append(f"{folder}/shards/{{}}-{{}}-*.tar")
    data = ShardsData(
        images=tuple(p.format("images", "train") for p in patterns),
        texts=tuple(p.format("texts", "train") for p in patterns),
        pairs=(patterns[0].format("pairs", "train"),),
        image_weights=(3, 1),
        validation_images=(patterns[0].format("images", "validation"),),
        validation_texts=(patterns[0].format("texts", "validation"),),
        validation_pairs=(patterns[0].format("pairs", "validation"),),
    )
    task = MaskedDataModelingTask(
        model=MODEL, visual_tokenizer="world", num_images=6, num_texts=4, num_pairs=2, min_block=2,
        max_text_tokens=64, pack_texts=True,
    )  # fmt: skip
    config = RunConfig(name="test", task=task, data=data, text_tokenizer=str(tmp_path / "t.spm"))

    def batch(rank: int, step: int):  # type: ignore[no-untyped-def]
        plan = assemble(config, RunFolder(tmp_path), Shares(rank=rank, world_size=2)).plan
        return plan.batch(step).batch

    first = batch(0, 3)
    assert (len(first.images.images), len(first.texts.token_ids), len(first.pairs.images)) == (3, 2, 1)
    assert (~first.texts.padding).sum(1).min() >= 63
    assert (first.texts.token_ids[:, 1:-2] == EOS).any()
    again, other = batch(0, 3), batch(1, 3)
    assert torch.equal(first.images.images, again.images.images)
    assert torch.equal(first.texts.token_ids, again.texts.token_ids)
    assert not torch.equal(first.images.images, other.images.images)
