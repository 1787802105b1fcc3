"""Ranks share the writing of captions, and score as one process that writes them all."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.models.beit3.config import Beit3Config
from imglish.recipes.assembly.base import Shares, Splits
from imglish.recipes.assembly.captioning import assemble_captioning
from imglish.recipes.config import CaptioningTask, RunConfig
from imglish.recipes.data_config import FolderData, NocapsData
from imglish.text.tokenizer import TextTokenizer
from imglish.train.distributed import Ranks
from tests.distributed.ranks import on_two_ranks
from tests.recipes.published_files import write_nocaps, write_weights

MODEL = Beit3Config(
    image_size=(16, 16), patch_size=8, vocab_size=50, max_text_tokens=20, width=16, depth=1, num_heads=2,
    feed_forward_width=16, init="scaled",
)  # fmt: skip
DATA = ("nocaps", "world")


def scores(ranks: Ranks, root: Path, name: str) -> dict[str, float]:
    """The scores of captions that the rank's share of the pictures gets from random weights."""
    task = CaptioningTask(model=MODEL, num_beams=2, max_text_tokens=12)
    data = NocapsData(root=root / name) if name == "nocaps" else FolderData(root=root / name)
    torch.manual_seed(1)
    assembly = assemble_captioning(
        RunConfig(name="test", task=task, data=data),
        task,
        TextTokenizer(root / "weights" / "text.spm"),
        Shares(ranks.rank, ranks.world_size),
        Splits(train=False),
    )
    assert assembly.finish is not None
    return assembly.finish()


def write_scores(ranks: Ranks, root: Path) -> None:
    found = {name: scores(ranks, root, name) for name in DATA}
    (root / f"{ranks.rank}.json").write_text(json.dumps(found))


def test_two_ranks_score_as_one(tmp_path: Path) -> None:
    write_weights(tmp_path / "weights")
    write_nocaps(tmp_path / "nocaps", num_pictures=5)
    write_world(WorldConfig(), tmp_path / "world", num_train=2, num_validation=5, workers=1)
    alone = {name: scores(Ranks(0, 1, torch.device("cpu")), tmp_path, name) for name in DATA}
    # Of five pictures one rank has three; its only out-domain picture is the other rank's none.
    assert "caption/cider/out-domain" in alone["nocaps"] and "caption/things_named" in alone["world"]
    assert alone["nocaps"]["caption/bleu_1"] > 0
    on_two_ranks(write_scores, tmp_path)
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == alone
