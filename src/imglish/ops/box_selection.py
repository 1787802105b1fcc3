"""Which of a two-stage detector's boxes are kept in the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from imglish.ops.nms import MulticlassKept, NmsSettings, multiclass_nms
from imglish.structures.two_stage import Candidates


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxSelection:
    """Which boxes of a picture are kept.

    Args:
        min_score: Those of a class must have more.
        nms: Suppression among those of a class.
        max_boxes: Of all classes together.

    Raises:
        ValueError: No box would be kept.
    """

    min_score: float = 0.05
    nms: NmsSettings = field(default_factory=NmsSettings)
    max_boxes: int = 100

    def __post_init__(self) -> None:
        if self.max_boxes < 1:
            raise ValueError(f"max_boxes must be at least 1; got {self.max_boxes}")


def select(candidates: Candidates, selection: BoxSelection) -> MulticlassKept:
    """The boxes of one picture that are kept, best first."""
    boxes = candidates.boxes[:, 0] if candidates.boxes.shape[1] == 1 else candidates.boxes
    return multiclass_nms(
        boxes,
        candidates.scores,
        selection.nms,
        min_score=selection.min_score,
        max_boxes=selection.max_boxes,
    )
