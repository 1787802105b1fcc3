"""Does masked data modelling beat what frequencies alone would tell?

    python benchmarks/masked_baselines.py RUN [--fit 200] [--batches 16]

For each stream of a run: the cross entropy at hidden places of its validation samples, beside three
baselines counted on its training samples. The unigram knows how frequent each token is. The bigram also knows
the token to the left as the model sees it, which may be the mask; the true bigram knows it even where it is
hidden. Their smoothing is the best of a few on the very samples that are scored. Answers asked at the class
token have no left neighbour and are left out. The table goes to docs/results.md.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from imglish.data.loader import MixturePlan
from imglish.data.pretraining import ImageSample, PairSample, TextSample
from imglish.recipes.assemble import assemble
from imglish.recipes.assembly.base import Shares
from imglish.recipes.run_folder import RunFolder
from imglish.structures.batches import IGNORE
from imglish.tasks.masked_data_modeling import MaskedDataModelingTask
from imglish.train.checkpoint import load_strictly

EDGE, MASK = -1, -2  # what stands to the left of the first token of a row, and of a hidden one
SMOOTHINGS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Row(NamedTuple):
    """A row of patches or a text: its true tokens, and which of them are hidden."""

    tokens: Sequence[int]
    hidden: Sequence[bool]

    def lefts(self, *, true: bool) -> list[int]:
        """What stands to the left of each token; the true token, or what the model sees."""
        seen = [token if true or not hide else MASK for token, hide in zip(*self, strict=True)]
        return [EDGE, *seen[:-1]]


class Frequencies:
    """Counts of tokens, and of tokens after their left neighbours."""

    def __init__(self, rows: Sequence[Row], num_tokens: int, *, true: bool) -> None:
        self.single: Counter[int] = Counter()
        self.after: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._true = true
        for row in rows:
            for left, token in zip(row.lefts(true=true), row.tokens, strict=True):
                self.single[token] += 1
                self.after[left][token] += 1
        self.total, self.num_tokens = sum(self.single.values()), num_tokens

    def unigram(self, token: int) -> float:
        """Probability, smoothed by one occurrence of each token."""
        return (self.single[token] + 1) / (self.total + self.num_tokens)

    def bigram(self, left: int, token: int, smoothing: float) -> float:
        """Probability after ``left``, smoothed by so many occurrences after the unigram."""
        seen = self.after[left]
        return (seen[token] + smoothing * self.unigram(token)) / (seen.total() + smoothing)

    def losses(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Cross entropy at hidden places, of the unigram and of the best bigram."""
        places = [
            (left, token)
            for row in rows
            for left, token, hidden in zip(row.lefts(true=self._true), *row, strict=True)
            if hidden
        ]
        single = -np.mean([np.log(self.unigram(token)) for _, token in places])
        bigrams = (
            -np.mean([np.log(self.bigram(*place, smoothing)) for place in places]) for smoothing in SMOOTHINGS
        )
        return float(single), float(min(bigrams))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run of masked data modelling")
    parser.add_argument(
        "--fit", type=int, default=200, help="training batches that frequencies are counted on"
    )
    parser.add_argument("--batches", type=int, default=16, help="validation batches that are scored")
    options = parser.parse_args()
    folder = RunFolder(options.run)
    assembly = assemble(folder.config(), folder, Shares())
    task, scored = assembly.task, assembly.evaluation_plan
    assert isinstance(task, MaskedDataModelingTask) and isinstance(scored, MixturePlan)
    assert isinstance(assembly.plan, MixturePlan)
    load_strictly(task.model, folder.weights(), where=str(options.run))
    task.eval()
    sizes = {"image": task.visual_tokenizer.tokenizer.config.codebook_size}
    fitted = rows_of(task, (drawn(assembly.plan, step) for step in range(options.fit)))
    held_out = [drawn(scored, step) for step in range(options.batches)]
    rows = rows_of(task, iter(held_out))
    found = model_losses(task, scored, held_out)
    print("| stream | hidden | model | true bigram | bigram | unigram |\n|---|---|---|---|---|---|")
    for stream, loss in found.items():
        if stream not in fitted:
            continue
        num_tokens = sizes["image"] if stream.endswith("image") else task.model.encoder.config.vocab_size
        single, seen = Frequencies(fitted[stream], num_tokens, true=False).losses(rows[stream])
        _, true = Frequencies(fitted[stream], num_tokens, true=True).losses(rows[stream])
        count = sum(sum(row.hidden) for row in rows[stream])
        print(f"| {stream} | {count} | {loss:.3f} | {true:.3f} | {seen:.3f} | {single:.3f} |")


def drawn(plan: MixturePlan[Any], step: int) -> dict[str, list[Any]]:
    """The samples of a batch, by stream."""
    return {name: source.samples(step, 0, 1)[0] for name, source in plan.sources.items()}


@torch.no_grad()
def model_losses(
    task: MaskedDataModelingTask, plan: MixturePlan[Any], batches: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Cross entropy at hidden places of each stream that has any."""
    sums: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for samples in batches:
        batch = plan.collate(samples)
        out = task.training_step(batch)
        assert out.sums is not None
        sums.update({name: float(total) for name, total in out.sums.items()})
        counts.update(task.counts(batch))
    return {name: sums[name] / counts[name] for name in sums if counts[name]}


def rows_of(task: MaskedDataModelingTask, batches: Iterator[Mapping[str, Any]]) -> dict[str, list[Row]]:
    """True tokens and hidden places of all samples, by stream."""
    rows: dict[str, list[Row]] = {"image": [], "text": [], "pair_image": [], "pair_text": []}
    for samples in batches:
        pairs: list[PairSample] = samples.get("pairs", [])
        rows["image"] += patches(task, samples.get("images", []))
        rows["text"] += [words(text) for text in samples.get("texts", [])]
        rows["pair_image"] += patches(task, [pair.image for pair in pairs])
        rows["pair_text"] += [words(pair.text) for pair in pairs]
    return rows


def words(text: TextSample) -> Row:
    """A text as it was before words were hidden."""
    hidden = [target != IGNORE for target in text.targets]
    true = [
        target if hide else seen
        for seen, target, hide in zip(text.token_ids, text.targets, hidden, strict=True)
    ]
    return Row(true, hidden)


@torch.no_grad()
def patches(task: MaskedDataModelingTask, pictures: Sequence[ImageSample]) -> list[Row]:
    """The rows of visual tokens of pictures uint8 (3, H, W)."""
    if not pictures:
        return []
    images: Tensor = torch.stack([picture.image for picture in pictures]).float() / 127.5 - 1
    num_rows = task.model.encoder.config.grid_size[0]
    tokens = task.visual_tokenizer(images).unflatten(1, (num_rows, -1))
    hidden = torch.stack([picture.corruption for picture in pictures]).unflatten(1, (num_rows, -1))
    return [
        Row(*row) for row in zip(tokens.flatten(0, 1).tolist(), hidden.flatten(0, 1).tolist(), strict=True)
    ]


if __name__ == "__main__":
    main()
