"""The site's own rules: links out of it become paths, and nothing is fetched from elsewhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from tests.architecture.source_tree import ROOT


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("source", "markdown", "shown"),
    [
        ("demo.md", "[card](../src/imglish/hub/world/card.md)", "card (`src/imglish/hub/world/card.md`)"),
        ("tasks/nlvr2.md", "[results](../results.md#a)", "[results](../results.md#a)"),
        ("demo.md", "[b](https://a.b/c) and [here](#x)", "[b](https://a.b/c) and [here](#x)"),
        ("pretraining.md", "[script](slurm/train.sbatch)", "script (`docs/slurm/train.sbatch`)"),
    ],
)
def test_links_out_of_the_site_become_paths(
    hooks: ModuleType, source: str, markdown: str, shown: str
) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri=source))
    assert hooks.on_page_markdown(markdown, page, None, None) == shown


def test_the_changelog_is_that_of_the_root(hooks: ModuleType) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="changelog.md"))
    config = SimpleNamespace(config_file_path=str(ROOT / "mkdocs.yml"))
    text = hooks.on_page_markdown("", page, config, None)
    assert text.startswith("# Changelog") and "](docs/" not in text and "](export.md)" in text


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<img alt='a' src=//cdn.example/a.png>",
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '@import url("https://fonts.example/css");',
        "a{background:url(https://a.example/b.png)}",
    ],
)
def test_what_a_browser_fetches_from_elsewhere_is_refused(
    hooks: ModuleType, text: str, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(f"<p>{text}</p>")
    with pytest.raises(RuntimeError, match="page.html: (https:)?//"):
        hooks.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))


@pytest.mark.parametrize(
    "text",
    [
        '<a href="https://arxiv.org/abs/2208.10442">paper</a>',
        '<link rel="canonical" href="https://a.example/">',
        '<script src="assets/x.js"></script><img src="images/a.png">',
    ],
)
def test_what_somebody_follows_and_what_is_here_is_not(hooks: ModuleType, text: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(text)
    hooks.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))


def test_every_page_stands_in_the_navigation_once() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = [page for part in settings["nav"] for entry in part.values() for page in leaves(entry)]
    there = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    measured = {name for name in there if name.startswith("benchmarks/")}  # benchmarks.md names these
    assert len(named) == len(set(named)) and set(named) == there - measured
    listed = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert not [name for name in measured if name not in listed]


def leaves(entry: object) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    if isinstance(entry, dict):
        return [page for value in entry.values() for page in leaves(value)]
    assert isinstance(entry, list)
    return [page for value in entry for page in leaves(value)]
