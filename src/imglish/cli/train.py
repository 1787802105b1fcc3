"""``imglish train RECIPE``: train a recipe, with any of its settings changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from imglish.cli.scores import print_scores
from imglish.cli.settings import choose
from imglish.cli.usage import UsageError, did_you_mean
from imglish.recipes.assemble import train_recipe
from imglish.recipes.config import RunConfig
from imglish.recipes.embed import train_world
from imglish.recipes.runs import RECIPES
from imglish.recipes.world import WORLD_RUNS


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """Train a recipe.

    A part of another kind, such as --data.kind folder, has other settings; after it --help lists them.

    Args:
        out: Folder of the run; runs/RECIPE by default.
        resume: Go on from the last checkpoint in that folder.
        config: YAML file with the settings to change; options come after it.
        settings: The recipe's own.
    """

    out: Path | None = None
    resume: bool = False
    config: Path | None = None
    settings: Annotated[RunConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainWorld:
    """Train the World model, the weights that ship in the package: five stages, 85 minutes on two cores.

    Args:
        out: Folder of the five runs; the same command goes on where it stopped.
    """

    out: Path = WORLD_RUNS


def run(arguments: Sequence[str]) -> None:
    """Train and print the final scores."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return
    name, *rest = arguments
    if name == "world":
        options = tyro.cli(TrainWorld, args=rest, prog="imglish train world")
        print_scores(options.out, train_world(options.out))
        return
    changed = configure(name, rest)
    out = changed.out or Path("runs") / name
    print_scores(out, train_recipe(changed.settings, out, resume=changed.resume))


def configure(name: str, arguments: Sequence[str]) -> Train:
    """A recipe with the options of ``imglish train`` applied.

    Raises:
        ConfigError: A setting is none, or does not go with the others.
        UsageError: There is no such recipe.
    """
    if name not in RECIPES:
        raise UsageError(
            f"there is no recipe {name!r}{did_you_mean(name, RECIPES)}; see imglish train --help"
        )
    return tyro.cli(
        Train,
        args=arguments,
        prog=f"imglish train {name}",
        default=Train(settings=choose(RECIPES[name](), arguments)),
        config=(tyro.conf.AvoidSubcommands,),
    )


def overview() -> str:
    """Usage, and the recipes with the first line of what they say about themselves."""
    width = max(map(len, RECIPES))
    lines = [f"  {'world':{width}}  The World model: the five world_ recipes, one after the other."]
    lines += [
        f"  {name:{width}}  {(recipe.__doc__ or '').splitlines()[0]}" for name, recipe in RECIPES.items()
    ]
    return (
        "usage: imglish train RECIPE [--out DIR] [--resume] [--config FILE.yaml] [--SETTING VALUE ...]\n\n"
        + "\n".join(["recipes:", *lines])
        + "\n\nimglish train RECIPE --help lists its settings."
    )
