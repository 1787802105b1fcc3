"""What cells have to find, and the losses of ATSS and GFL, with real heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from imglish.losses.one_stage import OneStageLoss, OneStageTerms, dense_targets, mean_terms, one_stage_terms
from imglish.models.dense_heads.atss import AtssHead
from imglish.models.dense_heads.gfl import GflHead
from imglish.ops.anchors import level_sizes, square_levels
from imglish.structures.dense_boxes import DensePredictions, DenseTargets, GflPredictions
from imglish.structures.instances import Instances
from imglish.structures.pyramid import FeaturePyramid

SIZE, STRIDES = (64, 96), (8, 16, 32)
LEVELS = square_levels(level_sizes(SIZE, STRIDES), 4)
LOSS = OneStageLoss()
Head = AtssHead | GflHead


def objects(boxes: list[list[float]], labels: list[int], crowd: list[bool] | None = None) -> Instances:
    return Instances(
        boxes=torch.tensor(boxes).view(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        crowd=torch.tensor(crowd or [False] * len(labels), dtype=torch.bool),
    )


NOTHING = objects([], [])
TWO = objects([[8, 8, 40, 40], [50, 20, 90, 60]], [2, 0])


def atss() -> Head:
    torch.manual_seed(1)
    return AtssHead(
        in_width=4, num_classes=3, num_levels=3, width=8, num_convs=1, num_groups=2, anchor_scale=4
    )


def gfl() -> Head:
    torch.manual_seed(1)
    return GflHead(
        in_width=4, num_classes=3, num_levels=3, width=8, num_convs=1, num_groups=2, anchor_scale=4
    )


def predict(head: Head, pictures: int = 1, seed: int = 2) -> DensePredictions:
    g = torch.Generator().manual_seed(seed)
    sizes = level_sizes(SIZE, STRIDES)
    maps = {stride: torch.randn(pictures, 4, *size, generator=g) for stride, size in sizes.items()}
    found: DensePredictions = head(FeaturePyramid(maps))
    return found


def total(predictions: DensePredictions, targets: DenseTargets) -> Tensor:
    return torch.stack(list(mean_terms(one_stage_terms(predictions, targets, LOSS)).values())).sum()


def test_cells_have_to_find_the_object_around_them() -> None:
    targets = dense_targets(LEVELS, [TWO], [SIZE], LOSS)
    found = targets.labels[0] >= 0
    assert set(targets.labels[0].tolist()) == {-1, 0, 2} and targets.num_found == found.sum()
    assert targets.counted.all()
    for cell in found.nonzero()[:, 0]:
        number = 0 if targets.labels[0, cell] == 2 else 1
        assert torch.equal(targets.boxes[0, cell], TWO.boxes[number])


def test_cells_on_the_padding_do_not_count() -> None:
    small = (20, 33)  # which is padded to 32 x 64
    targets = dense_targets(LEVELS, [TWO, objects([[2, 2, 18, 18]], [1])], [SIZE, small], LOSS)
    fine = targets.counted[1, : 8 * 12].view(8, 12)
    assert fine[:4, :8].all() and not fine[4:].any() and not fine[:, 8:].any()
    assert (targets.labels[1][~targets.counted[1]] == -1).all() and (targets.labels[1] == 1).any()


def test_crowds_and_boxes_without_area_are_no_objects() -> None:
    more = objects([[8, 8, 40, 40], [50, 20, 90, 60], [9, 9, 9, 30], [20, 50, 10, 60]], [2, 0, 1, 1])
    plain = dense_targets(LEVELS, [TWO], [SIZE], LOSS)
    assert all(map(torch.equal, dense_targets(LEVELS, [more], [SIZE], LOSS), plain))
    crowded = objects([[8, 8, 40, 40], [50, 20, 90, 60], [0, 0, 96, 64]], [2, 0, 1], [False, False, True])
    assert all(map(torch.equal, dense_targets(LEVELS, [crowded], [SIZE], LOSS), plain))
    asked = dense_targets(LEVELS, [crowded], [SIZE], replace(LOSS, crowd=0.99))
    inside = torch.cat(LEVELS.anchors)
    in_crowd = (inside >= 0).all(dim=1) & (inside[:, 2] <= 96) & (inside[:, 3] <= 64)
    assert not (asked.counted[0] & in_crowd & (asked.labels[0] < 0)).any() and asked.counted[0].any()


def test_a_picture_without_objects_is_background_and_counts_as_one() -> None:
    targets = dense_targets(LEVELS, [NOTHING, NOTHING], [SIZE, SIZE], LOSS)
    assert (targets.labels == -1).all() and targets.counted.all() and targets.num_found == 2


@pytest.mark.parametrize("make", [atss, gfl])
def test_without_objects_only_classes_are_learned_but_all_stays_in_the_graph(
    make: Callable[[], Head],
) -> None:
    head = make()
    terms = one_stage_terms(predict(head), dense_targets(LEVELS, [NOTHING], [SIZE], LOSS), LOSS)
    assert terms.classes > 0 and terms.boxes == terms.quality == terms.box_count == 0
    torch.stack([terms.classes, terms.boxes, terms.quality]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("make", [atss, gfl])
def test_sums_of_pictures_add_up(make: Callable[[], Head]) -> None:
    both, pictures = predict(make(), 2), [TWO, objects([[30, 4, 70, 30]], [1])]
    whole = one_stage_terms(both, dense_targets(LEVELS, pictures, [SIZE] * 2, LOSS), LOSS)
    parts = []
    for row, one in enumerate(pictures):
        fields = [tuple(x[row : row + 1] for x in levels) for levels in both[1:]]
        own = type(both)(both.levels, *fields)
        parts.append(one_stage_terms(own, dense_targets(LEVELS, [one], [SIZE], LOSS), LOSS))
    for name in OneStageTerms._fields:
        torch.testing.assert_close(getattr(whole, name), sum(getattr(part, name) for part in parts))


@pytest.mark.parametrize("make", [atss, gfl])
def test_weights_weigh_their_terms(make: Callable[[], Head]) -> None:
    found, targets = predict(make()), dense_targets(LEVELS, [TWO], [SIZE], LOSS)
    doubled = OneStageLoss(
        class_weight=2.0, box_weight=6.0, centerness_weight=4.0, distribution_weight=1.0
    )  # the defaults, times 2, 3, 4, 4
    before, after = (one_stage_terms(found, targets, loss) for loss in (LOSS, doubled))
    torch.testing.assert_close(after.classes, 2 * before.classes)
    torch.testing.assert_close(after.boxes, 3 * before.boxes)
    torch.testing.assert_close(after.quality, 4 * before.quality)
    torch.testing.assert_close(after.box_count, before.box_count)


@pytest.mark.parametrize("make", [atss, gfl])
def test_following_the_gradient_finds_the_objects(make: Callable[[], Head]) -> None:
    head, targets = make(), dense_targets(LEVELS, [TWO], [SIZE], LOSS)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    first = one_stage_terms(predict(head), targets, LOSS)
    for _ in range(60):
        optimizer.zero_grad()
        total(predict(head), targets).backward()
        optimizer.step()
    predictions = predict(head)
    last = one_stage_terms(predictions, targets, LOSS)
    assert last.boxes / last.box_count < 0.5 * first.boxes / first.box_count
    assert last.quality / last.box_count < first.quality / first.box_count
    found = targets.labels >= 0
    scores = torch.cat(predictions.classes, dim=1)[found].sigmoid()
    assert torch.equal(scores.argmax(dim=1), targets.labels[found])
    assert scores.amax(dim=1).mean() > 0.5 and torch.cat(predictions.classes, dim=1)[~found].max() < 0


@pytest.mark.parametrize("make", [atss, gfl])
def test_half_precision_is_compared_in_single(make: Callable[[], Head]) -> None:
    targets = dense_targets(LEVELS, [TWO], [SIZE], LOSS)
    head = make()
    with torch.autocast("cpu", torch.bfloat16):
        found = predict(head)
        terms = one_stage_terms(found, targets, LOSS)
    assert found.classes[0].dtype == torch.bfloat16 and {x.dtype for x in terms[:3]} == {torch.float32}
    exact = one_stage_terms(predict(head), targets, LOSS)
    torch.testing.assert_close(terms.classes, exact.classes, rtol=0.02, atol=0)  # bf16 has 8 bits


def test_terms_are_divided_by_what_they_count_and_never_by_less_than_one() -> None:
    sums = [torch.tensor(x) for x in (6.0, 8.0, 9.0)]
    counts = [torch.tensor(2), torch.tensor(0.25), torch.tensor(3.0)]
    found = mean_terms(OneStageTerms(*sums, *counts))
    assert {name: float(x) for name, x in found.items()} == {"classes": 3, "boxes": 8, "quality": 3}


def test_centerness_is_counted_by_cells_and_distributions_by_weights() -> None:
    targets = dense_targets(LEVELS, [TWO], [SIZE], LOSS)
    central, spread = (one_stage_terms(predict(make()), targets, LOSS) for make in (atss, gfl))
    assert central.class_count == spread.class_count == central.quality_count == targets.num_found
    assert 0 < central.box_count < targets.num_found and spread.quality_count == spread.box_count


def test_sides_beyond_the_last_distance_are_taken_for_nearly_it() -> None:
    torch.manual_seed(1)
    head = GflHead(
        in_width=4, num_classes=3, num_levels=3, width=8, num_convs=1, num_groups=2, max_distance=1
    )
    far = objects([[0, 0, 96, 64]], [1])
    found, targets = predict(head), dense_targets(LEVELS, [far], [SIZE], LOSS)
    assert isinstance(found, GflPredictions) and (targets.labels >= 0).any()
    certain = [torch.tensor([0.0, 40.0]).expand_as(x) for x in found.distributions]  # all sides one cell away
    terms = one_stage_terms(found._replace(distributions=tuple(certain)), targets, LOSS)
    # The wanted distance is 0.9, so that a tenth of each of four sides costs 40, averaged and weighted.
    torch.testing.assert_close(terms.quality, LOSS.distribution_weight * 0.1 * 40 * terms.box_count)
