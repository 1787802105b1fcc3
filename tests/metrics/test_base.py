"""Metrics over two ranks equal those of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F

from imglish.metrics.base import Metric, first_of_each
from imglish.metrics.caption_facts import CaptionFacts
from imglish.metrics.codebook import CodebookUsage
from imglish.metrics.retrieval import RetrievalRecall
from imglish.metrics.token_accuracy import TokenAccuracy
from imglish.metrics.vqa_accuracy import VqaAccuracy


def test_the_first_place_of_each_distinct_id_is_found() -> None:
    ids, first = first_of_each(torch.tensor([7, 3, 7, 5, 3]))
    assert ids.tolist() == [3, 5, 7]
    assert first.tolist() == [1, 3, 0]


def filled(rows: slice) -> list[Metric]:
    """One metric of each kind that has seen some rows of ten samples."""
    g = torch.Generator().manual_seed(0)
    ids = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 0, 1])  # the last two are repeats
    answers = torch.rand(8, 4, generator=g)[ids]
    chosen, kinds = torch.randint(4, (8,), generator=g)[ids], ids % 2
    vision, text = (F.normalize(torch.randn(8, 4, generator=g)[ids], dim=1) for _ in range(2))
    words, targets = (torch.randint(6, (10,), generator=g) for _ in range(2))
    names = [("red", "star"), ("blue", "fish")]
    vqa, recall = VqaAccuracy(("even", "odd")), RetrievalRecall()
    tokens, facts, codes = TokenAccuracy(("text", "none")), CaptionFacts(), CodebookUsage(6)
    if ids[rows].numel():
        vqa.update(chosen[rows], answers[rows], kinds[rows], ids[rows])
        recall.update(vision[rows], text[rows], ids[rows])
        tokens.update("text", words[rows], targets[rows])
        facts.update([[names[i % 2]] for i in words[rows]], [[names[i % 2]] for i in targets[rows]])
        codes.update(words[rows], targets[rows].double())
    return [vqa, recall, tokens, facts, codes]


# Where the samples of the first rank begin and end, and those of the second: a rank may have none.
CUTS = ([0, 4, 10], [0, 10, 10])


def check_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        for cuts in CUTS:
            mine = filled(slice(cuts[rank], cuts[rank + 1]))
            for metric, whole in zip(mine, filled(slice(0, 10)), strict=True):
                metric.reduce()
                assert metric.compute() == pytest.approx(whole.compute()), type(metric).__name__
    finally:
        dist.destroy_process_group()


def test_two_ranks_together_see_what_one_would(tmp_path: Path) -> None:
    spawn(check_rank, args=(str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
