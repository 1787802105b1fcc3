"""From the demo's runs to its report: scores beside their baselines, curves, pictures."""

from __future__ import annotations

import datetime
import importlib.metadata
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from imglish.recipes.demo.gallery import make_gallery
from imglish.recipes.demo.lanes import leg_state
from imglish.recipes.demo.legs import Leg
from imglish.recipes.demo.scores import scores_of, task_results
from imglish.recipes.run_folder import RunFolder
from imglish.train.logging import read_log
from imglish.train.precision import resolve_precision

_STREAMS = {
    "image": "pictures: visual tokens",
    "text": "texts: words",
    "pair_image": "pairs: visual tokens",
    "pair_text": "pairs: words",
}


def write(
    out: Path, legs: Sequence[Leg], *, command: str, minutes: float, seed: int, spent: Callable[[], float]
) -> Path:
    """Collect everything and write the report.

    Args:
        out: The demo's folder; all ``legs`` are done there.
        legs: The runs, in the order of the report.
        command: What makes this demo again.
        minutes: That it was given.
        seed: Of the World and of every run.
        spent: Seconds that the demo took until it is asked.

    Returns:
        The page.
    """
    files = read_world(out / "world")
    device = torch.device("cpu")
    tasks, gallery = task_results(out, files), make_gallery(out, files)
    results = DemoResults(
        command=command,
        date=datetime.date.today().isoformat(),
        commit=_commit(),
        seed=seed,
        settings={
            "minutes": f"{minutes:g}",
            "training scenes": str(files.counts["train"]),
            "validation scenes": str(files.counts["validation"]),
            "picture size": str(files.config.picture_size),
            "level": files.config.level,
        },
        machine=this_machine(device, resolve_precision("auto", device)),
        stages=_stages(out, legs),
        codebook=_codebook(out),
        masked=_masked(scores_of(out, "masked_data_modeling")),
        tasks=tasks,
        gallery=gallery,
        seconds=spent(),
    )
    return write_report(results, out)


def _stages(out: Path, legs: Sequence[Leg]) -> tuple[Stage, ...]:
    """All runs, one from scratch after that from pretrained weights; their curves are drawn in one chart."""
    scratch = {leg.same_steps_as: leg for leg in legs if leg.same_steps_as}
    names = [leg.name for leg in legs]
    stages = []
    for leg in sorted(legs, key=lambda leg: names.index(leg.same_steps_as or leg.name)):
        curves = () if leg.same_steps_as else _curves(out, leg)
        if leg.name in scratch:
            beside = _curves(out, scratch[leg.name])
            curves = (replace(curves[0], name="pretrained"), replace(beside[0], name="from scratch"))
        stages.append(_stage(out, leg, curves))
    return tuple(stages)


def _curves(out: Path, leg: Leg) -> tuple[Curve, ...]:
    records = read_log(out / leg.name / "metrics.jsonl")
    curves = []
    for name in sorted({key for record in records for key in record if key.startswith("loss")}):
        points = tuple((int(record["step"]), record[name]) for record in records if name in record)
        curves.append(Curve(name=name.removeprefix("loss_"), points=points))
    return tuple(curves)


def _stage(out: Path, leg: Leg, curves: tuple[Curve, ...]) -> Stage:
    config, state = RunFolder(out / leg.name).config(), leg_state(out, leg.name)
    return Stage(
        name=leg.title,
        half=leg.half,
        purpose=leg.purpose,
        seconds=state.seconds,
        steps=state.steps,
        samples=state.steps * config.task.batch_size,
        status="resumed" if state.resumed else "finished",
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
