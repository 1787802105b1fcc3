"""Every task whose loss is a mean within each batch: two ranks train as one process with the whole batch.

Masked modelling, contrastive learning and visual tokenizers have tests of their own beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from imglish.data.loader import Loaded
from imglish.metrics.coco_ap import CocoAp
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.models.detectors.on_backbone import detector_on
from imglish.models.detectors.one_stage import OneStageDetector
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.ops.points import DrawPoints
from imglish.structures.batch import Batch
from imglish.structures.batches import IGNORE, CaptionBatch, DetectionBatch, SegmentationBatch
from imglish.structures.instances import Instances
from imglish.tasks.base import Task
from imglish.tasks.captioning import CaptioningTask
from imglish.tasks.mask_segmentation import MaskSegmentationTask
from imglish.tasks.one_stage_detection import OneStageDetectionTask
from imglish.tasks.semantic_segmentation import SemanticSegmentationTask
from imglish.train.checkpoint import Checkpoints
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig
from imglish.train.distributed import Ranks
from imglish.train.logging import RunLog, SkippedLog, read_log
from imglish.train.loop import LoopConfig, train
from imglish.train.optimizer import build_optimizer
from imglish.train.parallelize import parallelize, whole_weights
from imglish.train.state import TrainState
from tests.distributed.ranks import on_two_ranks
from tests.tasks import (
    test_captioning,
    test_image_classification,
    test_mask_segmentation,
    test_nlvr2,
    test_vqa,
)
from tests.tasks.tiny import CONFIG, pictures, with_noise, words

ALONE = Ranks(0, 1, torch.device("cpu"))
NUM_STEPS = 3
TOLERANCE = 1e-10  # float64; only the order of sums differs
OPTIMIZER = OptimizerConfig(lr=1e-2, weight_decay=0.1)
Strategy = Literal["auto", "ddp", "fsdp2"]


def captions() -> CaptionBatch:
    """Four captions with one to four hidden words: the ranks count 3 and 7."""
    ids, batch = words(4), test_captioning.caption_batch()
    hidden = torch.arange(6) < torch.tensor([[1], [2], [3], [4]])
    return replace(
        batch, token_ids=ids.masked_fill(hidden, 29), padding=torch.zeros_like(hidden),
        targets=ids.masked_fill(~hidden, IGNORE),
    )  # fmt: skip


class Patches(nn.Conv2d):
    """The least segmenter there is; a true one has batch norm, which on a CPU is each rank's own."""

    auxiliary = None


def segmenting() -> SemanticSegmentationTask:
    torch.manual_seed(0)
    model: Any = Patches(3, 3, 4, 4)
    return SemanticSegmentationTask(model, SegmentationIou(("a", "b", "c")))


def maps() -> SegmentationBatch:
    """Four pictures whose classes are unlabelled from nowhere to nearly everywhere."""
    masks = torch.randint(0, 3, (4, 32, 32), generator=torch.Generator().manual_seed(0))
    for row, unlabelled in enumerate((0, 8, 16, 31)):
        masks[row, :unlabelled] = 255
    return SegmentationBatch(images=pictures(4), masks=masks, sample_ids=torch.arange(4))


def same_points(device: torch.device) -> DrawPoints:
    """Every mask is compared at the same places, whichever rank it is on."""
    places = torch.rand(200, 2, generator=torch.Generator().manual_seed(3)).to(device, torch.float64)
    return lambda count, num_points: places[:num_points].expand(count, -1, -1)


def masking() -> MaskSegmentationTask:
    """Mask2Former on a plain ViT, which has no batch norm."""
    torch.manual_seed(0)
    settings = replace(test_mask_segmentation.SEGMENTER, num_queries=4)
    model = segmenter_on(replace(CONFIG, width=32, depth=4), None, settings, num_classes=3)
    assert isinstance(model, Mask2Former)
    return MaskSegmentationTask(
        model, SegmentationIou(("a", "b", "c")), num_queries=4, loss=test_mask_segmentation.LOSS,
        points=same_points,
    )  # fmt: skip


def halves() -> SegmentationBatch:
    """Four pictures of two regions each: the cross entropy of classes is a mean of each rank's own."""
    masks = torch.randint(0, 2, (4, 1, 1), generator=torch.Generator().manual_seed(0)).repeat(1, 32, 64)
    for row in range(4):
        masks[row, :, 12 * (row + 1) :] = 2
    return SegmentationBatch(
        images=torch.randn(4, 3, 32, 64, generator=torch.Generator().manual_seed(1)), masks=masks,
        sample_ids=torch.arange(4),
    )  # fmt: skip


def at_cells(kind: Literal["atss", "gfl"]) -> OneStageDetectionTask:
    """A detector whose scores are so high that nothing is divided by less than 1, on a plain ViT."""
    torch.manual_seed(0)
    settings = OneStageConfig(kind=kind, width=8, num_convs=1, num_groups=4, anchor_scale=4)
    vit = replace(CONFIG, width=32, depth=4)
    model = detector_on(vit, "plain_vit", ViTAdapterConfig(), settings, num_classes=2)
    assert isinstance(model, OneStageDetector) and model.head.classifier.bias is not None
    torch.nn.init.ones_(model.head.classifier.bias)
    return OneStageDetectionTask(model, CocoAp(("a", "b")))


