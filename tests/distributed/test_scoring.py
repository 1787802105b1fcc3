"""Two ranks with shares of the samples score as one process that has them all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.data.loader import evaluation_batches
from imglish.errors import DataFormatError
from imglish.evaluation.evaluate import evaluate
from imglish.metrics.accuracy import ClassAccuracy, Nlvr2Accuracy
from imglish.metrics.base import Metric
from imglish.metrics.caption_facts import CaptionFacts
from imglish.metrics.captioning.caption_metrics import CaptionMetrics
from imglish.metrics.coco_ap import CocoAp
from imglish.metrics.codebook import CodebookUsage
from imglish.metrics.panoptic_quality import PanopticQuality
from imglish.metrics.retrieval import RetrievalRecall
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.metrics.token_accuracy import TokenAccuracy
from imglish.metrics.vqa_accuracy import VqaAccuracy
from imglish.models.beit3.classification_heads import Beit3ForImageClassification
from imglish.structures.batches import ClassificationBatch
from imglish.structures.instances import Detections, PanopticMap, ScoredTruth
from imglish.tasks.image_classification import ImageClassificationTask
from imglish.train.distributed import Ranks, copy_buffers_of_main
from tests.distributed.ranks import NUM_RANKS, on_two_ranks
from tests.tasks.tiny import CONFIG, pictures

NUM_SAMPLES, BATCH = 11, 2
Scores = dict[str, float]
# Which samples each rank is given. Where shares are to be equally long, the first sample is given again.
SHARES = {
    "uneven": (range(4), range(4, 11)),
    "in_turns": (range(0, 11, 2), range(1, 11, 2)),
    "none_on_the_first": (range(0), range(11)),
    "none_on_the_second": (range(11), range(0)),
}
FILLED_UP = ([0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 0])
COLOURS, SHAPES = ("red", "blue"), ("star", "fish")
CAPTIONS = ("a red star", "two blue fish in the sea", "a red fish and a star", "the blue star is large")


def drawn(high: int, *size: int, seed: int = 0) -> Tensor:
    """Whole numbers below ``high`` for all samples."""
    return torch.randint(high, (NUM_SAMPLES, *size), generator=torch.Generator().manual_seed(seed))


def floats(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(NUM_SAMPLES, *size, generator=torch.Generator().manual_seed(seed))


def classes(batches: Sequence[Tensor]) -> Metric:
    metric, logits, labels = ClassAccuracy(), floats(8), drawn(8)
    for ids in batches:
        metric.update(logits[ids], labels[ids], 100 + ids)
    return metric


def statements(batches: Sequence[Tensor]) -> Metric:
    """Pairs of three statements in turns, so that each statement has pairs on both ranks."""
    metric, labels = Nlvr2Accuracy(), drawn(2)
    judged = labels.clone()
    judged[[1, 6]] = 1 - judged[[1, 6]]  # one pair of statement 1 and one of statement 0
    for ids in batches:
        metric.update(judged[ids], labels[ids], ids % 3, 100 + ids)
    return metric


def answers(batches: Sequence[Tensor]) -> Metric:
    metric = VqaAccuracy(("colour", "count", "never asked"))
    for ids in batches:
        metric.update(drawn(4)[ids], floats(4)[ids], drawn(3, seed=1)[ids] - 1, 100 + ids)
    return metric


def captions(batches: Sequence[Tensor]) -> Metric:
    metric = CaptionMetrics()
    for ids in batches:
        said = [CAPTIONS[i] for i in drawn(4)[ids]]
        human = [[CAPTIONS[i % 4], CAPTIONS[j]] for i, j in zip(ids, drawn(4, seed=1)[ids], strict=True)]
        metric.update(said, human, 100 + ids)
    return metric


def texts(batches: Sequence[Tensor]) -> Metric:
    """Pictures 0 to 6; those of the first four come with a second text, often on another rank."""
    metric, image_ids = RetrievalRecall(), torch.arange(NUM_SAMPLES) % 7
    vision, text = F.normalize(floats(3, seed=1)[image_ids], dim=1), F.normalize(floats(3), dim=1)
    for ids in batches:
        metric.update(vision[ids], text[ids], image_ids[ids])
    return metric


def pixels(batches: Sequence[Tensor]) -> Metric:
    metric = SegmentationIou(("sky", "tree", "fish", "never seen"), {"things": (1, 2), "stuff": (0,)})
    masks = drawn(3, 4, 4)
    masks[:, 0, 0] = 255
    for ids in batches:
        metric.update(drawn(3, 4, 4, seed=1)[ids], masks[ids])
    return metric


def words(batches: Sequence[Tensor]) -> Metric:
    """The largest token id, and with it the length of the counts, differs from rank to rank."""
    metric = TokenAccuracy(("text", "never hidden"))
    targets = drawn(6).masked_fill(torch.arange(NUM_SAMPLES) == 10, 9)
    for ids in batches:
        metric.update("text", drawn(6, seed=1)[ids], targets[ids])
    return metric


def codes(batches: Sequence[Tensor]) -> Metric:
    metric = CodebookUsage(8)
    for ids in batches:
        metric.update(drawn(6, 5)[ids], floats(5)[ids])
    return metric


def facts(batches: Sequence[Tensor]) -> Metric:
    metric = CaptionFacts()
    for ids in batches:
        named = [[(COLOURS[i % 2], SHAPES[i // 2])] for i in drawn(4)[ids]]
        present = [[(COLOURS[i % 2], SHAPES[i // 2]), ("red", "star")] for i in drawn(4, seed=1)[ids]]
        metric.update(named, present)
    return metric


def objects(batches: Sequence[Tensor]) -> Metric:
    """Three objects of two classes on each picture, found a little aside and with equal scores."""
    metric = CocoAp(("star", "fish"))
    corners, labels = 30 * floats(3, 2), drawn(2, 3)
    boxes = torch.cat([corners, corners + 20], dim=2)
    scores = drawn(3, 3, seed=2) / 4
    for number in (int(i) for ids in batches for i in ids):
        truth = ScoredTruth(
            boxes=boxes[number].double().numpy(),
            labels=labels[number].numpy(),
            crowd=np.array([False, False, number % 4 == 0]),
            areas=np.full(3, 400.0),
        )
        found = Detections(
            boxes=boxes[number] + 6 * floats(3, 1, seed=1)[number],
            scores=scores[number],
            labels=labels[number],
        )
        metric.update(100 + number, found, truth)
    return metric


def segments(batches: Sequence[Tensor]) -> Metric:
    """Four segments on each picture, some of their pixels found elsewhere."""
    metric = PanopticQuality(("star", "sea"), (True, False))
    ids, wrong = drawn(4, 6, 6), floats(6, 6) < 0.2
    for number in (int(i) for one in batches for i in one):
        found = torch.where(wrong[number], drawn(4, 6, 6, seed=1)[number], ids[number])
        metric.update(*(_segmented(one) for one in (found, ids[number])))
    return metric


def _segmented(ids: Tensor) -> PanopticMap:
    return PanopticMap(
        ids=ids.to(torch.int32).numpy(),
        segment_ids=np.arange(1, 4),
        labels=np.array([0, 0, 1]),
        crowd=np.zeros(3, np.bool_),
    )


# Those that know a sample by its id, and those that count whatever they are given.
BY_ID: list[Callable[[Sequence[Tensor]], Metric]] = [classes, statements, answers, captions, objects]
COUNTING: list[Callable[[Sequence[Tensor]], Metric]] = [texts, pixels, words, codes, facts, segments]


def in_batches(ids: Sequence[int]) -> Sequence[Tensor]:
    return torch.tensor(list(ids), dtype=torch.int64).split(BATCH) if len(ids) else []


class Damaged:
    """Labelled pictures of which some can not be read."""

    def __init__(self, *damaged: int) -> None:
        self.damaged = damaged

    def __len__(self) -> int:
        return NUM_SAMPLES

    def get(self, index: int, rng: np.random.Generator) -> int:
        if index in self.damaged:
            raise DataFormatError(f"{index} is damaged")
        return index


def labelled(indices: Sequence[int]) -> ClassificationBatch:
    ids = torch.tensor(indices)
    return ClassificationBatch(images=pictures(NUM_SAMPLES)[ids], labels=drawn(8)[ids], sample_ids=ids)


def evaluated(rank: int = 0, world_size: int = 1) -> Scores:
    """Scores of a model over pictures of which rank 1 can not read three and rank 0 one."""
    torch.manual_seed(0)
    task = ImageClassificationTask(Beit3ForImageClassification(CONFIG, num_classes=8), ClassAccuracy())
    batches = evaluation_batches(Damaged(1, 4, 5, 9), labelled, BATCH, rank=rank, world_size=world_size)
    return evaluate(task, batches, torch.device("cpu"))


def score_rank(ranks: Ranks, folder: Path) -> None:
    found: dict[str, Scores] = {}
    for name, shares in SHARES.items():
        for fill in (*BY_ID, *COUNTING):
            metric = fill(in_batches(shares[ranks.rank]))
            metric.reduce()
            found[f"{name} {fill.__name__}"] = metric.compute()
    for fill in BY_ID:
        metric = fill(in_batches(FILLED_UP[ranks.rank]))
        metric.reduce()
        found[f"filled_up {fill.__name__}"] = metric.compute()
    found["evaluated"] = evaluated(ranks.rank, ranks.world_size)
    norm = nn.BatchNorm1d(1)
    norm(torch.arange(4.0)[:, None] + ranks.rank)  # another mean on each rank
    copy_buffers_of_main(norm, ranks)
    found["buffers"] = {name: buffer.item() for name, buffer in norm.named_buffers()}
    (folder / f"{ranks.rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Scores]]:
    """What each rank found."""
    folder = tmp_path_factory.mktemp("scores")
    on_two_ranks(score_rank, folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(NUM_RANKS)]


def alone(fill: Callable[[Sequence[Tensor]], Metric]) -> Scores:
    return fill(in_batches(range(NUM_SAMPLES))).compute()


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("fill", [*BY_ID, *COUNTING])
def test_shares_of_two_ranks_score_as_the_whole(
    of_ranks: list[dict[str, Scores]], share: str, fill: Callable[[Sequence[Tensor]], Metric]
) -> None:
    for found in of_ranks:
        assert found[f"{share} {fill.__name__}"] == pytest.approx(alone(fill), rel=1e-12)


@pytest.mark.parametrize("fill", BY_ID)
def test_a_sample_that_fills_up_a_share_counts_once(
    of_ranks: list[dict[str, Scores]], fill: Callable[[Sequence[Tensor]], Metric]
) -> None:
    for found in of_ranks:
        assert found[f"filled_up {fill.__name__}"] == pytest.approx(alone(fill), rel=1e-12)


@pytest.mark.parametrize("fill", [*BY_ID, *COUNTING])
def test_no_share_alone_has_the_scores_of_the_whole(fill: Callable[[Sequence[Tensor]], Metric]) -> None:
    for shares in (SHARES["uneven"], SHARES["in_turns"]):
        for share in shares:
            assert fill(in_batches(share)).compute() != pytest.approx(alone(fill))


def test_consistency_is_not_the_mean_of_what_the_ranks_find() -> None:
    whole = alone(statements)["nlvr2/consistency"]
    assert whole == pytest.approx(1 / 3)
    for shares in (SHARES["uneven"], SHARES["in_turns"]):
        parts = [statements(in_batches(share)).compute()["nlvr2/consistency"] for share in shares]
        assert sum(parts) / 2 != pytest.approx(whole)


def test_an_evaluation_counts_what_any_rank_could_not_read(of_ranks: list[dict[str, Scores]]) -> None:
    whole = evaluated()
    assert whole["num_skipped"] == 4
    for found in of_ranks:
        assert found["evaluated"] == pytest.approx(whole)


def test_every_rank_scores_the_statistics_that_are_saved(of_ranks: list[dict[str, Scores]]) -> None:
    expected = {"running_mean": 0.15, "running_var": 0.9 + 0.1 * 5 / 3, "num_batches_tracked": 1}
    for found in of_ranks:
        assert found["buffers"] == pytest.approx(expected)
