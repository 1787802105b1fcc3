"""Fine-tuning on the World: one recipe for each kind of task, from the weights in the package.

Each reads a World on disk; write one with ``imglish world --out world --train 5000 --validation 500``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imglish.models.segmenters.config import (
    Mask2FormerConfig,
    SegmenterConfig,
    SemanticFpnConfig,
    UPerNetConfig,
)
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.recipes.config import (
    CaptioningTask,
    ClassNamesTask,
    ImageClassificationTask,
    Nlvr2Task,
    RetrievalTask,
    RunConfig,
    SegmentationTask,
    VqaTask,
)
from imglish.recipes.data_config import FolderData
from imglish.recipes.world import WORLD_MODEL
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

WORLD_ADAPTER = ViTAdapterConfig(num_interactions=2, stem_width=32, num_heads=4)


def vqa_demo(*, world: Path = Path("world"), num_steps: int = 300) -> RunConfig:
    """Visual question answering on the World.

    Run:      imglish train vqa_demo --data.root world
    Needs:    2 CPU cores, about a minute. Scores: docs/demo.md.
    """
    return RunConfig(
        name="vqa_demo",
        task=VqaTask(model=WORLD_MODEL, min_answer_count=5, max_text_tokens=32, batch_size=32),
        data=FolderData(root=world),
        init="world",
        # Faster, the new head's first gradients undo what was learned (docs/log.md).
        optimizer=OptimizerConfig(lr=2e-4, weight_decay=0.01, head_lr_scale=5),
        schedule=ScheduleConfig(warmup_steps=min(20, num_steps // 5)),
        train=_train(num_steps),
    )


def retrieval_demo(*, world: Path = Path("world"), num_steps: int = 150) -> RunConfig:
    """Image-text retrieval on the World.

    Run:      imglish train retrieval_demo --data.root world
    Needs:    2 CPU cores, half a minute. Scores: docs/demo.md.
    """
    return RunConfig(
        name="retrieval_demo",
        task=RetrievalTask(model=WORLD_MODEL, max_text_tokens=48, batch_size=96),
        data=FolderData(root=world, num_validation=500),
        init="world",
        optimizer=OptimizerConfig(lr=5e-4),
        schedule=ScheduleConfig(warmup_steps=min(20, num_steps // 5)),
        train=_train(num_steps),
    )


def captioning_demo(*, world: Path = Path("world"), num_steps: int = 200) -> RunConfig:
    """Captioning on the World.

    Run:      imglish train captioning_demo --data.root world
    Needs:    2 CPU cores, half a minute. Scores: docs/demo.md.
    """
    return RunConfig(
        name="captioning_demo",
        task=CaptioningTask(model=WORLD_MODEL, max_text_tokens=48, batch_size=64),
        data=FolderData(root=world, num_validation=200),
        init="world",
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.01),
        schedule=ScheduleConfig(warmup_steps=min(20, num_steps // 5)),
        train=_train(num_steps),
    )


def nlvr2_demo(*, world: Path = Path("world"), num_steps: int = 600) -> RunConfig:
    """Statements about two pictures of the World.

    Run:      imglish train nlvr2_demo --data.root world
    Needs:    2 CPU cores, two minutes. Scores: docs/tasks/nlvr2.md.
    """
    return RunConfig(
        name="nlvr2_demo",
        task=Nlvr2Task(model=WORLD_MODEL, max_text_tokens=40, batch_size=32),
        data=FolderData(root=world),
        init="world",
        # As for questions: faster, what was learned is undone before the head can use it.
        optimizer=OptimizerConfig(lr=2e-4, weight_decay=0.01, head_lr_scale=5),
        schedule=ScheduleConfig(warmup_steps=min(20, num_steps // 5)),
        train=_train(num_steps),
    )


def image_classification_demo(*, world: Path = Path("world"), num_steps: int = 150) -> RunConfig:
    """The shape of a single thing of the World, from the mean of the patches.

    Run:      imglish train image_classification_demo --data.root world
    Needs:    2 CPU cores, half a minute.
    """
    return RunConfig(
        name="image_classification_demo",
        task=ImageClassificationTask(
            model=WORLD_MODEL, pictures="model", mix=False, smoothing=0.1, batch_size=64
        ),
        data=FolderData(root=world),
        init="world",
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.01),
        schedule=ScheduleConfig(warmup_steps=min(20, num_steps // 5)),
        train=_train(num_steps),
    )


def class_names_demo(*, world: Path = Path("world"), num_steps: int = 150) -> RunConfig:
    """The shape of a single thing of the World, by its name: the paper's way.

    Run:      imglish train class_names_demo --data.root world
    Needs:    2 CPU cores, half a minute.
    """
    return RunConfig(
        name="class_names_demo",
        task=ClassNamesTask(model=WORLD_MODEL, prompt="a {name}", max_text_tokens=8, batch_size=64),
        data=FolderData(root=world),
        init="world",
        optimizer=OptimizerConfig(lr=5e-4, weight_decay=0.01),
        schedule=ScheduleConfig(warmup_steps=min(20, num_steps // 5)),
        train=_train(num_steps),
    )


def semantic_segmentation_demo(*, world: Path = Path("world"), num_steps: int = 250) -> RunConfig:
    """Semantic segmentation on the World with ViT-Adapter and Semantic FPN.

    Run:      imglish train semantic_segmentation_demo --data.root world
    Needs:    2 CPU cores, a minute. Scores: docs/demo.md.
    """
    segmenter = SemanticFpnConfig(neck_width=64, head_width=64)
    return _segmentation("semantic_segmentation_demo", segmenter, num_steps, world=world)


def upernet_demo(*, world: Path = Path("world"), num_steps: int = 600) -> RunConfig:
    """Semantic segmentation on the World with ViT-Adapter and UPerNet.

    Run:      imglish train upernet_demo --data.root world
    Needs:    2 CPU cores, three minutes (0.45 s of a core a step).
    Expect:   mean IoU 0.89, of things 0.86 (one run, 2026-11-21; 0.62 and 0.49 after 250 steps).
    """
    segmenter = UPerNetConfig(head_width=64, auxiliary_width=64)
    return _segmentation("upernet_demo", segmenter, num_steps, world=world)


def mask2former_demo(*, world: Path = Path("world"), num_steps: int = 1500) -> RunConfig:
    """Semantic segmentation on the World with ViT-Adapter and Mask2Former.

    Run:      imglish train mask2former_demo --data.root world
    Needs:    2 CPU cores, eight minutes (0.52 s of a core a step).
    Expect:   mean IoU 0.86, of things 0.82 (one run, 2026-11-21; 0.70 and 0.59 after 250 steps).
    """
    segmenter = Mask2FormerConfig(
        width=64,
        num_queries=12,
        num_pixel_layers=2,
        num_layers=3,
        num_heads=4,
        pixel_feed_forward_width=128,
        feed_forward_width=128,
        num_groups=8,
    )
    return _segmentation("mask2former_demo", segmenter, num_steps, world=world, warmup=50)


def from_scratch(config: RunConfig, text_tokenizer: Path) -> RunConfig:
    """The same run without pretrained weights, with the same text tokenizer.

    From scratch the whole model is as new as a head, so all of it learns at the head's rate.
    """
    rates = config.optimizer
    optimizer = replace(rates, lr=rates.lr * rates.head_lr_scale, head_lr_scale=1.0)
    return replace(config, init="", text_tokenizer=str(text_tokenizer), optimizer=optimizer)


def _segmentation(
    name: str,
    segmenter: SegmenterConfig,
    num_steps: int,
    *,
    world: Path,
    warmup: int = 20,
) -> RunConfig:
    """A segmenter over the World model with ViT-Adapter; Mask2Former compares masks at 512 points."""
    return RunConfig(
        name=name,
        task=SegmentationTask(
            model=WORLD_MODEL,
            adapter=WORLD_ADAPTER,
            segmenter=segmenter,
            num_points=512,
            batch_size=32,
        ),
        data=FolderData(root=world, num_validation=200),
        init="world",
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_steps=min(warmup, num_steps // 5)),
        train=_train(num_steps),
    )


def _train(num_steps: int) -> TrainConfig:
    return TrainConfig(
        num_steps=num_steps,
        save_every=max(20, num_steps // 4),
        log_every=max(1, num_steps // 40),
        tensorboard=False,
    )
