"""The demo's time is shared out as promised, and a demo that is killed goes on where it stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest
import yaml

from imglish.cli.main import main
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.recipes.demo.lanes import (
    LaneError,
    LegState,
    _raise_failure,
    _run_leg,
    _save,
    _stop,
    leg_state,
    plan_steps,
    run_lanes,
)
from imglish.recipes.demo.legs import demo_lanes
from imglish.recipes.demo.run import DemoOptions


def test_the_first_legs_share_of_the_time_becomes_steps(tmp_path: Path) -> None:
    contrastive, tokenizer = demo_lanes(tmp_path)[0][:2]
    legs = [replace(contrastive, weight=3, overhead=5), replace(tokenizer, weight=1, overhead=15)]
    # 100 s less 20 s of overhead: three quarters of 80 s are 60 s.
    assert plan_steps(legs, 100, 0.5) == 120
    assert plan_steps(legs[1:], 40, 0.5) == 50  # what was saved or lost before is the next one's
    assert plan_steps(legs, 100, 50.0) == contrastive.fewest
    assert plan_steps(legs, -10, 0.5) == contrastive.fewest


def test_lanes_fit_together(tmp_path: Path) -> None:
    first, second = demo_lanes(tmp_path)
    names = [leg.name for leg in (*first, *second)]
    assert len(set(names)) == len(names)
    tasks = [leg for leg in first if leg.half == "weights"]
    twins = [leg for leg in second if leg.same_steps_as]
    assert [twin.same_steps_as for twin in twins] == [task.name for task in tasks]
    assert [twin.weight for twin in twins] == [task.weight for task in tasks]
    # Else one lane would wait for the other to plan a twin.
    assert sum(leg.weight for leg in first) == pytest.approx(sum(leg.weight for leg in second))
    for task, twin in zip(tasks, twins, strict=True):
        ours, scratch = task.config(40), twin.config(40)
        assert (ours.init, scratch.init) == ("world", "")
        assert ours.train == scratch.train and ours.data == scratch.data and ours.task == scratch.task


def test_every_leg_takes_the_steps_it_is_told_and_saves_on_the_way(tmp_path: Path) -> None:
    for leg in (leg for lane in demo_lanes(tmp_path) for leg in lane):
        train = leg.config(60).train
        assert train.num_steps == 60 and train.save_every <= 30, leg.name  # a killed demo loses half at most


def test_a_leg_that_was_stopped_goes_on_with_its_seed_and_its_time(tmp_path: Path) -> None:
    write_world(WorldConfig(), tmp_path / "world", num_train=60, num_validation=20, num_compositional=10)
    leg = next(leg for leg in demo_lanes(tmp_path)[1] if leg.name == "image_classification")
    assert leg_state(tmp_path, leg.name) == LegState()
    (tmp_path / leg.name / "checkpoints").mkdir(parents=True)
    _save(tmp_path, leg, LegState(steps=2, seconds=1000.0))
    _run_leg(tmp_path, [leg], 30, 7)
    state = leg_state(tmp_path, leg.name)
    assert state.done and state.resumed and state.steps == 2 and 1000 < state.seconds < 1300
    assert yaml.safe_load((tmp_path / leg.name / "config.yaml").read_text())["train"]["seed"] == 7
    assert not (tmp_path / leg.name / "leg.partial").exists()


def test_lanes_are_stopped_and_one_that_was_killed_is_a_line() -> None:
    context = multiprocessing.get_context("spawn")
    failures: SimpleQueue[tuple[bool, str]] = context.SimpleQueue()
    sleeping = context.Process(target=time.sleep, args=(30,), name="lane 0")
    sleeping.start()
    _stop([sleeping])
    assert sleeping.exitcode == -signal.SIGTERM
    with pytest.raises(LaneError, match="lane 0 of the demo ended with exit code -15: somebody killed it"):
        _raise_failure([sleeping], failures)
    failures.put((True, "the user's mistake"))
    with pytest.raises(LaneError, match="the user's mistake"):
        _raise_failure([sleeping], failures)
    failures.put((False, "Traceback"))
    with pytest.raises(RuntimeError, match="Traceback"):
        _raise_failure([sleeping], failures)


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (DemoOptions(), "imglish demo"),
        (DemoOptions(minutes=30, seed=3), "imglish demo --minutes 30 --seed 3"),
        (DemoOptions(quick=True, minutes=30), "imglish demo --quick"),
    ],
)
def test_the_report_says_what_makes_it_again(options: DemoOptions, command: str) -> None:
    assert options.command == command


def test_another_length_is_another_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "options.json").write_text(json.dumps({"seconds": 120.0, "seed": 0}))
    assert main(["demo", "--out", str(tmp_path)]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "holds a demo of 2 minutes with seed 0" in told
    assert DemoOptions().seconds == 480 and DemoOptions(quick=True).seconds == 120


@pytest.mark.slow
def test_a_run_that_fails_ends_the_demo_in_a_line(tmp_path: Path) -> None:
    write_world(WorldConfig(), tmp_path / "world", num_train=60, num_validation=20, num_compositional=10)
    (tmp_path / "world" / "coco" / "instances_train.json").write_text("{")
    with pytest.raises(LaneError, match="instances_train.json"):
        run_lanes(tmp_path, 30, 0, lambda: None)


@pytest.mark.slow
def test_a_killed_demo_leaves_nothing_running_and_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "imglish", "demo", "--minutes", "1.5", "--out", str(tmp_path)]
    demo = subprocess.Popen(command, start_new_session=True)
    checkpoints = tmp_path / "contrastive" / "checkpoints"
    while not list(checkpoints.glob("step_*/*.json")):
        assert demo.poll() is None, "it ended before its first checkpoint"
        time.sleep(0.2)
    demo.send_signal(signal.SIGKILL)
    demo.wait()
    gone = time.monotonic() + 60
    while _running(demo.pid):
        assert time.monotonic() < gone, "a lane outlived its demo"
        time.sleep(0.2)
    before = leg_state(tmp_path, "contrastive")
    assert before.steps and not before.done and before.seconds > 0
    subprocess.run(command, check=True, timeout=600)
    after = leg_state(tmp_path, "contrastive")
    assert after.done and after.resumed and after.steps == before.steps and after.seconds > before.seconds
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert len(results["stages"]) == 16
    assert results["seconds"] > after.seconds
    for leg in demo_lanes(tmp_path)[1]:
        if leg.same_steps_as:
            assert leg_state(tmp_path, leg.name).steps == leg_state(tmp_path, leg.same_steps_as).steps


def _running(group: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
