"""The pages about tasks: what their commands name exists, and each page has all it must."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest

from imglish.cli.main import COMMANDS
from imglish.cli.settings import choose
from imglish.config.core import override
from imglish.hub.load import list_models
from imglish.recipes.runs import RECIPES

ROOT = Path(__file__).parents[2]
PAGES = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "tasks").glob("*.md"))
} | {
    name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("beit", "detection-recipes", "pretraining", "tokenizers")
}
OF_A_TASK = ["captioning", "classification", "nlvr2", "questions", "retrieval", "segmentation"]


def commands(page: str) -> list[list[str]]:
    """Words of the shown commands, those that run over several lines joined."""
    blocks = re.findall(r"^```\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`(imglish [^`]+)`", PAGES[page])
    return [shlex.split(line) for line in lines if line.startswith("imglish ")]


def recipe_of(words: list[str]) -> str:
    """The recipe that a command trains or scores, by its name or by its run's folder; empty for others."""
    if words[1] not in ("train", "evaluate"):
        return ""
    name = words[2].removeprefix("runs/")
    return name if name in RECIPES or words[2] == name else ""


def without_files(options: list[str]) -> list[str]:
    """The options but for ``--config FILE``: the file is the reader's."""
    if "--config" not in options:
        return options
    place = options.index("--config")
    return options[:place] + options[place + 2 :]


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_recipes_exist(page: str) -> None:
    assert {words[1] for words in commands(page)} <= set(COMMANDS)
    assert {recipe_of(words) for words in commands(page)} <= {*RECIPES, ""}


@pytest.mark.parametrize("page", PAGES)
def test_settings_exist_and_take_the_shown_values(page: str) -> None:
    for words in commands(page):
        if recipe := recipe_of(words):
            options = without_files(words[3:])
            config = choose(RECIPES[recipe](), options)
            pairs = itertools.pairwise([*options, ""])
            given = {
                option[2:].replace("-", "_"): value
                for option, value in pairs
                if option.startswith("--") and "." in option
            }
            if "task.model.image_size" in given:
                given["task.model.image_size"] = "[224, 224]"
            for name in given.keys() & {"data.pairs", "data.validation_pairs"}:  # several may stand there
                given[name] = f"[{given[name]}]"
            override(config, given)


@pytest.mark.parametrize("page", PAGES)
def test_weights_exist(page: str) -> None:
    named = set(re.findall(r"\bbeit3_\w+_patch16_\w+", PAGES[page]))
    assert named <= set(list_models())


@pytest.mark.parametrize("page", OF_A_TASK)
def test_a_page_has_a_layout_and_says_how_to_train_evaluate_and_predict(page: str) -> None:
    shown = {words[1] for words in commands(page)}
    if page != "nlvr2":  # its page has no command for prediction yet
        assert {"train", "evaluate", "predict"} <= shown
    assert "## Data" in PAGES[page] or "data/coco/\n" in PAGES[page]
    assert "| recipe |" in PAGES[page]


def test_every_recipe_is_on_a_page() -> None:
    text = "\n".join(PAGES.values())
    assert not {name for name in RECIPES if f"`{name}`" not in text and not name.startswith("world_")}
