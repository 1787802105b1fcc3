"""Several tasks that fine-tune one encoder in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from imglish.metrics.base import Metric
from imglish.models.joint import JointModel
from imglish.structures.batches import JointBatch
from imglish.tasks.base import StepOutput, Task


class JointTask(Task):
    """One update goes to one task, the next to another; each goes down its own loss.

    Args:
        model: The encoder with a part for each task.
        tasks: By the names of the parts, each with the model of its part.
    """

    def __init__(self, model: JointModel, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.model: nn.Module = model
        # Not among the modules: all that they hold is the model's, or has no weights.
        self._tasks = dict(tasks)
        for name, task in self._tasks.items():
            task.model = _Part(self, name, model.parts[name])
        self.metrics = _JointMetric({name: task.metrics for name, task in tasks.items()})

    def counts(self, batch: JointBatch) -> Mapping[str, float] | None:
        """As the task of the batch counts."""
        return self._tasks[batch.part].counts(batch.batch)

    def begin_step(self, step: int) -> None:
        """Tell every task."""
        for task in self._tasks.values():
            task.begin_step(step)

    def training_step(self, batch: JointBatch) -> StepOutput:
        """The step of the batch's task; its logs stand under its name."""
        found = self._tasks[batch.part].training_step(batch.batch)
        return found._replace(logs={f"{batch.part}/{name}": value for name, value in found.logs.items()})

    def after_step(self) -> None:
        """Tell every task."""
        for task in self._tasks.values():
            task.after_step()

    def evaluation_step(self, batch: JointBatch) -> None:
        """The step of the batch's task."""
        self._tasks[batch.part].evaluation_step(batch.batch)


class _Part(nn.Module):
    """A part as its task calls it: through the whole model, which data parallelism may have wrapped.

    ``module`` is the part itself, for what is not a call.
    """

    def __init__(self, task: JointTask, name: str, part: nn.Module) -> None:
        super().__init__()
        # As plain attributes: the part belongs to the model, which belongs to the task.
        object.__setattr__(self, "_task", task)
        object.__setattr__(self, "module", part)
        self._name = name

    def forward(self, *inputs: Any, **options: Any) -> Any:
        task: Any = self._task
        return task.model(self._name, *inputs, **options)


class _JointMetric:
    """The metrics of all tasks; their names must differ."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self._metrics = metrics

    def reset(self) -> None:
        """Forget everything."""
        for metric in self._metrics.values():
            metric.reset()

    def reduce(self) -> None:
        """Join what all ranks have seen."""
        for metric in self._metrics.values():
            metric.reduce()

    def compute(self) -> dict[str, float]:
        """Named numbers of all of them."""
        scores: dict[str, float] = {}
        for metric in self._metrics.values():
            found = metric.compute()
            assert not scores.keys() & found.keys(), "two tasks name a score alike"
            scores |= found
        return scores
