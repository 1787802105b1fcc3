"""The demo's runs, two at a time: each lane is a process of its own with half of the threads.

Models as small as the demo's leave much of a second thread idle, so two runs beside each other get more done
than one run on all cores. The state of a run stands in ``leg.json`` in its folder: there its twin finds the
number of steps, the next start of the demo what is done, and whoever draws the bars where a run is.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import FrameType

import torch

from imglish.errors import ImglishError
from imglish.recipes.assemble import assemble, train_recipe
from imglish.recipes.assembly.base import Shares
from imglish.recipes.config import RunConfig
from imglish.recipes.demo.legs import Leg, demo_lanes
from imglish.recipes.run_folder import RunFolder
from imglish.train.distributed import join_ranks

_WARM_STEPS, _TIMED_STEPS = 2, 3
# What the optimiser takes beside the measured step, and a lane that was not yet busy when it was measured.
_UNMEASURED = 1.2
_LOOK_EVERY = 0.25  # seconds


class LaneError(ImglishError):
    """A run of the demo failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LegState:
    """What is known of a run.

    Args:
        steps: Its length; 0 until it is planned.
        seconds: Time spent on it so far, over all starts.
        resumed: True when it went on from a checkpoint.
        done: True when it is trained and scored.
    """

    steps: int = 0
    seconds: float = 0.0
    resumed: bool = False
    done: bool = False


def leg_state(out: Path, name: str) -> LegState:
    """The state of the run ``name`` of the demo in ``out``."""
    path = out / name / "leg.json"
    return LegState(**json.loads(path.read_text())) if path.is_file() else LegState()


def run_lanes(out: Path, seconds: float, seed: int, watch: Callable[[], None]) -> None:
    """Run what is left of all legs, and wait for them.

    Args:
        out: The demo's folder, with the World in it.
        seconds: Time for both lanes beside each other.
        seed: Of every run.
        watch: Called now and then meanwhile.

    Raises:
        LaneError: A run failed in a way that the user can mend.
        RuntimeError: A run failed otherwise; the trace of its process is the text.
        KeyboardInterrupt: Asked to stop; all runs have saved their state.
    """
    first, second = ([leg.name for leg in lane] for lane in demo_lanes(out))
    threads = torch.get_num_threads()
    # On a single thread lanes would only take turns.
    lanes = [first, second] if threads > 1 else [first + second]
    context = multiprocessing.get_context("spawn")
    failures: SimpleQueue[tuple[bool, str]] = context.SimpleQueue()
    processes = [
        context.Process(
            target=_run_lane,
            args=(out, names, seconds, seed, threads // len(lanes), number, failures),
            name=f"lane {number}",
        )
        for number, names in enumerate(lanes)
    ]
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes):
            time.sleep(_LOOK_EVERY)
            watch()
            if any(process.exitcode for process in processes):  # neither alive nor well
                break
    finally:
        _stop(processes)
        signal.signal(signal.SIGTERM, before)
    _raise_failure(processes, failures)


def plan_steps(legs: Sequence[Leg], seconds: float, step: float) -> int:
    """How many steps of the first of ``legs`` fit into its share of the time.

    Args:
        legs: What is left of a lane.
        seconds: Time left for all of them.
        step: Seconds of a step of the first.
    """
    training = seconds - sum(leg.overhead for leg in legs)
    share = training * legs[0].weight / sum(leg.weight for leg in legs)
    return max(legs[0].fewest, int(share / step))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stop(processes: Sequence[BaseProcess]) -> None:
    """Ask those that still run to save their state and leave, and wait for them."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        if process.pid is not None:
            process.join()


def _raise_failure(processes: Sequence[BaseProcess], failures: SimpleQueue[tuple[bool, str]]) -> None:
    if not failures.empty():
        users, text = failures.get()
        if users:
            raise LaneError(text)
        raise RuntimeError(text)
    for process in processes:
        if process.exitcode:
            raise LaneError(
                f"{process.name} of the demo ended with exit code {process.exitcode}: somebody killed it, or "
                "memory ran out; the same command goes on where it stopped"
            )


def _run_lane(
    out: Path,
    names: Sequence[str],
    seconds: float,
    seed: int,
    threads: int,
    number: int,
    failures: SimpleQueue[tuple[bool, str]],
) -> None:
    """A lane's process: its legs, one after the other."""
    # Ctrl-C reaches every process of a terminal; the first of them asks the lanes by the other signal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)  # training heeds it by itself: it saves and leaves
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    # The demo's own bars stand on the terminal.
    sys.stderr = (out / f"lane_{number}.log").open("a", buffering=1)
    known = {leg.name: leg for lane in demo_lanes(out) for leg in lane}
    legs = [leg for leg in (known[name] for name in names) if not leg_state(out, leg.name).done]
    end = time.monotonic() + seconds
    try:
        for position in range(len(legs)):
            _run_leg(out, legs[position:], end - time.monotonic(), seed)
    except KeyboardInterrupt:
        return
    except ImglishError as error:
        failures.put((True, f"{out}: {error}"))
        raise
    except BaseException:
        failures.put((False, traceback.format_exc()))
        raise


def _leave_with_parent() -> None:
    """When the demo itself is killed, its lanes save their state and leave."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _run_leg(out: Path, legs: Sequence[Leg], seconds: float, seed: int) -> None:
    """Train and score the first of ``legs`` in its share of ``seconds``, or what is left of it."""
    leg, state = legs[0], leg_state(out, legs[0].name)
    begun = time.monotonic()
    if not state.steps:
        steps = _steps_of_twin(out, leg) if leg.same_steps_as else _measured_steps(out, legs, seconds, seed)
        state = replace(state, steps=steps)
        _save(out, leg, state)
    elif (out / leg.name / "checkpoints").exists():
        state = replace(state, resumed=True)
    # The time counts also where it is stopped.
    try:
        train_recipe(_seeded(leg.config(state.steps), seed), out / leg.name, resume=True, title=leg.title)
        state = replace(state, done=True)
    finally:
        _save(out, leg, replace(state, seconds=state.seconds + time.monotonic() - begun))


def _steps_of_twin(out: Path, leg: Leg) -> int:
    while not (steps := leg_state(out, leg.same_steps_as).steps):
        time.sleep(_LOOK_EVERY)
    return steps


def _measured_steps(out: Path, legs: Sequence[Leg], seconds: float, seed: int) -> int:
    begun = time.monotonic()
    step = _measure_step(_seeded(legs[0].config(1000), seed), out / legs[0].name)
    return plan_steps(legs, seconds - (time.monotonic() - begun), step)


def _measure_step(config: RunConfig, folder: Path) -> float:
    """Seconds of one training step, the median of a few."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    assembly = assemble(config, RunFolder(folder), Shares())
    assert assembly.plan is not None
    times = []
    with join_ranks(config.train.device) as ranks:
        task = assembly.task.to(ranks.device)
        for step in range(_WARM_STEPS + _TIMED_STEPS):
            begun = time.monotonic()
            loss = task.training_step(assembly.plan.batch(step).batch.to(ranks.device)).loss
            loss.backward()
            task.after_step()
            float(loss.detach())  # waits for a GPU
            times.append(time.monotonic() - begun)
    return _UNMEASURED * statistics.median(times[_WARM_STEPS:])


def _seeded(config: RunConfig, seed: int) -> RunConfig:
    return replace(config, train=replace(config.train, seed=seed))


def _save(out: Path, leg: Leg, state: LegState) -> None:
    """Write at once, as the other lane reads meanwhile."""
    partial = out / leg.name / "leg.partial"
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps(asdict(state)))
    partial.replace(partial.with_name("leg.json"))