def objects() -> DetectionBatch:
    """Four pictures of one to four objects, but for the third, which has none."""
    g = torch.Generator().manual_seed(0)
    targets = []
    for count in (1, 2, 0, 4):
        corner = 40 * torch.rand(count, 2, generator=g)
        boxes = torch.cat([corner, corner + 8 + 14 * torch.rand(count, 2, generator=g)], dim=1)
        labels = torch.randint(2, (count,), generator=g)
        targets.append(
            Instances(boxes=boxes.double(), labels=labels, crowd=torch.zeros(count, dtype=torch.bool))
        )
    return DetectionBatch(
        images=torch.randn(4, 3, 64, 64, generator=g), sizes=((64, 64),) * 4, original_sizes=((64, 64),) * 4,
        sample_ids=torch.arange(4), targets=tuple(targets),
    )  # fmt: skip


CASES: dict[str, tuple[Callable[[], Task], Callable[[], Batch]]] = {
    "captioning": (test_captioning.build, captions),
    "captioning that drops": (lambda: test_captioning.build(drop_worst=0.4), captions),
    "questions": (test_vqa.build, test_vqa.vqa_batch),
    "statements": (test_nlvr2.build, test_nlvr2.statements),
    "classification": (lambda: test_image_classification.build(0.1), test_image_classification.labelled),
    "segmentation": (segmenting, maps),
    "masks": (masking, halves),
    "ATSS": (lambda: at_cells("atss"), objects),
    "GFL": (lambda: at_cells("gfl"), objects),
}
SPREAD: list[tuple[str, Strategy]] = [*((name, "ddp") for name in CASES), ("captioning", "fsdp2")]
DETECTORS = ("ATSS", "GFL")  # their ranks have unequal numbers of objects


def part(batch: Batch, number: int, parts: int) -> Batch:
    """Rows of a batch, in float64."""
    rows = slice(4 * number // parts, 4 * (number + 1) // parts)
    changed: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = value[rows].double() if value.is_floating_point() else value[rows]
        elif isinstance(value, tuple):
            changed[field.name] = value[rows]
    return replace(batch, **changed)


def train_spread(
    task: Task,
    model: nn.Module,
    batches: Iterator[Loaded[Any]],
    folder: Path,
    ranks: Ranks,
    num_steps: int,
    micro_steps: int = 1,
) -> None:
    """Train a task whose ``model`` was spread over the ranks; the main rank leaves weights and a log."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = TrainConfig(
        num_steps=num_steps, grad_accumulation=micro_steps, precision="fp32", max_grad_norm=1.0, log_every=1
    )
    log = RunLog(folder, title="", num_steps=num_steps, tensorboard=False) if ranks.is_main else None
    train(
        task, TrainState(model, build_optimizer(model, OPTIMIZER), None), batches,
        LoopConfig(train=settings, optimizer=OPTIMIZER, schedule=ScheduleConfig(), global_batch_size=4),
        ranks=ranks, checkpoints=Checkpoints(folder / "checkpoints", keep=1), log=log,
        skipped=SkippedLog(folder, ranks),
    )  # fmt: skip
    weights = whole_weights(task.model)
    if ranks.is_main:
        torch.save(weights, folder / "weights.pt")


def go(
    name: str, folder: Path, ranks: Ranks = ALONE, strategy: Strategy = "auto", micro_steps: int = 1
) -> None:
    """Train a few steps; the main rank leaves weights and a log."""
    build, batch_of = CASES[name]
    task, whole = build(), batch_of()
    with_noise(task.model)
    if isinstance(task, CaptioningTask):
        task.drop_after = 0
    model = task.model.double()
    task.model = parallelize(model, strategy, ranks)

    def batches() -> Iterator[Loaded[Batch]]:
        for number in range(NUM_STEPS * micro_steps):
            yield Loaded(
                part(whole, number % micro_steps * ranks.world_size + ranks.rank,
                     micro_steps * ranks.world_size), (),
            )  # fmt: skip

    train_spread(task, model, batches(), folder, ranks, NUM_STEPS, micro_steps)


def on_two(ranks: Ranks, folder: Path) -> None:
    for name, strategy in SPREAD:
        go(name, folder / name / strategy, ranks, strategy)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tasks")
    for name in CASES:
        # Each rank drops the worst words of its own batch; so do two micro steps of as many captions.
        go(name, made / name / "alone", micro_steps=2 if "drops" in name else 1)
    on_two_ranks(on_two, made)
    return made


@pytest.mark.parametrize(("name", "strategy"), SPREAD)
def test_two_ranks_train_a_task_as_one_process(folder: Path, name: str, strategy: str) -> None:
    places = [folder / name / way for way in ("alone", strategy)]
    expected, found = (torch.load(place / "weights.pt") for place in places)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=TOLERANCE, atol=TOLERANCE, msg=key)
    logs = [read_log(place / "metrics.jsonl") for place in places]
    assert len(logs[0]) == NUM_STEPS
    for theirs, ours in zip(*logs, strict=True):
        for key in theirs:
            if key == "loss" and name in DETECTORS:
                continue  # the mean of what each rank's own batch has, which is not what goes down
            if key.startswith("loss") or key == "grad_norm":
                assert ours[key] == pytest.approx(theirs[key], rel=TOLERANCE), key
    if name in DETECTORS:
        assert {"loss_classes", "loss_boxes", "loss_quality"} <= logs[0][0].keys()


def test_micro_steps_train_atss_as_the_whole_batch(folder: Path, tmp_path: Path) -> None:
    """GFL's own scores are known micro step by micro step only."""
    go("ATSS", tmp_path, micro_steps=2)
    found, expected = (torch.load(place / "weights.pt") for place in (tmp_path, folder / "ATSS" / "alone"))
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=TOLERANCE, atol=TOLERANCE, msg=key)


def test_dropping_words_is_not_leaving_all(folder: Path) -> None:
    first, second = (
        read_log(folder / name / "alone" / "metrics.jsonl")[-1]["loss_caption"]
        for name in ("captioning", "captioning that drops")
    )
    assert second < first
