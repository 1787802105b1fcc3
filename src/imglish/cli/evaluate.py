"""``imglish evaluate RECIPE``: score the weights of a finished run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import Progress

from imglish.cli.scores import print_scores
from imglish.cli.settings import choose
from imglish.cli.usage import UsageError, did_you_mean
from imglish.recipes.config import RunConfig
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.detection_report import report_detection
from imglish.recipes.panoptic_report import report_panoptic
from imglish.recipes.predictions import write_predictions
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.runs import RECIPES
from imglish.recipes.scoring import evaluate_recipe, evaluate_weights
from imglish.recipes.segmentation_report import report_segmentation

_Reporter = Callable[
    [RunConfig, Path | str, Literal["validation", "test"], Path, Callable[[int, int], None]], dict[str, float]
]
USAGE = """usage: imglish evaluate RECIPE|FOLDER [--split SPLIT] [--predictions FILE] [--report FOLDER]
                        [--SETTING VALUE ...]
       imglish evaluate RECIPE --weights NAME|FILE [--split SPLIT] [--predictions FILE] [--report FOLDER]
                        [--SETTING VALUE ...]

RECIPE stands for the folder runs/RECIPE, where imglish train puts it; with --weights for the recipe itself.
imglish evaluate RECIPE --help lists the settings of that run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluate:
    """Score the weights of a finished run, or official ones.

    Args:
        weights: Official weights by name or as a file, to score on the data of a recipe.
        predictions: Write predictions in the published submission format there, instead of scoring.
        report: Of a segmenter or detector, write a page there with the scores of each class, and its best
            and worst pictures with what was found in them.
        split: The split to score or to predict; validation if nothing is said, for predictions test, but for
            those of a detector.
        config: YAML file with the settings to change; options come after it.
        settings: The run's own.
    """

    weights: str = ""
    predictions: Path | None = None
    report: Path | None = None
    split: Literal["validation", "test"] | None = None
    config: Path | None = None
    settings: Annotated[RunConfig, tyro.conf.arg(name="")]


def run(arguments: Sequence[str]) -> None:
    """Print the scores of a run."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return
    name, *rest = arguments
    by_recipe = name in RECIPES and any(word.split("=")[0] == "--weights" for word in rest)
    folder = Path() if by_recipe else _find(name)
    config = RECIPES[name]() if by_recipe else RunFolder(folder).config()
    options = tyro.cli(
        Evaluate,
        args=rest,
        prog=f"imglish evaluate {name}",
        default=Evaluate(settings=choose(config, rest)),
        config=(tyro.conf.AvoidSubcommands,),
    )
    if options.weights and not by_recipe:
        raise UsageError("--weights goes with the name of a recipe, whose data are scored")
    if options.predictions is not None and options.report is not None:
        raise UsageError("--predictions and --report are two commands; give one of them")
    if options.predictions is not None:
        _write(options, options.weights or folder, options.predictions)
        return
    split = options.split or "validation"
    if options.report is not None:
        _report(options, options.weights or folder, split, options.report)
    elif options.weights:
        print_scores(Path(options.weights), evaluate_weights(options.settings, options.weights, split))
    else:
        print_scores(folder, evaluate_recipe(options.settings, folder, split))


def _write(options: Evaluate, weights: Path | str, out: Path) -> None:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("predicting", total=None)
        count = write_predictions(
            options.settings,
            weights,
            options.split or ("validation" if isinstance(options.settings.task, DetectionTask) else "test"),
            out,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(f"{out}: {count} predictions")


def _report(options: Evaluate, weights: Path | str, split: Literal["validation", "test"], out: Path) -> None:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("scoring", total=None)
        scores = _reporter(options.settings)(
            options.settings,
            weights,
            split,
            out,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    print_scores(Path(weights), scores)
    print(out / "report.html")


def _reporter(config: RunConfig) -> _Reporter:
    """What writes the report of a run."""
    if not isinstance(config.task, DetectionTask):
        return report_segmentation
    return report_panoptic if config.task.panoptic else report_detection


def _find(name: str) -> Path:
    """The folder of a run, by its path or by its recipe."""
    if Path(name).is_dir():
        return Path(name)
    if name not in RECIPES:
        raise UsageError(f"there is no folder and no recipe {name!r}{did_you_mean(name, RECIPES)}")
    return Path("runs") / name
