"""Average precision of boxes and masks by COCO's rules (Lin et al. 2014), counted by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imglish.metrics.base import gather_over_ranks
from imglish.structures.instances import Detections, EncodedMask, ScoredTruth

Compared = Literal["box", "mask"]

# Names of COCO's twelve numbers, in the order in which its tools give them.
NUMBERS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)
_KINDS: dict[Compared, str] = {"box": "bbox", "mask": "segm"}
_ALL_AREAS, _MOST = 0, -1  # places in COCO's table: objects of any area, at most 100 detections


class _Picture(NamedTuple):
    """What was found in a picture, and what is true, in arrays that pickle small."""

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    masks: tuple[EncodedMask, ...] | None
    truth: ScoredTruth


class CocoAp:
    """Box AP and mask AP: COCO's twelve numbers, and AP of each class.

    Args:
        classes: Names of the classes in the order of their labels.
        compared: ``box``, ``mask`` or both.
    """

    def __init__(self, classes: Sequence[str], compared: Sequence[Compared] = ("box",)) -> None:
        self._classes, self._compared = tuple(classes), tuple(compared)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._pictures: dict[int, _Picture] = {}

    def update(
        self,
        number: int,
        found: Detections,
        truth: ScoredTruth,
        masks: Sequence[EncodedMask] | None = None,
    ) -> None:
        """Take a picture; one that was seen already is not counted again.

        Args:
            number: Of the sample. Among equal scores that of a smaller number comes first, as that of a
                smaller image id does in COCO's tools.
            found: Detections in pixels of the stored picture; of each class the best 100 count.
            truth: What is true.
            masks: Of the detections, where masks are compared.

        Raises:
            ValueError: Masks are to be compared and there are none.
        """
        if "mask" in self._compared and (masks is None or truth.masks is None):
            whose = "detections" if masks is None else "true objects"
            raise ValueError(f"the {whose} of picture {number} have no masks, which are to be compared")
        self._pictures.setdefault(
            number,
            _Picture(
                found.boxes.double().cpu().numpy(),
                found.scores.double().cpu().numpy(),
                found.labels.cpu().numpy(),
                None if masks is None else tuple(masks),
                truth,
            ),
        )

    def reduce(self) -> None:
        """Join the pictures of all ranks."""
        joined: dict[int, _Picture] = {}
        for part in gather_over_ranks(self._pictures):
            joined = part | joined
        self._pictures = joined

    def compute(self) -> dict[str, float]:
        """Scores of all pictures.

        ``box/`` and ``mask/`` with each of `NUMBERS`, and ``box/ap/<class>`` of the classes that have a true
        object. A number that nothing counts for, such as that of small objects where there are none, is left
        out; where there is no true object at all ``ap`` is 0.
        """
        scores: dict[str, float] = {}
        for compared in self._compared:
            scores |= {f"{compared}/{name}": value for name, value in self._score(compared).items()}
        return scores

    def _score(self, compared: Compared) -> dict[str, float]:
        from faster_coco_eval import COCO, COCOeval_faster

        if not any(len(picture.truth) for picture in self._pictures.values()):
            return {"ap": 0.0}
        truth = COCO(self._truth(compared))
        found = truth.loadRes(self._found(compared)) if self._has_any() else COCO(self._nothing())
        evaluation = COCOeval_faster(truth, found, _KINDS[compared], print_function=_silent)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        numbers = {name: float(value) for name, value in zip(NUMBERS, evaluation.all_stats, strict=False)}
        precision = evaluation.eval["precision"][:, :, :, _ALL_AREAS, _MOST]
        per_class = {
            f"ap/{name}": float(values[values > -1].mean())
            for name, values in zip(self._classes, np.moveaxis(precision, 2, 0), strict=True)
            if (values > -1).any()
        }
        scores = {name: value for name, value in (numbers | per_class).items() if value > -1}
        return {"ap": 0.0} | scores

    def _has_any(self) -> bool:
        return any(len(picture.scores) for picture in self._pictures.values())

    def _nothing(self) -> dict[str, Any]:
        """A COCO document of the same pictures without objects."""
        return {
            "images": [
                {"id": number, "height": height, "width": width}
                for number, picture in sorted(self._pictures.items())
                for height, width in [_size(picture)]
            ],
            "categories": [{"id": label, "name": name} for label, name in enumerate(self._classes)],
            "annotations": [],
        }

    def _truth(self, compared: Compared) -> dict[str, Any]:
        annotations: list[dict[str, Any]] = []
        for number, picture in sorted(self._pictures.items()):
            true = picture.truth
            for place in range(len(true)):
                entry = _entry(number, true.labels[place], true.boxes[place])
                entry |= {
                    "id": len(annotations) + 1,  # COCO's tools take 0 for "not matched"
                    "area": float(true.areas[place]),
                    "iscrowd": int(true.crowd[place]),
                }
                if compared == "mask":
                    assert true.masks is not None
                    entry["segmentation"] = _run_lengths(true.masks[place])
                annotations.append(entry)
        return self._nothing() | {"annotations": annotations}

    def _found(self, compared: Compared) -> list[dict[str, Any]]:
        results = []
        for number, picture in sorted(self._pictures.items()):
            for place in range(len(picture.scores)):
                entry = _entry(number, picture.labels[place], picture.boxes[place])
                if compared == "mask":  # without the box: the area is the mask's then
                    assert picture.masks is not None
                    del entry["bbox"]
                    entry["segmentation"] = _run_lengths(picture.masks[place])
                results.append(entry | {"score": float(picture.scores[place])})
        return results


def _size(picture: _Picture) -> tuple[int, int]:
    """(height, width) of the masks; a pixel where there are none, when nobody looks at it."""
    masks = (*(picture.truth.masks or ()), *(picture.masks or ()))
    return masks[0].size if masks else (1, 1)


def _entry(number: int, label: np.int64, box: NDArray[np.float64]) -> dict[str, Any]:
    left, top, right, bottom = box.tolist()
    return {
        "image_id": number,
        "category_id": int(label),
        "bbox": [left, top, right - left, bottom - top],
    }


def _run_lengths(mask: EncodedMask) -> Mapping[str, object]:
    return {"size": list(mask.size), "counts": mask.counts.decode("ascii")}


def _silent(*words: object) -> None:
    """COCO's tools print as they count."""
