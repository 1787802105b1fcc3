"""The parts of a run, joined."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imglish.data.loader import BatchPlan, Dataset, Loaded, SinglePlan, Source, evaluation_batches
from imglish.data.pictures import read_picture
from imglish.data.shape_groups import GroupedSource
from imglish.data.transforms.image import ImageTransform
from imglish.errors import ConfigError, DataFormatError
from imglish.recipes.config import RunConfig
from imglish.tasks.base import Task

B = TypeVar("B")
R = TypeVar("R")
Scored = Literal["validation", "test"]
log = logging.getLogger(__name__)


class HasPicture(Protocol):
    """A record of a picture."""

    @property
    def path(self) -> Path:
        """The picture."""
        ...


P = TypeVar("P", bound=HasPicture)


@dataclass(frozen=True, slots=True)
class Shares:
    """This rank's share of every batch."""

    rank: int = 0
    world_size: int = 1
    grad_accumulation: int = 1

    def per_rank(self, global_size: int, what: str = "a batch") -> int:
        """Samples of one micro step on this rank.

        Args:
            global_size: Samples of all ranks and micro steps.
            what: What they are, as an error tells it.

        Raises:
            ConfigError: They do not divide by ranks and micro steps.
        """
        parts = self.world_size * self.grad_accumulation
        if global_size % parts:
            raise ConfigError(
                f"{what} of {global_size} does not divide by {self.world_size} ranks x "
                f"{self.grad_accumulation} micro steps; choose a multiple of {parts}"
            )
        return global_size // parts


@dataclass(frozen=True, kw_only=True, slots=True)
class Splits:
    """Which splits of its data a run reads.

    Args:
        train: False where weights are only scored: their training data need not be there.
        scored: The split that is scored.
    """

    train: bool = True
    scored: Scored = "validation"


@dataclass(frozen=True, kw_only=True)
class Assembly(Generic[B]):
    """A task with its data.

    Args:
        task: Model, loss and metric.
        plan: Training batches; None where weights are only scored.
        evaluation_set: What is scored, in order, once each; or
        evaluation_plan: a plan of batches to score, where the streams are mixed.
        num_evaluation_batches: How many of them.
        collate: Joins samples of ``evaluation_set``.
        evaluation_batch_size: Samples of a batch there.
        finish: Adds scores that need more than the task's metric.
        unscored: Why there is nothing to score; empty where there is.
    """

    task: Task
    plan: BatchPlan[B] | None
    evaluation_set: Dataset[Any] | None = None
    evaluation_plan: BatchPlan[B] | None = None
    num_evaluation_batches: int = 0
    collate: Callable[[Sequence[Any]], B] | None = None
    evaluation_batch_size: int = 100
    finish: Callable[[], dict[str, float]] | None = None
    unscored: str = ""

    def check_scored(self) -> None:
        """Refuse to score a split of which nobody has told what is right.

        Raises:
            DataFormatError: There is nothing to score, as in the test splits of VQAv2 and NoCaps.
        """
        if self.unscored:
            raise DataFormatError(self.unscored)

    def evaluation(self, shares: Shares) -> Iterator[Loaded[B]]:
        """This rank's batches to score."""
        if self.evaluation_set is not None and self.collate is not None:
            return evaluation_batches(
                self.evaluation_set,
                self.collate,
                self.evaluation_batch_size,
                rank=shares.rank,
                world_size=shares.world_size,
            )
        assert self.evaluation_plan is not None
        plan = self.evaluation_plan
        return (plan.batch(step) for step in range(self.num_evaluation_batches))


def training_plan(
    dataset: Dataset[Any],
    collate: Callable[[Sequence[Any]], B],
    config: RunConfig,
    shares: Shares,
    groups: NDArray[np.int64] | None = None,
) -> SinglePlan[B]:
    """Training batches of one data set.

    Args:
        dataset: Its samples.
        collate: Joins samples to a batch.
        config: Of the run.
        shares: Of this rank.
        groups: The group of each sample, where those of a batch must be of one; see `GroupedSource`.

    Raises:
        ConfigError: The batch does not divide by ranks and micro steps.
        DataFormatError: The data set is empty.
    """
    per_rank, seed = shares.per_rank(config.task.batch_size), config.train.seed
    source = Source(dataset=dataset, per_rank=per_rank, seed=seed)
    if groups is not None:
        source = GroupedSource(dataset=dataset, per_rank=per_rank, seed=seed, groups=groups)
    return SinglePlan(
        source=source,
        collate=collate,
        rank=shares.rank,
        world_size=shares.world_size,
    )


def scoring_transform(size: tuple[int, int]) -> ImageTransform:
    """How scored pictures reach (height, width) ``size``: squashed, by Pillow.

    So do the official evaluation, whose scores shall be met, and `inference.pictures.prepare`. In training
    the faster form is as good, and off by a grey level here and there.
    """
    return ImageTransform(size=size, resampling="pillow")


def check_chunks(chunk_size: int, shares: Shares) -> None:
    """Refuse two ways at once to contrast the pairs of a batch that does not fit.

    Raises:
        ConfigError: There are chunks and micro steps.
    """
    if chunk_size and shares.grad_accumulation > 1:
        raise ConfigError(
            "task.chunk_size and train.grad_accumulation both save memory, but only chunks let all pairs "
            "compete; set grad_accumulation to 1"
        )


def nothing_told(split: str, untold: str) -> str:
    """Why a split can not be scored, for `Assembly.unscored`.

    Args:
        split: "validation" or "test".
        untold: What it has that nobody has judged, such as "5 questions without answers".
    """
    return f"the {split} split has {untold}: there is nothing to score; --predictions FILE writes predictions"


def write_names(path: Path, names: Sequence[str], what: str, *, known: bool) -> None:
    """Write names into a file of a run's folder; where they are known already, compare them.

    Args:
        path: The file.
        names: Of the data, in the order of their ids.
        what: What they are, such as "classes".
        known: True where the run is finished: its file then is what its weights mean, and is left alone.

    Raises:
        DataFormatError: The run has learned other names.
    """
    if known and path.is_file():
        learned = path.read_text(encoding="utf-8").splitlines()
        if learned != list(names):
            raise DataFormatError(
                f"{path}: the run has learned {len(learned)} {what} ({_begin(learned)}), the data to score "
                f"has {len(names)} ({_begin(names)}); expected the same, in the order of their ids"
            )
        return
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _begin(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def first(records: Sequence[R], count: int) -> Sequence[R]:
    """The first ``count`` records; all where it is 0."""
    return records[:count] if count else records


def readable(records: Sequence[P], transform: ImageTransform, where: str) -> tuple[list[P], list[Tensor]]:
    """The records whose pictures decode, with their pictures uint8 (3, *size); the log counts the others.

    Args:
        records: What has a ``path``.
        transform: Of the pictures; it must not draw anything.
        where: What is read, for the log.
    """
    kept, pictures, damaged = [], [], []
    rng = np.random.default_rng(0)
    for record in records:
        try:
            pictures.append(transform(read_picture(record.path), rng))
            kept.append(record)
        except DataFormatError as error:
            damaged.append(str(error))
    if damaged:
        log.warning("%d pictures of %s are left out; the first: %s", len(damaged), where, damaged[0])
    return kept, pictures


def read_pictures(paths: Sequence[Path], transform: ImageTransform) -> list[Tensor]:
    """Pictures uint8 (3, *size); raises DataFormatError where one does not decode."""
    rng = np.random.default_rng(0)
    return [transform(read_picture(path), rng) for path in paths]
