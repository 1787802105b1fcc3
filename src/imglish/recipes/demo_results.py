"""From the demo's runs to its report: scores beside their baselines, curves, pictures."""

from __future__ import annotations

import datetime
import importlib.metadata
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from imglish.data.world.files import read_world
from imglish.evaluation.machine import this_machine
from imglish.evaluation.report import write_report
from imglish.evaluation.results import (
    Codebook,
    Curve,
    DemoResults,
    MaskedAccuracy,
    Stage,
)
from imglish.recipes.demo_gallery import make_gallery
from imglish.recipes.demo_scores import scores_of, task_results
from imglish.recipes.run_folder import RunFolder
from imglish.train.logging import read_log
from imglish.train.precision import resolve_precision

_STREAMS = {
    "image": "pictures: visual tokens",
    "text": "texts: words",
    "pair_image": "pairs: visual tokens",
    "pair_text": "pairs: words",
}


class LegLike(Protocol):
    """A training run of the demo."""

    @property
    def name(self) -> str:
        """Folder of the run."""
        ...

    @property
    def title(self) -> str:
        """In words."""
        ...

    @property
    def purpose(self) -> str:
        """What it learns."""
        ...

    @property
    def half(self) -> Literal["nothing", "weights"]:
        """Which half of the demo."""
        ...

    @property
    def same_steps_as(self) -> str:
        """The run from pretrained weights that this one from scratch stands beside, or empty."""
        ...


class ProgressLike(Protocol):
    """What was done, and how long it took."""

    steps: dict[str, int]
    leg_seconds: dict[str, float]
    resumed: list[str]


def write(
    out: Path, legs: Sequence[LegLike], progress: ProgressLike, options: Mapping[str, Any], started: float
) -> Path:
    """Collect everything and write the report; ``started`` is on the clock of `time.perf_counter`."""
    files = read_world(out / "world")
    device = torch.device("cpu")
    results = DemoResults(
        command=_command(options),
        date=datetime.date.today().isoformat(),
        commit=_commit(),
        seed=int(options["seed"]),
        seconds=time.perf_counter() - started,
        settings={
            "minutes": f"{2 if options['quick'] else options['minutes']:g}",
            "training scenes": str(files.counts["train"]),
            "validation scenes": str(files.counts["validation"]),
            "picture size": str(files.config.picture_size),
            "level": files.config.level,
        },
        machine=this_machine(device, resolve_precision("auto", device)),
        stages=_stages(out, legs, progress),
        codebook=_codebook(out),
        masked=_masked(scores_of(out, "masked_data_modeling")),
        tasks=task_results(out, files),
        gallery=make_gallery(out, files),
    )
    return write_report(results, out)


def _stages(out: Path, legs: Sequence[LegLike], progress: ProgressLike) -> tuple[Stage, ...]:
    """All runs; the curve of one from scratch is drawn beside that from pretrained weights."""
    scratch = {leg.same_steps_as: leg for leg in legs if leg.same_steps_as}
    stages = []
    for leg in legs:
        curves = () if leg.same_steps_as else _curves(out, leg)
        if leg.name in scratch:
            beside = _curves(out, scratch[leg.name])
            curves = (replace(curves[0], name="pretrained"), replace(beside[0], name="from scratch"))
        stages.append(_stage(out, leg, progress, curves))
    return tuple(stages)


def _curves(out: Path, leg: LegLike) -> tuple[Curve, ...]:
    records = read_log(out / leg.name / "metrics.jsonl")
    curves = []
    for name in sorted({key for record in records for key in record if key.startswith("loss")}):
        points = tuple((int(record["step"]), record[name]) for record in records if name in record)
        curves.append(Curve(name=name.removeprefix("loss_"), points=points))
    return tuple(curves)


def _stage(out: Path, leg: LegLike, progress: ProgressLike, curves: tuple[Curve, ...]) -> Stage:
    config = RunFolder(out / leg.name).config()
    steps = progress.steps[leg.name]
    return Stage(
        name=leg.title,
        half=leg.half,
        purpose=leg.purpose,
        seconds=progress.leg_seconds.get(leg.name, 0.0),
        steps=steps,
        samples=steps * config.task.batch_size,
        status="resumed" if leg.name in progress.resumed else "finished",
        curves=curves,
    )


def _codebook(out: Path) -> Codebook:
    scores = scores_of(out, "visual_tokenizer")
    task: Any = RunFolder(out / "visual_tokenizer").config().task
    return Codebook(
        size=task.tokenizer.codebook_size,
        usage=scores["codebook/usage"],
        perplexity=scores["codebook/perplexity"],
    )


def _masked(scores: Mapping[str, float]) -> tuple[MaskedAccuracy, ...]:
    return tuple(
        MaskedAccuracy(
            name=title,
            accuracy=scores[f"{stream}/accuracy"],
            unigram=scores[f"{stream}/unigram"],
            count=int(scores[f"{stream}/count"]),
        )
        for stream, title in _STREAMS.items()
    )


def _command(options: Mapping[str, Any]) -> str:
    words = ["imglish demo"]
    if options["quick"]:
        words.append("--quick")
    elif options["minutes"] != 8.0:
        words.append(f"--minutes {options['minutes']:g}")
    if options["seed"]:
        words.append(f"--seed {options['seed']}")
    return " ".join(words)


def _commit() -> str:
    """The commit of the code where it is a checkout, else the version of the package."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return importlib.metadata.version("imglish")
    return found.stdout.strip()
