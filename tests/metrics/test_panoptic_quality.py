from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.detection import PanopticQuality as Oracle

from imglish.metrics.panoptic_quality import PanopticQuality
from imglish.structures.instances import PanopticMap

CLASSES = ("cat", "dog", "sky", "sea")
IS_THING = (True, True, False, False)


def segments(rows: list[list[int]], labels: dict[int, int], crowd: tuple[int, ...] = ()) -> PanopticMap:
    return PanopticMap(
        ids=np.array(rows, np.int32),
        segment_ids=np.array(list(labels), np.int64),
        labels=np.array(list(labels.values()), np.int64),
        crowd=np.array([key in crowd for key in labels], np.bool_),
    )


def score(found: PanopticMap, truth: PanopticMap) -> dict[str, float]:
    metric = PanopticQuality(CLASSES, IS_THING)
    metric.update(found, truth)
    metric.reduce()
    return metric.compute()


def test_a_case_worked_out_by_hand() -> None:
    truth = segments([[1, 1, 1, 1, 7, 7, 0, 0]], {1: 0, 7: 2})
    found = segments([[5, 5, 5, 8, 9, 9, 9, 8]], {5: 0, 8: 1, 9: 2})
    scores = score(found, truth)
    # The cat: 3 of 4 pixels. The sky: both its pixels, and the third found one is void. A dog in vain: one of
    # its two pixels is void, which is not more than half.
    assert scores["panoptic/pq/cat"] == 0.75 and scores["panoptic/pq/sky"] == 1.0
    assert scores["panoptic/pq/dog"] == 0.0 and "panoptic/pq/sea" not in scores
    assert scores["panoptic/pq"] == pytest.approx(1.75 / 3) and scores["panoptic/rq"] == pytest.approx(2 / 3)
    assert scores["panoptic/pq_things"] == 0.375 and scores["panoptic/pq_stuff"] == 1.0
    metric = PanopticQuality(CLASSES, IS_THING)
    metric.update(found, truth)
    metric.update(segments([[3, 4]], {3: 0, 4: 0}), segments([[3, 5]], {3: 0, 5: 1}))
    cat, dog, sky, sea = metric.of_classes()
    # The second cat is found as it is, the third in vain; the first dog was found in vain, the second missed.
    assert cat == pytest.approx((1.75 / 2.5, 0.875, 0.8, 2, 3)) and dog == (0, 0, 0, 1, 1)
    assert sky == (1, 1, 1, 1, 1) and sea is None


def test_void_and_crowds_excuse_what_was_found_in_them() -> None:
    truth = segments([[1, 1, 1, 4, 4, 4, 0, 0, 2, 2]], {1: 0, 4: 1, 2: 1}, crowd=(4,))
    # Half of the first dog lies in the crowd of dogs and the other half in void; the second is right. The cat
    # within the crowd of dogs is not excused.
    found = segments([[9, 9, 9, 3, 3, 6, 3, 3, 5, 5]], {9: 0, 3: 1, 5: 1, 6: 0})
    scores = score(found, truth)
    assert scores["panoptic/pq/dog"] == 1.0
    assert scores["panoptic/pq/cat"] == pytest.approx(1 / 1.5)
    # A crowd that is not found is not missed, but other segments are.
    nothing = score(segments([[0] * 10], {}), truth)
    assert nothing["panoptic/pq"] == 0.0
    metric = PanopticQuality(CLASSES, IS_THING)
    metric.update(segments([[0] * 10], {}), segments([[4] * 10], {4: 1}, crowd=(4,)))
    assert "panoptic/pq/dog" not in metric.compute()


def random_map(rng: np.random.Generator, base: np.ndarray | None, least: int = 0) -> PanopticMap:
    """Blocks of segments; stuff has one segment of a class; ``base`` is disturbed, else drawn."""
    if base is None:
        base = np.kron(rng.integers(0, 9, (5, 5)), np.ones((4, 4), np.int64))
    noise = rng.integers(least, 9, base.shape)
    ids = np.where(rng.random(base.shape) < 0.12, noise, base)
    labels = {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 1, 7: 2, 8: 3}
    return segments(ids.tolist(), {key: labels[key] for key in labels if (ids == key).any()})


def pairs(segmented: PanopticMap) -> torch.Tensor:
    """(class, instance) of each pixel as torchmetrics takes them; class 9 is void there."""
    labels = dict(zip(segmented.segment_ids.tolist(), segmented.labels.tolist(), strict=True)) | {0: 9}
    classes = np.vectorize(labels.get)(segmented.ids)
    return torch.from_numpy(np.stack([classes, np.where(classes < 2, segmented.ids, 0)], axis=-1))


def test_scores_are_those_of_torchmetrics() -> None:
    rng = np.random.default_rng(3)
    ours = PanopticQuality(CLASSES, IS_THING)
    oracle = Oracle(
        {0, 1}, {2, 3}, allow_unknown_preds_category=True, return_sq_and_rq=True, return_per_class=True
    )
    for _ in range(12):
        truth = random_map(rng, None)
        # torchmetrics also takes off what is found to be nothing, which panopticapi does not.
        found = random_map(rng, np.where(truth.ids == 0, 8, truth.ids).astype(np.int64), least=1)
        ours.update(found, truth)
        oracle.update(pairs(found)[None], pairs(truth)[None])
    scores, expected = ours.compute(), oracle.compute().double()
    for label, name in enumerate(CLASSES):
        assert scores[f"panoptic/pq/{name}"] == pytest.approx(float(expected[label, 0]), abs=1e-6), name
    for column, name in enumerate(("pq", "sq", "rq")):
        assert scores[f"panoptic/{name}"] == pytest.approx(float(expected[:, column].mean()), abs=1e-6)
        assert scores[f"panoptic/{name}_stuff"] == pytest.approx(float(expected[2:, column].mean()), abs=1e-6)
    assert 0.2 < scores["panoptic/pq"] < 0.9


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 classes"):
        PanopticQuality(CLASSES[:3], IS_THING)
    with pytest.raises(ValueError, match="pixels was found"):
        score(segments([[0, 0]], {}), segments([[0]], {}))
