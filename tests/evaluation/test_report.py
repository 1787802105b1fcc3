"""The report shows what results.json holds, all of it, and needs nothing but itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from imglish.evaluation.report import duration, write_report
from imglish.evaluation.results import DemoResults, Gallery, Score
from tests.evaluation.example_results import example_results

VOID = {"meta", "img"}
# Digits in fixed words of the page and in the example's own texts, which are names and no results.
NAMES = (
    "BEiT-3",
    "R@1",
    "500 validation pairs",
    "500 pairs",
    "Beam search of 3",
    "stride 4",
    "commit 1a2b3c4",
)


class Page(HTMLParser):
    """Collects marked numbers and texts, the rest of the text and the links; every tag must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: list[tuple[str, str, str]] = []  # key, value, text
        self.texts: list[tuple[str, str]] = []
        self.rest: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [values[name] or "" for name in ("src", "href", "data", "action") if name in values]
        self.ids += [values["id"] or ""] if "id" in values else []
        if tag not in VOID:
            self.open.append((tag, values))

    def handle_endtag(self, tag: str) -> None:
        assert tag not in VOID
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self.open]
        values = self.open[-1][1] if self.open else {}
        if "data-key" in values and tags[-1] == "data":
            self.numbers.append((values["data-key"] or "", values["value"] or "", data))
        elif "data-key" in values:
            self.texts.append((values["data-key"] or "", data))
        elif not {"style", "svg", "code", "pre", "title"} & set(tags):
            self.rest.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, object]:
    return written_to(tmp_path_factory.mktemp("report"), example_results())


def written_to(out: Path, results: DemoResults) -> tuple[Page, object]:
    page = write_report(results, out)
    assert page == out / "report.html"
    numbers = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return Page(page.read_text(encoding="utf-8")), numbers


def look_up(tree: object, key: str) -> object:
    for part in key.split("."):
        assert isinstance(tree, list | dict)
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree


def test_every_number_of_the_page_is_that_of_the_file(written: tuple[Page, object]) -> None:
    page, tree = written
    assert len(page.numbers) > 100
    for key, value, _ in page.numbers:
        assert json.loads(value) == look_up(tree, key), key
    for key, text in page.texts:
        assert text == str(look_up(tree, key)), key


def test_shares_are_shown_as_the_percentages_they_are(written: tuple[Page, object]) -> None:
    shares = [(value, text) for _, value, text in written[0].numbers if text.endswith("%")]
    assert len(shares) > 40
    for value, text in shares:
        assert text == f"{100 * float(value):.1f}%"


def test_no_number_stands_unmarked(written: tuple[Page, object]) -> None:
    rest = " ".join(written[0].rest)
    for name in (*NAMES, "25 points above question-only"):
        rest = rest.replace(name, "")
    assert not re.findall(r"\d+(?:\.\d+)?", rest)


def test_all_scores_are_on_the_page(written: tuple[Page, object]) -> None:
    keys = {key for key, _, _ in written[0].numbers}
    results = example_results()
    for t, task in enumerate(results.tasks):
        for s, score in enumerate(task.scores):
            for name in ("pretrained", "scratch", "chance", "no_picture", "target"):
                shown = f"results.tasks.{t}.scores.{s}.{name}" in keys
                measured = getattr(score, name) is not None
                assert shown == (
                    measured and (task.half == "weights" or name not in ("scratch", "no_picture"))
                )
    for i, _ in enumerate(results.stages):
        assert {f"results.stages.{i}.{name}" for name in ("seconds", "steps", "samples")} <= keys


def test_the_page_needs_no_other_file(written: tuple[Page, object]) -> None:
    page, _ = written
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_texts_of_the_run_cannot_break_the_page(written: tuple[Page, object]) -> None:
    assert "what colour is the <star>?" in written[0].rest


def test_a_run_that_has_only_begun_can_be_reported(tmp_path: Path) -> None:
    results = replace(example_results(), stages=(), codebook=None, masked=(), tasks=(), gallery=Gallery())
    page, _ = written_to(tmp_path, results)
    assert not any("targets" in key for key, _, _ in page.numbers)


def test_a_score_that_is_not_finite_is_shown_as_not_measured(tmp_path: Path) -> None:
    task = replace(example_results().tasks[1], scores=(Score(name="accuracy", pretrained=float("nan")),))
    page, tree = written_to(tmp_path, replace(example_results(), tasks=(task,)))
    assert look_up(tree, "results.tasks.0.scores.0.pretrained") is None
    assert "results.tasks.0.scores.0.pretrained" not in {key for key, _, _ in page.numbers}


def test_a_report_replaces_an_older_one_and_leaves_no_drafts(tmp_path: Path) -> None:
    written_to(tmp_path, example_results())
    _, tree = written_to(tmp_path, replace(example_results(), seed=7))
    assert look_up(tree, "results.seed") == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results.json"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.26, "9.3 s"),
        (41.4, "41 s"),
        (59.7, "1 min 0 s"),
        (425, "7 min 5 s"),
        (7830, "2 h 10 min"),
    ],
)
def test_durations_are_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text
