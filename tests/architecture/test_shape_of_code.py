"""Files and functions stay short, nothing is swallowed, and no file knows the machine it was written on."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.source_tree import (
    ROOT,
    SOURCES,
    TESTS,
    functions,
    import_time_effects,
    length,
    name_of,
    parse,
    swallowed_keywords,
)

MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 100
DRAWERS = {"utils", "util", "misc", "common", "helpers", "helper", "tools"}

# Written with brackets so that this file does not hold what it forbids.
MACHINE_WORDS = re.compile(
    r"/(?:[h]ome|[U]sers|[w]ork|[f]arm)/\w|/[r]oot/|index[-]url|find[-]links|https?://[^ )]*/[s]imple/"
)


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES_OF_A_FILE


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_functions_are_short(path: Path) -> None:
    long = {function.name: length(function) for function in functions(parse(path))}
    assert not {name: lines for name, lines in long.items() if lines > MOST_LINES_OF_A_FUNCTION}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_module_is_a_drawer(path: Path) -> None:
    assert not {path.stem, *path.relative_to(ROOT).parts} & DRAWERS


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_function_swallows_keywords(path: Path) -> None:
    assert not swallowed_keywords(parse(path))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_importing_a_module_only_defines_things(path: Path) -> None:
    assert not import_time_effects(parse(path))


def test_no_tracked_file_names_a_machine_or_a_package_host() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listed.decode().split("\0")):
        path = ROOT / name
        if path.suffix in {".png", ".safetensors", ".spm", ".model"} or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", errors="ignore")
        found += [f"{name}: {match.group()}" for match in MACHINE_WORDS.finditer(text)]
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "torch.set_num_threads(1)",
        "os.environ['A'] = '1'",
        "torch.backends.cudnn.benchmark = True",
        "threads = torch.set_num_threads(1)",
        "try:\n    import wandb\nexcept ImportError:\n    wandb = None",
        "for name in NAMES:\n    register(name)",
        "if FLAG:\n    import x",
    ],
)
def test_import_time_effects_are_seen(code: str) -> None:
    assert import_time_effects(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        '"""Text."""\nimport torch',
        "X = frozenset({1})",
        "C = TypeVar('C')",
        "x: int = 1",
        "if TYPE_CHECKING:\n    import x",
        "if __name__ == '__main__':\n    main()",
        "def f():\n    torch.set_num_threads(1)",
    ],
)
def test_definitions_are_no_effects(code: str) -> None:
    assert not import_time_effects(ast.parse(code))


def test_swallowed_keywords_are_seen() -> None:
    swallowing = "def f(x, **kwargs):\n    return x"
    passing_on = "def f(x, **kwargs):\n    return g(x, **kwargs)"
    assert swallowed_keywords(ast.parse(swallowing)) == ["f in line 1"]
    assert not swallowed_keywords(ast.parse(passing_on))


@pytest.mark.parametrize(
    "text", ["see /wo" + "rk/main", "/ho" + "me/ann/x", "--index" + "-url https://a", "~/.x /ro" + "ot/.c"]
)
def test_machine_words_are_seen(text: str) -> None:
    assert MACHINE_WORDS.search(text)
