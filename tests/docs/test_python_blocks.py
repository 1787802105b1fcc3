"""Python in the documents runs; what can not run here names only what is there."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imglish.data.world.render import render
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.inference.predictor import Predictor
from tests.docs.blocks import Block, python_blocks

BLOCKS = python_blocks()
# The README's example needs finished runs: tests/cli/test_predict.py has some, and runs it.
RUN_ELSEWHERE = ("README.md",)


def runs_here(block: Block) -> bool:
    return not block.mark.startswith("not run: ") and block.path.name not in RUN_ELSEWHERE


@pytest.mark.parametrize("block", [b for b in BLOCKS if runs_here(b)], ids=str)
def test_a_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("picture.png", "other.png")):
        Image.fromarray(render(draw_scene(WorldConfig(), "validation", number))).save(name)
    exec(compile(block.code, str(block), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", [b for b in BLOCKS if not runs_here(b)], ids=str)
def test_a_block_that_is_not_run_names_what_is_there(block: Block) -> None:
    assert not list(strangers(block.code))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_mark_says_why(block: Block) -> None:
    assert not block.mark or block.mark.partition(": ")[2], f"{block}: a mark of Python is 'not run: REASON'"


def strangers(code: str) -> Iterator[str]:
    """Names, attributes of modules, methods of a predictor and keywords that there are not."""
    tree = ast.parse(code)
    known, predictors = imported(tree)
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id not in stored and node.id not in known and not hasattr(builtins, node.id):
                yield f"there is no {node.id}"
        if isinstance(node, ast.Call):
            called = callee(node.func, known, predictors)
            if isinstance(called, str):
                yield called
            elif called is not None:
                yield from wrong_keywords(node, called)


def imported(tree: ast.Module) -> tuple[dict[str, Any], set[str]]:
    """What is imported, by name (None for what is not of imglish), and the names of predictors."""
    known: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                assert importlib.util.find_spec(top) is not None, f"there is no module {top}"
                known[alias.asname or top] = None
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = importlib.import_module(node.module)
            for alias in node.names:
                known[alias.asname or alias.name] = getattr(module, alias.name)
    predictors = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_predictor(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return known, predictors


def is_predictor(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Predictor"


def callee(node: ast.expr, known: dict[str, Any], predictors: set[str]) -> Callable[..., Any] | str | None:
    """What is called, where it is imported or a predictor's; a text where there is no such method."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = node.value
    if is_predictor(owner) or (isinstance(owner, ast.Name) and owner.id in predictors):
        return getattr(Predictor, node.attr, f"a Predictor has no {node.attr}")
    return None


def wrong_keywords(node: ast.Call, called: Callable[..., Any]) -> Iterator[str]:
    if not getattr(called, "__module__", "").startswith("imglish"):
        return
    parameters = inspect.signature(called).parameters
    for keyword in node.keywords:
        if keyword.arg is not None and keyword.arg not in parameters:
            yield f"{called.__name__} has no {keyword.arg}"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("print(x)", ["there is no x"]),
        ("from imglish import Predictor\nPredictor('world').segmnt('a')", ["a Predictor has no segmnt"]),
        ("from imglish import Predictor\np = Predictor('a', devise='cpu')", ["Predictor has no devise"]),
        ("from imglish import load_model\nfor a in [1]:\n    load_model(a, image_size=2)", []),
        (
            "from imglish import Predictor\np = Predictor('a')\np.detect('b', min_scor=1)",
            ["detect has no min_scor"],
        ),
    ],
)
def test_strangers_are_seen(code: str, found: list[str]) -> None:
    assert list(strangers(code)) == found


def test_a_name_that_can_not_be_imported_is_seen() -> None:
    with pytest.raises(AttributeError):
        list(strangers("from imglish.hub.load import load_modle"))
