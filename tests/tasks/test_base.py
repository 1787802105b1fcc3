from __future__ import annotations

import pytest

from imglish.tasks.base import Task


class Unfinished(Task):
    pass


@pytest.mark.parametrize(
    ("step", "called"), [("training_step", "training"), ("evaluation_step", "evaluation")]
)
def test_a_task_without_a_step_says_which_task_and_which_step(step: str, called: str) -> None:
    with pytest.raises(NotImplementedError, match=f"Unfinished defines no {called} step"):
        getattr(Unfinished(), step)(None)


def test_a_task_need_not_do_anything_around_a_step() -> None:
    task = Unfinished()
    before = dict(vars(task))
    task.begin_step(3)
    task.after_step()
    assert vars(task) == before
