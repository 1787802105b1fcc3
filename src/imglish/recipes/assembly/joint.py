"""Joining several tasks on one encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from imglish.data.loader import BatchPlan, Loaded
from imglish.errors import ConfigError
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.joint import JointModel
from imglish.recipes.assembly.base import Assembly, Shares
from imglish.recipes.config import (
    CaptioningTask,
    ImageClassificationTask,
    JointTask as JointSettings,
    RunConfig,
    SegmentationTask,
    VqaTask,
)
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.run_folder import RunFolder
from imglish.structures.batches import JointBatch
from imglish.tasks.joint import JointTask

AssemblePart = Callable[[RunConfig, RunFolder], Assembly[Any]]


def assemble_joint(
    config: RunConfig, settings: JointSettings, folder: RunFolder, shares: Shares, assemble: AssemblePart
) -> Assembly[JointBatch]:
    """Join tasks that were joined with their data each by itself; what they keep lies in a folder of each.

    Args:
        config: Of the run.
        settings: Of its task.
        folder: The run's.
        shares: Of this rank.
        assemble: Joins a single task with its data.

    Raises:
        ConfigError: Settings do not go together.
        DataFormatError: A file is missing or damaged.
    """
    _check_shared(settings)
    parts = {}
    for name, part in settings.parts.items():
        own = RunFolder(folder.path / name)
        own.create()
        if folder.text_path.is_file():
            own.text_path.write_bytes(folder.text_path.read_bytes())
        parts[name] = assemble(replace(config, task=part), own)
        own.text_path.unlink(missing_ok=True)  # it is the whole run's
    try:
        model = JointModel(
            Beit3Encoder(settings.model), {name: part.task.model for name, part in parts.items()}
        )
    except ValueError as error:
        raise ConfigError(f"task: {error}") from error
    task = JointTask(model, {name: part.task for name, part in parts.items()})
    plans = {name: part.plan for name, part in parts.items() if part.plan is not None}
    plan = None
    if plans:
        turns = {name: settings.turns.get(name, 1) for name in plans}
        plan = TurnsPlan(plans=plans, turns=turns, grad_accumulation=shares.grad_accumulation)
    finishes = [part.finish for part in parts.values() if part.finish is not None]

    def finish() -> dict[str, float]:
        return {name: score for finish in finishes for name, score in finish().items()}

    return _JointAssembly(task=task, plan=plan, parts=parts, finish=finish)


def _check_shared(settings: JointSettings) -> None:
    """Refuse tasks for which a picture would have to be encoded by itself."""
    for name, part in settings.parts.items():
        problem = ""
        if part.model != settings.model:
            problem = "model differs from task.model; all tasks share one encoder"
        if isinstance(part, VqaTask | CaptioningTask) and not part.picture_alone:
            problem = "picture_alone must be true, or its pictures are encoded by themselves"
        if isinstance(part, ImageClassificationTask) and part.pictures != "model":
            problem = "pictures must be model, the range that all tasks share"
        if isinstance(part, DetectionTask) and part.pictures.range != "model":
            problem = "pictures.range must be model, the range that all tasks share"
        if isinstance(part, SegmentationTask | DetectionTask):
            if part.backbone != "vit_adapter" or part.adapter.has_injectors:
                problem = "the ViT must stay as it is for the others; use vit_adapter without injectors"
        if problem:
            raise ConfigError(f"task.{name}.{problem}")


@dataclass(frozen=True, kw_only=True)
class _JointAssembly(Assembly[JointBatch]):
    """A joint task; what is scored is that of every part, one after the other."""

    parts: Mapping[str, Assembly[Any]]

    def check_scored(self) -> None:
        for part in self.parts.values():
            part.check_scored()

    def evaluation(self, shares: Shares) -> Iterator[Loaded[JointBatch]]:
        for name, part in self.parts.items():
            for loaded in part.evaluation(shares):
                yield Loaded(JointBatch(part=name, batch=loaded.batch), loaded.skipped)


@dataclass(frozen=True, kw_only=True)
class TurnsPlan:
    """Batches of several tasks in turn; which one is whose follows from its number alone.

    A round has ``turns`` updates of each task. Each round begins with another update than the last, so that
    what is logged at every so many steps is not always of the same task.

    Args:
        plans: Of the tasks, by their names.
        turns: Updates of each in a round.
        grad_accumulation: Micro steps of an update, all of one task.
    """

    plans: Mapping[str, BatchPlan[Any]]
    turns: Mapping[str, int]
    grad_accumulation: int = 1

    def batch(self, micro_step: int) -> Loaded[JointBatch]:
        """Batch number ``micro_step`` of this rank."""
        update, micro = divmod(micro_step, self.grad_accumulation)
        name, own = self.turn(update)
        loaded = self.plans[name].batch(own * self.grad_accumulation + micro)
        return Loaded(JointBatch(part=name, batch=loaded.batch), loaded.skipped)

    def turn(self, update: int) -> tuple[str, int]:
        """Whose update number ``update`` is, and how many this task had before."""
        order = self._order()
        rounds, place = divmod(update, len(order))
        start = rounds % len(order)
        begun = [order[(start + before) % len(order)] for before in range(place)]
        name = order[(start + place) % len(order)]
        return name, rounds * self.turns[name] + begun.count(name)

    def _order(self) -> list[str]:
        """The tasks of a round, those with several turns spread over it."""
        places = [
            ((turn + 0.5) / turns, number, name)
            for number, (name, turns) in enumerate(self.turns.items())
            for turn in range(turns)
        ]
        return [name for _, _, name in sorted(places)]
