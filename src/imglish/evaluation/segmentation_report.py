"""The report of a scored segmenter: a table of classes, and the best and worst pictures under theirs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imglish.evaluation.report import Drawing, write_scored_report


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredClass:
    """A row of the table.

    Args:
        name: Of the class.
        color: As written on the web, #rrggbb.
        share: Of the labelled pixels, in [0, 1].
        iou: Intersection over union; None where neither the masks nor the answers have the class.
        dice: Twice the intersection over the sum of both; None as of ``iou``.
        accuracy: Share of its pixels that are found; None where the masks do not have it.
    """

    name: str
    color: str
    share: float
    iou: float | None
    dice: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredPicture:
    """A picture with its masks.

    Args:
        name: Of its file.
        mean_iou: Over the classes that its mask or its answer has.
        picture: As it is.
        truth: Under the classes of its mask; ignored pixels are bare.
        found: Under the classes that were found.
        classes: Ids of those in either, the largest first.
    """

    name: str
    mean_iou: float
    picture: Drawing
    truth: Drawing
    found: Drawing
    classes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationReport:
    """All that the page shows.

    Args:
        title: Of the run or the weights.
        split: What was scored.
        num_pictures: How many pictures were scored.
        num_skipped: How many are damaged.
        mean_iou: Mean IoU over classes.
        mean_dice: Mean Dice over classes.
        pixel_accuracy: Share of labelled pixels that are right.
        mean_accuracy: Mean over classes of the share of their pixels that are found.
        classes: In the order of their ids.
        best: Pictures with the highest mean IoU, the best first.
        worst: Those with the lowest, the worst first.
    """

    title: str
    split: str
    num_pictures: int
    num_skipped: int
    mean_iou: float
    mean_dice: float
    pixel_accuracy: float
    mean_accuracy: float
    classes: tuple[ScoredClass, ...]
    best: tuple[ScoredPicture, ...]
    worst: tuple[ScoredPicture, ...]


def write_segmentation_report(report: SegmentationReport, out: Path) -> Path:
    """Write its page and numbers into a folder; see `write_scored_report`."""
    return write_scored_report(
        report, "segmentation_report.html.jinja", out, drawings=("picture", "truth", "found")
    )
