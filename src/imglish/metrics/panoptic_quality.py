"""Panoptic quality (Kirillov et al. 2019), with the rules for void and crowds of COCO's panopticapi."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imglish.metrics.base import sum_over_ranks
from imglish.structures.instances import PanopticMap

_MATCHED = 0.5  # IoU above which two segments are one; then no third can be


class ClassQuality(NamedTuple):
    """What was counted of a class that was true or found.

    Args:
        pq: Panoptic quality, ``sq`` times ``rq``; all three lie in [0, 1].
        sq: Mean IoU of the segments that match.
        rq: Their share of all, a segment that matches nothing counting half.
        num_true: True segments, crowds left out.
        num_found: Found ones, those that are excused left out.
    """

    pq: float
    sq: float
    rq: float
    num_true: int
    num_found: int


class PanopticQuality:
    """PQ, SQ and RQ, each a mean over classes, for all classes, things and stuff.

    A true segment and a found one of its class match where their IoU is above a half; found pixels where
    nothing is true (void) do not count in the union. A found segment that matches nothing is no error where
    more than half of it is void or in a crowd of its class, and a crowd that is not found is none either.

    Args:
        classes: Names of the classes in the order of their labels.
        is_thing: For each whether it is a thing; the others are stuff.

    Raises:
        ValueError: Their numbers differ.
    """

    def __init__(self, classes: Sequence[str], is_thing: Sequence[bool]) -> None:
        if len(classes) != len(is_thing):
            raise ValueError(
                f"there are {len(classes)} classes, but {len(is_thing)} are said to be things or not"
            )
        self._classes, self._is_thing = tuple(classes), tuple(is_thing)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        # Rows: sum of the IoUs of matches, their number, found in vain, not found.
        self._counts = torch.zeros(4, len(self._classes), dtype=torch.float64)

    def update(self, found: PanopticMap, truth: PanopticMap) -> None:
        """Count the segments of a picture.

        Args:
            found: What was found, as large as the truth.
            truth: What is true.

        Raises:
            ValueError: The sizes differ.
        """
        if found.ids.shape != truth.ids.shape:
            raise ValueError(f"a map of {found.ids.shape} pixels was found for one of {truth.ids.shape}")
        shared = _overlaps(truth.ids, found.ids)
        true_areas, found_areas = _areas(truth), _areas(found)
        true_labels = dict(zip(truth.segment_ids.tolist(), truth.labels.tolist(), strict=True))
        found_labels = dict(zip(found.segment_ids.tolist(), found.labels.tolist(), strict=True))
        crowds = set(truth.segment_ids[truth.crowd].tolist())
        # A class has one crowd for each picture; of several the last counts, as in panopticapi.
        crowd_of = {true_labels[segment]: segment for segment in true_labels if segment in crowds}
        matched_true, matched_found = set[int](), set[int]()
        for (true, seen), pixels in shared.items():
            label = true_labels.get(true)
            if label is None or true in crowds or found_labels.get(seen) != label:
                continue
            union = true_areas[true] + found_areas[seen] - pixels - shared.get((0, seen), 0)
            if pixels / union > _MATCHED:
                self._counts[0, label] += pixels / union
                self._counts[1, label] += 1
                matched_true.add(true)
                matched_found.add(seen)
        for seen, label in found_labels.items():
            if seen in matched_found or not found_areas[seen]:
                continue
            excused = shared.get((0, seen), 0) + shared.get((crowd_of.get(label, -1), seen), 0)
            if excused / found_areas[seen] <= _MATCHED:
                self._counts[2, label] += 1
        for true, label in true_labels.items():
            if true not in matched_true and true not in crowds:
                self._counts[3, label] += 1

    def reduce(self) -> None:
        """Sum over ranks."""
        self._counts = sum_over_ranks(self._counts)

    def compute(self) -> dict[str, float]:
        """Scores of all that was counted, in [0, 1].

        ``panoptic/`` ``pq``, ``sq`` and ``rq``, each also with ``_things`` and ``_stuff``, means over the
        classes that were true or found; and ``panoptic/pq/<class>`` of these.
        """
        things = torch.tensor(self._is_thing, dtype=torch.bool)
        scores: dict[str, float] = {}
        for ending, chosen in (("", torch.ones_like(things)), ("_things", things), ("_stuff", ~things)):
            scores |= {f"panoptic/{name}{ending}": value for name, value in self._means(chosen).items()}
        quality, _, _, seen = self._qualities()
        return scores | {
            f"panoptic/pq/{name}": float(quality[label])
            for label, name in enumerate(self._classes)
            if seen[label]
        }

    def of_classes(self) -> tuple[ClassQuality | None, ...]:
        """The qualities of each class in the order of labels; None where it was neither true nor found."""
        qualities, (_, matched, in_vain, missed) = torch.stack(self._qualities()).T.tolist(), self._counts
        num_true, num_found = (matched + missed).tolist(), (matched + in_vain).tolist()
        return tuple(
            ClassQuality(pq, sq, rq, int(true), int(found)) if seen else None
            for (pq, sq, rq, seen), true, found in zip(qualities, num_true, num_found, strict=True)
        )

    def _qualities(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """PQ, SQ and RQ of each class, and whether it was true or found: all (C,)."""
        iou, matched, in_vain, missed = self._counts
        total = matched + (in_vain + missed) / 2
        return (
            iou / total.clamp(min=0.5),
            iou / matched.clamp(min=1),
            matched / total.clamp(min=0.5),
            total > 0,
        )

    def _means(self, chosen: Tensor) -> Mapping[str, float]:
        *values, seen = self._qualities()
        kept = chosen & seen
        return {
            name: float(value[kept].mean()) if bool(kept.any()) else 0.0
            for name, value in zip(("pq", "sq", "rq"), values, strict=True)
        }


def _overlaps(true: NDArray[np.int32], found: NDArray[np.int32]) -> dict[tuple[int, int], int]:
    """Pixels of each pair of segment ids, 0 standing for none."""
    pairs = (true.astype(np.int64) << 32) + found
    values, counts = np.unique(pairs, return_counts=True)
    return {
        (int(pair >> 32), int(pair & 0xFFFFFFFF)): int(count)
        for pair, count in zip(values, counts, strict=True)
    }


def _areas(segments: PanopticMap) -> dict[int, int]:
    """Pixels of each segment."""
    values, counts = np.unique(segments.ids, return_counts=True)
    pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return {number: pixels.get(number, 0) for number in segments.segment_ids.tolist()}
