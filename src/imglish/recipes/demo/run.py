"""The demo: draw the World, pretrain from nothing, fine-tune from the weights in the package, report.

Half (a) shows the whole method run for a short while. Half (b) is how one works in life: tasks from
pretrained weights, each beside the same model from scratch with the same number of steps.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.errors import ConfigError
from imglish.recipes.demo import results
from imglish.recipes.demo.lanes import leg_state, run_lanes
from imglish.recipes.demo.legs import Leg, demo_lanes
from imglish.train.logging import read_log

_MINUTES, _QUICK_MINUTES = 8.0, 2.0
_REPORT_SECONDS = 30  # to write the report; and starting Python took some before the clock ran


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """What to show, and for how long.

    Args:
        out: Folder of everything the demo writes; running it again there goes on where it stopped.
        minutes: Time for the whole demo; the stages share it.
        quick: True is the same in 2 minutes.
        seed: Of the World and of every run.
    """

    out: Path = Path("runs/demo")
    minutes: float = _MINUTES
    quick: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.minutes < 1:
            raise ValueError(f"minutes must be at least 1; got {self.minutes}")

    @property
    def seconds(self) -> float:
        """Time for the whole demo."""
        return 60 * (_QUICK_MINUTES if self.quick else self.minutes)

    @property
    def command(self) -> str:
        """What makes this demo again, in the default folder."""
        words = ["imglish demo"]
        if self.quick:
            words.append("--quick")
        elif self.minutes != _MINUTES:
            words.append(f"--minutes {self.minutes:g}")
        if self.seed:
            words.append(f"--seed {self.seed}")
        return " ".join(words)


class _Clock:
    """The time that a demo took over all its starts, kept in ``progress.json``."""

    def __init__(self, out: Path) -> None:
        self._path = out / "progress.json"
        spent = json.loads(self._path.read_text())["seconds"] if self._path.is_file() else 0.0
        self._started = time.monotonic() - spent

    @property
    def seconds(self) -> float:
        """Time so far."""
        return time.monotonic() - self._started

    def save(self) -> None:
        """Keep it for the next start."""
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps({"seconds": round(self.seconds, 1)}))
        partial.replace(self._path)


def run_demo(options: DemoOptions) -> Path:
    """Run the demo to its end, or go on where it stopped.

    Returns:
        The report. Where the demo is complete, that is all there is to do.

    Raises:
        ConfigError: The folder holds a demo with other settings.
        LaneError: A run failed.
    """
    console = Console(stderr=True)
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    _claim(options)
    report = out / "report.html"
    if report.is_file():
        console.print(f"this demo is complete: {report}. Another --out, or deleting {out}, runs it anew.")
        return report
    clock = _Clock(out)
    _draw_world(options, console)
    legs = [leg for lane in demo_lanes(out) for leg in lane]
    with _bars(out, legs, console, clock) as watch:
        run_lanes(out, options.seconds - clock.seconds - _REPORT_SECONDS, options.seed, watch)
    console.print("writing the report")
    results.write(
        out,
        legs,
        command=options.command,
        minutes=options.seconds / 60,
        seed=options.seed,
        spent=lambda: clock.seconds,
    )
    clock.save()
    console.print(f"report: {report}  (numbers: {out / 'results.json'})")
    return report


@contextmanager
def _bars(out: Path, legs: Sequence[Leg], console: Console, clock: _Clock) -> Iterator[Callable[[], None]]:
    """Yield what shows how far the runs are: a bar for each on a terminal, else a line at begin and end."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[doing]}"),
        console=console,
    )
    shown: dict[str, TaskID] = {}
    finished: set[str] = set()

    def watch() -> None:
        clock.save()
        for leg in legs:
            if leg.name in finished or not (state := leg_state(out, leg.name)).steps:
                continue
            if leg.name not in shown:
                shown[leg.name] = bars.add_task(leg.title, total=state.steps, doing="")
                if not console.is_terminal:
                    console.print(f"{leg.title}: {state.steps} steps")
            log = read_log(out / leg.name / "metrics.jsonl") if not state.done else []
            step = state.steps if state.done else int(log[-1]["step"]) if log else 0
            doing = "" if step < state.steps else "done" if state.done else "scoring"
            bars.update(shown[leg.name], completed=step, doing=doing)
            if state.done:
                finished.add(leg.name)
                if not console.is_terminal:
                    console.print(
                        f"{leg.title}: done in {state.seconds:.0f} s ({len(finished)} of {len(legs)})"
                    )

    if console.is_terminal:
        bars.start()
    try:
        yield watch
        watch()
    finally:
        bars.stop()


def _draw_world(options: DemoOptions, console: Console) -> None:
    num_train = 2000 if options.quick else 6000
    with Progress(console=console) as bar:
        task = bar.add_task("drawing the World", total=num_train + 600)
        write_world(
            WorldConfig(seed=options.seed),
            options.out / "world",
            num_train=num_train,
            num_validation=500,
            num_compositional=100,
            workers=min(2, os.cpu_count() or 1),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _claim(options: DemoOptions) -> None:
    path = options.out / "options.json"
    wanted = {"seconds": options.seconds, "seed": options.seed}
    if path.is_file():
        found = json.loads(path.read_text())
        if found != wanted:
            raise ConfigError(
                f"{options.out} holds a demo of {found['seconds'] / 60:g} minutes with seed {found['seed']}; "
                "go on with the same options, or choose another folder with --out"
            )
    path.write_text(json.dumps(wanted))
