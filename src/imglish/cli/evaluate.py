"""``imglish evaluate RECIPE``: score the weights of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from imglish.cli.scores import print_scores
from imglish.cli.settings import choose
from imglish.cli.usage import UsageError, did_you_mean
from imglish.recipes.assemble import evaluate_recipe
from imglish.recipes.config import RunConfig
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.runs import RECIPES

USAGE = """usage: imglish evaluate RECIPE|FOLDER [--config FILE.yaml] [--SETTING VALUE ...]

RECIPE stands for the folder runs/RECIPE, where imglish train puts it.
imglish evaluate RECIPE --help lists the settings of that run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluate:
    """Score the weights of a finished run.

    Args:
        config: YAML file with the settings to change; options come after it.
        settings: The run's own.
    """

    config: Path | None = None
    settings: Annotated[RunConfig, tyro.conf.arg(name="")]


def run(arguments: Sequence[str]) -> None:
    """Print the scores of a run."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return
    name, *rest = arguments
    folder = _find(name)
    options = tyro.cli(
        Evaluate,
        args=rest,
        prog=f"imglish evaluate {name}",
        default=Evaluate(settings=choose(RunFolder(folder).config(), rest)),
        config=(tyro.conf.AvoidSubcommands,),
    )
    print_scores(folder, evaluate_recipe(options.settings, folder))


def _find(name: str) -> Path:
    """The folder of a run, by its path or by its recipe."""
    if Path(name).is_dir():
        return Path(name)
    if name not in RECIPES:
        raise UsageError(f"there is no folder and no recipe {name!r}{did_you_mean(name, RECIPES)}")
    return Path("runs") / name
