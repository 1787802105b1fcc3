"""The report of a demo run: one self-contained page, and every number on it as JSON.

Each number on the page is a ``<data>`` element whose ``data-key`` is the dotted place of the number in
``results.json`` and whose ``value`` is the number itself, so that a page can be checked against its file.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from imglish.evaluation.findings import find
from imglish.evaluation.plots import Line, line_chart
from imglish.evaluation.results import DemoResults, Picture, Stage

MINUS = "\N{MINUS SIGN}"
THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
_LONGEST = 800  # pixels of a drawing's longer side


@dataclass(frozen=True, slots=True)
class Drawing:
    """An encoded JPEG; in results.json it is left out."""

    jpeg: bytes

    @classmethod
    def of(cls, picture: Image.Image) -> Drawing:
        """A picture, made no larger than a page needs."""
        picture.thumbnail((_LONGEST, _LONGEST))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=88)
        return cls(buffer.getvalue())

    def address(self) -> str:
        """The picture as the address of an ``<img>``."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


def write_report(results: DemoResults, out: Path) -> Path:
    """Write ``report.html`` and ``results.json`` into a folder, replacing older ones.

    Both are written beside their place and then renamed, so that a reader never sees half a file.

    Returns:
        Path of the page.
    """
    findings = find(results)
    tree = {"results": plain(results), "findings": plain(findings)}
    numbers = Numbers(tree)
    page = render(
        "report.html.jinja", results=results, findings=findings, n=numbers, chart=stage_chart, left=left
    )
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "results.json", as_json(tree))
    write_text(out / "report.html", page)
    return out / "report.html"


def render(template: str, **values: object) -> str:
    """Fill in a template of this package; what it does not know is an error."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def _template(name: str) -> str:
    return resources.files("imglish.evaluation").joinpath(name).read_text(encoding="utf-8")


def as_json(tree: object) -> str:
    """A tree that `plain` made, as the text of its file."""
    return json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: object) -> object:
    """A tree of dataclasses as JSON has it; pictures keep their label, what is not finite becomes null."""
    if isinstance(value, Picture):
        return {"label": value.label}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Numbers:
    """Shows values of the tree by their dotted keys, each in its own manner.

    Args:
        tree: What results.json holds.
    """

    def __init__(self, tree: Any) -> None:
        self.tree = tree

    def value(self, key: str) -> object:
        """The value at a dotted key; entries of lists are counted from 0."""
        node = self.tree
        for part in key.split("."):
            node = node[int(part)] if isinstance(node, list) else node[part]
        return node

    def share(self, key: str) -> Markup:
        """A value in [0, 1] as a percentage."""
        return self._show(key, lambda value: f"{100 * value:.1f}%")

    def points(self, key: str) -> Markup:
        """A difference of shares in percentage points, with its sign."""
        return self._show(key, lambda value: f"{100 * value:+.1f}".replace("-", MINUS))

    def number(self, key: str) -> Markup:
        """A value of three significant digits."""
        return self._show(key, lambda value: f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}")

    def signed(self, key: str) -> Markup:
        """A difference with its sign."""
        return self._show(key, lambda value: f"{value:+.3g}".replace("-", MINUS))

    def count(self, key: str) -> Markup:
        """A whole number, its thousands apart."""
        return self._show(key, lambda value: f"{value:,.0f}".replace(",", THIN_SPACE))

    def duration(self, key: str) -> Markup:
        """Seconds as minutes and seconds, or hours and minutes."""
        return self._show(key, duration)

    def text(self, key: str) -> Markup:
        """A text that is shown as it is."""
        return Markup('<span data-key="{}">{}</span>').format(key, self.value(key))

    def _show(self, key: str, form: Callable[[float], str]) -> Markup:
        value = self.value(key)
        if value is None:
            return Markup('<span class="none" title="not measured">&ndash;</span>')
        if not isinstance(value, int | float):
            raise TypeError(f"{key} is no number: {value!r}")
        return Markup('<data value="{}" data-key="{}">{}</data>').format(json.dumps(value), key, form(value))


def duration(seconds: float) -> str:
    """Seconds in words, such as "41 s", "7 min 5 s" or "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def left(value: float) -> Markup:
    """A style that places a mark on a track from 0 to 1."""
    return Markup('style="left:{}%"').format(f"{100 * min(max(value, 0.0), 1.0):.2f}")


def bar(value: float | None) -> Markup:
    """A style that makes a bar as wide as a share."""
    return Markup('style="width:{}%"').format(f"{100 * min(max(value or 0.0, 0.0), 1.0):.1f}")


def stage_chart(stage: Stage) -> Markup:
    """The curves of a stage as a chart."""
    lines = [Line(curve.name, tuple(curve.points)) for curve in stage.curves]
    return Markup(
        line_chart(lines, title=f"{stage.name}: {stage.y_label}", x_label="step", y_label=stage.y_label)
    )


def write_scored_report(report: object, template: str, out: Path, *, drawings: Sequence[str]) -> Path:
    """Write ``report.html``, one self-contained page, and ``results.json`` into a folder.

    Args:
        report: A dataclass; its ``best`` and ``worst`` are scored pictures.
        template: The page.
        out: The folder.
        drawings: Fields of those pictures that are drawn: the numbers leave them out.

    Returns:
        Path of the page.
    """
    tree = plain(report)
    assert isinstance(tree, dict)
    for example in (*tree["best"], *tree["worst"]):
        for name in drawings:
            del example[name]
    page = render(template, report=report, n=Numbers(tree), bar=bar)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "results.json", as_json(tree))
    write_text(out / "report.html", page)
    return out / "report.html"


def write_text(path: Path, text: str) -> None:
    """Write a file in one go: nobody sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
