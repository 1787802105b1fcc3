"""The training runs of the demo: what each shows, and which share of the time it gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from imglish.recipes.config import ContrastiveTask, MaskedDataModelingTask, RunConfig
from imglish.recipes.data_config import WorldStreamData
from imglish.recipes.demo_tasks import (
    captioning_demo,
    class_names_demo,
    from_scratch,
    image_classification_demo,
    nlvr2_demo,
    retrieval_demo,
    semantic_segmentation_demo,
    vqa_demo,
)
from imglish.recipes.detection_demo import mask_rcnn_demo
from imglish.recipes.run_folder import find_run
from imglish.recipes.world import world_contrastive, world_masked_data_modeling, world_visual_tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Leg:
    """One training run of the demo.

    Args:
        name: Its folder.
        title: In words.
        purpose: What it learns.
        half: "nothing" or "weights".
        weight: Its share of the training time, beside the other legs of its lane.
        overhead: Seconds to start and score it on one CPU core.
        config: The run for a number of steps.
        same_steps_as: Leg from pretrained weights that this one from scratch stands beside: it takes over
            that one's number of steps. Empty where there is none.
        fewest: Fewest steps that make sense.
    """

    name: str
    title: str
    purpose: str
    half: Literal["nothing", "weights"]
    weight: float
    overhead: float
    config: Callable[[int], RunConfig]
    same_steps_as: str = ""
    fewest: int = 10


def demo_lanes(out: Path) -> tuple[tuple[Leg, ...], tuple[Leg, ...]]:
    """The training runs, in two lanes that run beside each other.

    First the method from nothing beside the tasks that have no twin, with weights of the same sum; then each
    task from the weights in the package beside its twin from scratch.

    Args:
        out: The demo's folder, with the World in ``world``.
    """
    text = find_run("world", "encoder").text_path
    tasks = _tasks(out / "world")
    twins = tuple(_from_scratch(task, text) for task in tasks)
    return (*_method(out), *tasks), (*_single_tasks(out / "world"), *twins)


def _method(out: Path) -> tuple[Leg, ...]:
    """Half (a): the method from nothing."""
    return (
        Leg(
            name="contrastive",
            title="contrastive teacher",
            purpose="A dual encoder learns which caption belongs to which picture: the World's CLIP.",
            half="nothing",
            weight=1.2,
            overhead=10,
            config=lambda steps: _shortened(world_contrastive(num_steps=steps)),
        ),
        Leg(
            name="visual_tokenizer",
            title="visual tokenizer",
            purpose="VQ-KD turns pictures into discrete tokens that rebuild the teacher's features.",
            half="nothing",
            weight=0.6,
            overhead=4,
            config=lambda steps: _shortened(world_visual_tokenizer(runs=out, num_steps=steps)),
        ),
        Leg(
            name="masked_data_modeling",
            title="masked data modelling",
            purpose="One model predicts hidden visual tokens and hidden words of pictures, texts and pairs.",
            half="nothing",
            weight=1.1,
            overhead=7,
            config=lambda steps: _shortened(world_masked_data_modeling(runs=out, num_steps=steps)),
        ),
    )


def _shortened(config: RunConfig) -> RunConfig:
    """A recipe of pretraining at the demo's length."""
    steps = config.train.num_steps
    train = replace(config.train, num_workers=0, log_every=max(1, steps // 40), tensorboard=False)
    train = replace(train, evaluate_every=0, save_every=max(20, steps // 3))
    data, task, optimizer = config.data, config.task, config.optimizer
    # Terse texts and questions pay off in the long run only; full captions are learned sooner.
    if isinstance(data, WorldStreamData):
        data = replace(data, alt_texts=False, questions=False)
    # In so short a time smaller batches, and so more steps, learn more.
    if isinstance(task, ContrastiveTask):
        task = replace(task, batch_size=64)
    if isinstance(task, MaskedDataModelingTask):
        task, optimizer = replace(task, num_pairs=32), replace(optimizer, lr=2e-3)
    return replace(config, train=train, data=data, task=task, optimizer=optimizer)


def _single_tasks(world: Path) -> tuple[Leg, ...]:
    """Half (b), the tasks that are shown from the weights in the package alone."""
    return (
        Leg(
            name="detection",
            title="detection",
            purpose="ViT-Adapter and Mask R-CNN: a box and a mask for every thing.",
            half="weights",
            weight=2.2,
            overhead=16,
            config=lambda steps: mask_rcnn_demo(world=world, num_steps=steps),
        ),
        Leg(
            name="image_classification",
            title="classes",
            purpose="Vision encoder: the shape of a thing.",
            half="weights",
            weight=0.35,
            overhead=2,
            config=lambda steps: image_classification_demo(world=world, num_steps=steps),
        ),
        Leg(
            name="class_names",
            title="class names",
            purpose="Dual encoder: the same by the classes' names.",
            half="weights",
            weight=0.35,
            overhead=2,
            config=lambda steps: class_names_demo(world=world, num_steps=steps),
        ),
    )


def _tasks(world: Path) -> tuple[Leg, ...]:
    """Half (b), the tasks that are shown from scratch too."""
    return (
        Leg(
            name="vqa",
            title="questions",
            purpose="Fusion encoder: answers to questions about a picture.",
            half="weights",
            weight=1.05,
            overhead=16,
            config=lambda steps: vqa_demo(world=world, num_steps=steps),
        ),
        Leg(
            name="retrieval",
            title="retrieval",
            purpose="Dual encoder: captions for pictures and back.",
            half="weights",
            weight=0.6,
            overhead=8,
            config=lambda steps: retrieval_demo(world=world, num_steps=steps),
        ),
        Leg(
            name="captioning",
            title="captions",
            purpose="Generator: captions, word by word.",
            half="weights",
            weight=1.8,
            overhead=6,
            config=lambda steps: captioning_demo(world=world, num_steps=steps),
        ),
        Leg(
            name="nlvr2",
            title="statements",
            purpose="Fusion encoder: statements about two pictures.",
            half="weights",
            weight=1.25,
            overhead=4,
            config=lambda steps: nlvr2_demo(world=world, num_steps=steps),
        ),
        Leg(
            name="segmentation",
            title="segmentation",
            purpose="ViT-Adapter and Semantic FPN: a class for every pixel.",
            half="weights",
            weight=1.7,
            overhead=5,
            config=lambda steps: semantic_segmentation_demo(world=world, num_steps=steps),
        ),
    )


def _from_scratch(leg: Leg, text_tokenizer: Path) -> Leg:
    """The twin of a task, without pretrained weights."""
    return replace(
        leg,
        name=f"{leg.name}_scratch",
        title=f"{leg.title} from scratch",
        config=lambda steps: from_scratch(leg.config(steps), text_tokenizer),
        same_steps_as=leg.name,
    )
