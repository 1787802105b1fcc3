"""The report of scored panoptic segments: qualities of things and stuff and of each class, and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imglish.evaluation.report import Drawing, write_scored_report


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentQuality:
    """Means over classes.

    Args:
        name: Of which: ``all``, ``things`` or ``stuff``.
        num_classes: Classes that were true or found.
        pq: Panoptic quality, in [0, 1]; None where there are no such classes, as the others.
        sq: Segmentation quality.
        rq: Recognition quality.
    """

    name: str
    num_classes: int
    pq: float | None
    sq: float | None
    rq: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedClass:
    """A row of the table of classes.

    Args:
        name: Of the class.
        color: As written on the web, #rrggbb.
        is_thing: False for stuff.
        num_true: True segments, without crowds.
        num_found: Found ones, without those that lie in a crowd or where nothing is true.
        pq: Panoptic quality; None where the class was neither true nor found, as the others.
        sq: Segmentation quality.
        rq: Recognition quality.
    """

    name: str
    color: str
    is_thing: bool
    num_true: int
    num_found: int
    pq: float | None
    sq: float | None
    rq: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedPicture:
    """A picture with its segments.

    Args:
        name: Of its file.
        pq: Panoptic quality of this picture alone.
        num_true: True segments, crowds included.
        num_found: Found ones.
        truth: Under the colours of its true segments.
        found: Under those of the segments that were found.
        classes: Labels of the classes in either, the largest first.
    """

    name: str
    pq: float
    num_true: int
    num_found: int
    truth: Drawing
    found: Drawing
    classes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticReport:
    """All that the page shows.

    Args:
        title: Of the run or the weights.
        split: What was scored.
        num_pictures: How many pictures were scored.
        num_skipped: How many are damaged.
        means: Of all classes, of things, of stuff.
        classes: In the order of their labels.
        best: Pictures with the highest quality, the best first.
        worst: Those with the lowest, the worst first.
    """

    title: str
    split: str
    num_pictures: int
    num_skipped: int
    means: tuple[SegmentQuality, SegmentQuality, SegmentQuality]
    classes: tuple[SegmentedClass, ...]
    best: tuple[SegmentedPicture, ...]
    worst: tuple[SegmentedPicture, ...]


def write_panoptic_report(report: PanopticReport, out: Path) -> Path:
    """Write its page and numbers into a folder; see `write_scored_report`."""
    return write_scored_report(report, "panoptic_report.html.jinja", out, drawings=("truth", "found"))
