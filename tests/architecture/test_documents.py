"""What the documents name exists; that their code runs is shown in `tests/docs`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.source_tree import PACKAGE, ROOT, name_of
from tests.architecture.test_imports import MAY_IMPORT
from tests.docs.blocks import DOCUMENTS


def blocks(path: Path, language: str) -> list[str]:
    """Fenced code of one language; an empty language is that of shell commands and trees."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [code for name, code in fences if name == language]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if "://" not in link]
    assert not [link for link in local if link and not (path.parent / link).exists()]


def test_the_readme_begins_with_the_two_commands_that_set_everything_up() -> None:
    commands = ["pip install uv && uv run imglish demo\n", "pip install uv && uv run --group test pytest\n"]
    assert blocks(ROOT / "README.md", "")[:2] == commands


def test_the_map_of_the_readme_has_every_package_and_no_other() -> None:
    tree = next(block for block in blocks(ROOT / "README.md", "") if block.startswith("src/imglish/"))
    shown = re.findall(r"^  (\w+)/", tree, re.MULTILINE)
    packages = {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))}
    assert sorted(shown) == sorted(packages)


def test_the_table_of_imports_has_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    shown = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))} <= shown <= set(MAY_IMPORT)
