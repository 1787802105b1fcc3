"""The share of tokens that are padding, by stream and number of length buckets, and what a step then costs.

    python benchmarks/wasted_tokens.py [--batches 40] [--steps 6]

Two texts are measured: those of the World's masked data modelling, in the batches that the recipe makes, and
lengths drawn as captions from the web have them (log-normal about 12 tokens, 3 to 64), 32 pairs of 197 vision
tokens a rank. Wasted is what `tasks.masked_data_modeling.wasted_tokens` counts: padded tokens among all that
the encoder reads, vision tokens included. The time of a step, forward and backward, is that of one thread of
the processor; ``--steps 0`` leaves it out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from imglish.data.buckets import cut_into_buckets
from imglish.recipes.assemble import assemble
from imglish.recipes.assembly.base import Assembly, Shares
from imglish.recipes.config import MaskedDataModelingTask
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.world import world_masked_data_modeling
from imglish.structures.batches import Bucket, MaskedBatch, MaskedPairs, MaskedText
from imglish.tasks.masked_data_modeling import wasted_tokens

Texts = TypeVar("Texts", MaskedText, MaskedPairs)
BUCKETS = (1, 2, 3, 4, 6, 8, 12)


def world(folder: Path) -> Assembly[MaskedBatch]:
    """The recipe, with the weights and tokenizers of the package, and texts in one bucket."""
    config = world_masked_data_modeling()
    assert isinstance(config.task, MaskedDataModelingTask)
    task = replace(config.task, visual_tokenizer="world", length_buckets=1)
    return assemble(replace(config, task=task, init="world"), RunFolder(folder), Shares())


def in_buckets(batch: MaskedBatch, count: int) -> MaskedBatch:
    """The batch as `collate_masked` would have made it with ``count`` buckets."""
    return replace(batch, texts=sort_rows(batch.texts, count), pairs=sort_rows(batch.pairs, count))


def sort_rows(texts: Texts, count: int) -> Texts:
    lengths, order = (~texts.padding).sum(dim=1).sort(stable=True)
    rows = {field.name: getattr(texts, field.name) for field in fields(texts)}
    rows = {name: value[order] for name, value in rows.items() if isinstance(value, Tensor)}
    return replace(texts, **rows, buckets=cut_into_buckets(lengths.tolist(), count))


def wasted(buckets: Sequence[Bucket], vision: int = 0) -> float:
    """Share of padded tokens, beside ``vision`` tokens for each text."""
    read = sum(bucket.rows * (bucket.length + vision) for bucket in buckets)
    return sum(bucket.rows * bucket.length - bucket.tokens for bucket in buckets) / read


def measure_world(num_batches: int, num_steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assembly = world(Path(folder))
    assert assembly.plan is not None
    drawn = [assembly.plan.batch(number).batch for number in range(num_batches)]
    vision = 1 + drawn[0].pairs.corruption.shape[1]
    print("| buckets | texts | texts of pairs | pairs | whole batch | step |\n|---:|" + "---:|" * 5)
    for count in BUCKETS:
        batches = [in_buckets(batch, count) for batch in drawn]
        shares = [
            (
                wasted(batch.texts.buckets),
                wasted(batch.pairs.buckets),
                wasted(batch.pairs.buckets, vision),
                wasted_tokens(batch),
            )
            for batch in batches
        ]
        columns = " | ".join(f"{share:.1%}" for share in np.mean(shares, axis=0))
        took = f"{1000 * step_seconds(assembly, batches[:num_steps]):.0f} ms" if num_steps else ""
        print(f"| {count} | {columns} | {took} |", flush=True)


def step_seconds(assembly: Assembly[MaskedBatch], batches: Sequence[MaskedBatch]) -> float:
    """Processor time of a training step; the faster of two rounds."""
    task = assembly.task.train()
    rounds = []
    for _ in range(2):
        begun = time.process_time()
        for batch in batches:
            task.training_step(batch).loss.backward()
            task.model.zero_grad(set_to_none=True)
        rounds.append((time.process_time() - begun) / len(batches))
    return min(rounds)


def measure_web(num_batches: int, pairs: int = 32, vision: int = 197) -> None:
    print("| buckets | texts alone | pairs |\n|---:|---:|---:|")
    rng = np.random.default_rng(0)
    drawn = [rng.lognormal(np.log(12), 0.6, pairs).round().clip(3, 64) for _ in range(num_batches)]
    lengths = [sorted(int(length) for length in each) for each in drawn]
    for count in BUCKETS:
        found = [cut_into_buckets(each, count) for each in lengths]
        alone, beside = (np.mean([wasted(each, tokens) for each in found]) for tokens in (0, vision))
        print(f"| {count} | {alone:.1%} | {beside:.1%} |")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measure_web(arguments.batches)
    measure_world(arguments.batches, arguments.steps)


if __name__ == "__main__":
    main()
