"""Imports point downwards: the table of docs/architecture.md, enforced on the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.source_tree import (
    PACKAGE,
    SOURCES,
    imported_names,
    name_of,
    own_imports,
    parse,
    strangers,
)

# What each package may import, besides itself and imglish.errors. A dotted entry opens one part only.
MAY_IMPORT: dict[str, set[str]] = {
    "structures": set(),
    "config": set(),
    "text": set(),
    "ops": {"structures"},
    "nn": {"structures", "ops"},
    "losses": {"structures", "ops"},
    "models": {"structures", "ops", "nn"},
    "data": {"structures", "ops", "text", "config"},
    "metrics": {"structures", "ops"},
    "decoding": {"structures", "ops"},
    "tasks": {"structures", "config", "text", "ops", "nn", "losses", "models", "data", "metrics", "decoding"},
    "train": {"structures", "config"},
    "evaluation": {"structures", "tasks", "metrics", "decoding"},
    "hub": {"models", "text"},
    # The World is drawn for people who have no picture at hand (inference/samples.py); keys and values are
    # what an exported captioner remembers (inference/export_beit3.py).
    "inference": {
        "structures", "nn.attention", "models", "text", "hub", "decoding", "data.transforms", "data.world",
    },
    "serving": {"inference"},
    "hf": {"models", "text", "decoding", "hub", "inference"},
    "recipes": {
        "structures", "config", "text", "ops", "nn", "losses", "models", "data", "metrics", "decoding",
        "tasks", "train", "evaluation", "hub", "inference",
    },
    # The shell calls recipes, inference and serving; besides, `world` calls the World's writer, `train` reads
    # configs from files, and `doctor` asks the lower packages what they would choose on this machine.
    "cli": {
        "recipes", "inference", "serving", "config", "data.world", "train.precision", "evaluation.machine",
        "evaluation.results", "ops", "hub",
    },
}  # fmt: skip

# A family of models stands alone, except that these hold others.
FAMILY_MAY_IMPORT: dict[str, set[str]] = {
    "vqkd": {"vit"},
    "vit_adapter": {"vit", "beit3"},
    "segmenters": {"vit", "beit3", "vit_adapter", "necks", "dense_heads"},
    "detectors": {"vit", "beit3", "vit_adapter", "necks", "dense_heads"},
}

AT_THE_TOP = {"__init__.py": {"hub", "inference"}, "__main__.py": {"cli"}, "errors.py": set[str]()}


def allowed_to(path: Path) -> set[str]:
    """Dotted names below imglish that a file may import."""
    package = path.relative_to(PACKAGE).parts[0]
    lower = AT_THE_TOP[package] if package in AT_THE_TOP else MAY_IMPORT[package] | {package}
    return lower | {"errors", "__version__"}


def test_every_package_has_a_row_in_the_table() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert packages <= set(MAY_IMPORT)
    assert {path.name for path in PACKAGE.glob("*.py")} <= set(AT_THE_TOP)


def test_the_table_has_no_circle() -> None:
    below = {package: {name.partition(".")[0] for name in names} for package, names in MAY_IMPORT.items()}
    while below:
        bottom = {package for package, names in below.items() if not names & set(below)}
        assert bottom, f"these packages may import each other in a circle: {sorted(below)}"
        below = {package: names for package, names in below.items() if package not in bottom}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    found = strangers(own_imports(parse(path)), allowed_to(path))
    assert not found, f"{name_of(path)} may not import {found}"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("tasks/*.py")), ids=name_of)
def test_one_task_never_imports_another(path: Path) -> None:
    tasks = [name for name in own_imports(parse(path)) if name.startswith("tasks.")]
    assert not strangers(tasks, {"tasks.base"})


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("models/*/**/*.py")), ids=name_of)
def test_one_family_of_models_never_imports_another(path: Path) -> None:
    family = path.relative_to(PACKAGE / "models").parts[0]
    families = {folder.name for folder in (PACKAGE / "models").iterdir() if folder.is_dir()}
    others = families - {family} - FAMILY_MAY_IMPORT.get(family, set())
    found = [
        name
        for name in own_imports(parse(path))
        if name.startswith("models.") and name.split(".")[1] in others
    ]
    assert not found


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_private_names_do_not_cross_files(path: Path) -> None:
    private = [
        name
        for name in own_imports(parse(path))
        if any(part[:1] == "_" and part[:2] != "__" for part in name.split("."))
    ]
    assert not private


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_there_are_no_wildcard_imports(path: Path) -> None:
    assert not [name for name in imported_names(parse(path)) if name.endswith(".*")]


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/**/__init__.py")), ids=name_of)
def test_packages_re_export_nothing(path: Path) -> None:
    body = parse(path).body
    assert len(body) <= 1 and all(isinstance(node, ast.Expr) for node in body), "a docstring only"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from imglish.models.vit import model", ["models.vit.model"]),
        ("def f():\n    import imglish.tasks.vqa", ["tasks.vqa"]),
        ("from imglish.data.loader import Loader", ["data.loader.Loader"]),
        ("from ..tasks import vqa", ["..tasks.vqa"]),
        ("from imglish import Predictor", ["Predictor"]),
        ("from imglish.data.transforms.image import resize\nimport torch", []),
        ("from imglish.errors import ConfigError\nfrom imglish.inference import draw", []),
    ],
)
def test_the_check_finds_what_it_should(code: str, found: list[str]) -> None:
    allowed = {"inference", "data.transforms", "errors"}
    assert strangers(own_imports(ast.parse(code)), allowed) == found
