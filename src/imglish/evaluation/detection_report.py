"""The report of a scored detector: COCO's numbers, each class, and the best and worst pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imglish.evaluation.report import Drawing, write_scored_report


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredNumber:
    """One of COCO's twelve numbers.

    Args:
        name: As in scores, such as ``ap50``.
        meaning: In words.
        box: Of boxes, in [0, 1]; None where nothing counts for it.
        mask: Of masks; None besides where masks were not scored.
    """

    name: str
    meaning: str
    box: float | None
    mask: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectedClass:
    """A row of the table of classes.

    Args:
        name: Of the class.
        color: As written on the web, #rrggbb.
        num_objects: True objects, without crowds.
        box: Average precision of boxes; None where there is no true object.
        mask: Of masks; None besides where masks were not scored.
    """

    name: str
    color: str
    num_objects: int
    box: float | None
    mask: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectedPicture:
    """A picture with its objects.

    Args:
        name: Of its file.
        box_ap: Average precision of its boxes alone.
        num_true: True objects, crowds included.
        num_found: Objects that are drawn as found.
        truth: With the true objects.
        found: With those that were found.
    """

    name: str
    box_ap: float
    num_true: int
    num_found: int
    truth: Drawing
    found: Drawing


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionReport:
    """All that the page shows.

    Args:
        title: Of the run or the weights.
        split: What was scored.
        num_pictures: How many pictures were scored.
        num_skipped: How many are damaged.
        with_masks: Whether masks were scored.
        min_score: Objects that are less sure are not drawn.
        numbers: The twelve.
        classes: In the order of their labels.
        best: Pictures with the highest AP of boxes, the best first.
        worst: Those with the lowest, the worst first.
    """

    title: str
    split: str
    num_pictures: int
    num_skipped: int
    with_masks: bool
    min_score: float
    numbers: tuple[ScoredNumber, ...]
    classes: tuple[DetectedClass, ...]
    best: tuple[DetectedPicture, ...]
    worst: tuple[DetectedPicture, ...]


def write_detection_report(report: DetectionReport, out: Path) -> Path:
    """Write its page and numbers into a folder; see `write_scored_report`."""
    return write_scored_report(report, "detection_report.html.jinja", out, drawings=("truth", "found"))
