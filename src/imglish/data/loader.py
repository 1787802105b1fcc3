"""Batches as a pure function of (seed, rank, world size, step), so that a run can stop and go on exactly.

Nothing here remembers a position: sample ``p`` of the endless stream of a source is given by arithmetic,
and so is the random generator handed to it. Any number of workers gives the same batches.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader

from imglish.errors import ConfigError, DataFormatError, ImglishError

log = logging.getLogger(__name__)
S_co = TypeVar("S_co", covariant=True)
B = TypeVar("B")
_MOST_BAD = 100  # so many damaged samples in a row are no accident


class Dataset(Protocol[S_co]):
    """Numbered samples, corrupted and augmented by a given generator."""

    def __len__(self) -> int: ...

    def get(self, index: int, rng: np.random.Generator) -> S_co:
        """Sample ``index``; raises DataFormatError where it is damaged."""
        ...


class Loaded(NamedTuple, Generic[B]):
    """A batch, and one line for each damaged sample that the next one stands in for."""

    batch: B
    skipped: tuple[str, ...]


class BatchPlan(Protocol[B]):
    """Says what batch number ``micro_step`` is."""

    def batch(self, micro_step: int) -> Loaded[B]:
        """Batch number ``micro_step`` of this rank."""
        ...


@dataclass(frozen=True, kw_only=True)
class Source:
    """An endless, shuffled stream over a data set.

    Args:
        dataset: Numbered samples.
        per_rank: Samples of one batch on one rank.
        seed: Of the order and of every random draw.
        stream: Tells the sources of one run apart.

    Raises:
        ConfigError: A batch has no samples.
        DataFormatError: The data set has none.
    """

    dataset: Dataset[Any]
    per_rank: int
    seed: int
    stream: int = 0

    def __post_init__(self) -> None:
        if self.per_rank < 1:
            raise ConfigError(
                f"a batch has {self.per_rank} samples on each rank; expected at least 1: give a larger batch"
            )
        if len(self.dataset) < 1:
            raise DataFormatError(
                "the data set is empty; expected at least one sample: check where it is read"
            )

    def samples(self, micro_step: int, rank: int, world_size: int) -> tuple[list[Any], list[str]]:
        """The samples of one rank's batch, and a line for each damaged one."""
        first = (micro_step * world_size + rank) * self.per_rank
        found, skipped = [], []
        for position in range(first, first + self.per_rank):
            epoch, place = divmod(position, len(self.dataset))
            index = shuffled(place, len(self.dataset), (self.seed, self.stream, epoch))
            sample, lines = self.sample(position, index)
            found.append(sample)
            skipped += lines
        return found, skipped

    def sample(self, position: int, index: int) -> tuple[Any, list[str]]:
        """Sample ``index`` as ``position`` of the stream draws it, or the next that is whole.

        Returns:
            The sample, and a line for each damaged one before it.

        Raises:
            DataFormatError: Too many in a row are damaged.
        """
        skipped: list[str] = []
        size = len(self.dataset)
        for step in range(min(size, _MOST_BAD)):
            rng = np.random.default_rng([self.seed, self.stream, position, step])
            try:
                return self.dataset.get((index + step) % size, rng), skipped
            except DataFormatError as error:
                skipped.append(_line(error))
        raise DataFormatError(f"{len(skipped)} samples in a row are damaged; the last: {skipped[-1]}")


@dataclass(frozen=True, kw_only=True)
class SinglePlan(Generic[B]):
    """Batches of one source."""

    source: Source
    collate: Callable[[Sequence[Any]], B]
    rank: int = 0
    world_size: int = 1

    def batch(self, micro_step: int) -> Loaded[B]:
        """Batch number ``micro_step`` of this rank."""
        samples, skipped = self.source.samples(micro_step, self.rank, self.world_size)
        return Loaded(self.collate(samples), tuple(skipped))


@dataclass(frozen=True, kw_only=True)
class MixturePlan(Generic[B]):
    """Batches with a fixed quota of each source (BEiT-3: 2048 images, 2048 texts, 2048 pairs)."""

    sources: Mapping[str, Source]
    collate: Callable[[Mapping[str, Sequence[Any]]], B]
    rank: int = 0
    world_size: int = 1

    def batch(self, micro_step: int) -> Loaded[B]:
        """Batch number ``micro_step`` of this rank."""
        samples, skipped = {}, []
        for name, source in self.sources.items():
            samples[name], lines = source.samples(micro_step, self.rank, self.world_size)
            skipped += lines
        return Loaded(self.collate(samples), tuple(skipped))


def prefetch(plan: BatchPlan[B], start: int, stop: int, num_workers: int = 0) -> Iterator[Loaded[B]]:
    """Batches ``start`` to ``stop`` of a plan, made ahead by ``num_workers`` processes (0: in this one).

    Raises:
        DataFormatError: Too many samples in a row are damaged.
        RemoteError: A remote shard can not be had.
    """
    if num_workers == 0:
        return (plan.batch(step) for step in range(start, stop))
    loader = DataLoader(
        _Steps(plan, stop),
        batch_size=None,
        collate_fn=_as_made,  # the default one makes lists of tuples
        sampler=range(start, stop),
        num_workers=num_workers,
        worker_init_fn=_single_thread,
        prefetch_factor=4,
        # A loader draws a seed as it starts: from its own generator, or a resumed run would draw otherwise.
        generator=torch.Generator(),
    )
    return map(_checked, loader)


def evaluation_batches(
    dataset: Dataset[Any],
    collate: Callable[[Sequence[Any]], B],
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Loaded[B]]:
    """Every sample once, in order; rank r of w takes samples r, r + w, and so on.

    Damaged samples are left out, named in ``skipped``, and counted in the log.

    Raises:
        DataFormatError: Not one sample can be read.
    """
    samples: list[Any] = []
    skipped: list[str] = []
    lost: list[str] = []
    mine = range(rank, len(dataset), world_size)
    for index in mine:
        try:
            sample = dataset.get(index, np.random.default_rng([index]))
        except DataFormatError as error:
            skipped.append(_line(error))
            lost.append(skipped[-1])
            continue
        if len(samples) == batch_size:  # not before the next sample, so that no damage falls behind the last
            yield Loaded(collate(samples), tuple(skipped))
            samples, skipped = [], []
        samples.append(sample)
    if lost and not samples:
        raise DataFormatError(f"all {len(mine)} samples to score are damaged; the first: {lost[0]}")
    if lost:
        log.warning(
            "%d of %d samples are left out of the scores; the first: %s", len(lost), len(mine), lost[0]
        )
    if samples:
        yield Loaded(collate(samples), tuple(skipped))


class _Steps(torch.utils.data.Dataset[Loaded[Any] | ImglishError]):
    """The plan in the shape that DataLoader's workers read.

    An error is handed over as a value: raised in a worker, it would arrive with that worker's traceback in
    its message.
    """

    def __init__(self, plan: BatchPlan[Any], stop: int) -> None:
        self.plan, self.stop = plan, stop

    def __len__(self) -> int:
        return self.stop

    def __getitem__(self, step: int) -> Loaded[Any] | ImglishError:
        try:
            return self.plan.batch(step)
        except ImglishError as error:
            return error


def _checked(made: Loaded[B] | ImglishError) -> Loaded[B]:
    """A batch as a worker made it; raises what the worker met instead."""
    if isinstance(made, ImglishError):
        raise made
    return made


def _line(error: DataFormatError) -> str:
    """What an error says, as one line that any file can hold: names of files need not be valid text."""
    return " ".join(str(error).encode("utf-8", "backslashreplace").decode("utf-8").split())


def _as_made(made: Any) -> Any:
    return made


def _single_thread(worker: int) -> None:
    torch.set_num_threads(1)


def shuffled(place: int, size: int, key: tuple[int, ...]) -> int:
    """Where ``place`` goes in a pseudo-random permutation of ``range(size)``, in constant memory.

    A four-round Feistel network on the next square, walked until it lands inside: no permutation of a
    billion samples has to be kept by every worker.
    """
    half = max(1, math.ceil((size - 1).bit_length() / 2))
    mask = (1 << half) - 1
    rounds = np.random.SeedSequence(key).generate_state(4).tolist()
    while True:
        left, right = place >> half, place & mask
        for secret in rounds:
            mixed = ((right ^ secret) * 0x9E3779B1 + secret) & 0xFFFFFFFF
            left, right = right, left ^ ((mixed ^ (mixed >> 15)) & mask)
        place = (left << half) | right
        if place < size:
            return place
