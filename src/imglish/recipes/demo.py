"""The demo: draw the World, pretrain from nothing, fine-tune from the weights in the package, report.

Half (a) shows the whole method run for a short while. Half (b) is how one works in life: tasks from
pretrained weights, each beside the same model from scratch with the same number of steps.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import Progress

from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.errors import ConfigError
from imglish.recipes import demo_results
from imglish.recipes.assemble import assemble, train_recipe
from imglish.recipes.assembly.base import Shares
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
from imglish.recipes.run_folder import RunFolder, find_run
from imglish.recipes.world import world_contrastive, world_masked_data_modeling, world_visual_tokenizer

log = logging.getLogger(__name__)
_QUICK_MINUTES = 2.0
_TIMED_STEPS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """What to show, and for how long.

    Args:
        out: Folder of everything the demo writes; running it again there goes on where it stopped.
        minutes: Time for the whole demo; the stages share it.
        quick: True is the same in 2 minutes.
        seed: Of the World and of every run.
    """

    out: Path = Path("runs/demo")
    minutes: float = 9.0
    quick: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.minutes < 1:
            raise ValueError(f"minutes must be at least 1; got {self.minutes}")

    @property
    def seconds(self) -> float:
        """Time for the whole demo."""
        return 60 * (_QUICK_MINUTES if self.quick else self.minutes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Leg:
    """One training run of the demo.

    Args:
        name: Its folder.
        title: In words.
        purpose: What it learns.
        half: "nothing" or "weights".
        weight: Share of the training time.
        overhead: Seconds to start and score it, on two CPU cores.
        config: The run for a number of steps.
        same_steps_as: Leg whose number of steps it takes over.
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
    fewest: int = 15


@dataclass(slots=True)
class Progressed:
    """What was done so far, kept in ``progress.json``."""

    seconds: float = 0.0
    steps: dict[str, int] = field(default_factory=dict)
    leg_seconds: dict[str, float] = field(default_factory=dict)
    resumed: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)


def run_demo(options: DemoOptions) -> Path:
    """Run the demo to its end, or go on where it stopped.

    Returns:
        The report. Where the demo is complete, that is all there is to do.

    Raises:
        ConfigError: The folder holds a demo with other settings.
    """
    console = Console(stderr=True)
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    _claim(options)
    report = out / "report.html"
    progress = _load(out)
    if "report" in progress.done and report.is_file():
        console.print(f"this demo is complete: {report}. Another --out, or deleting {out}, runs it anew.")
        return report
    started = time.perf_counter() - progress.seconds
    _draw_world(options, console)
    legs = demo_legs(options)
    for number, leg in enumerate(legs):
        if leg.name in progress.done:
            continue
        if (out / leg.name / "checkpoints").exists():
            progress.resumed.append(leg.name)
        if leg.name not in progress.steps:
            spent = time.perf_counter() - started
            progress.steps[leg.name] = _plan_steps(leg, legs[number:], options.seconds - spent, progress, out)
            progress.seconds = spent
            _save(out, progress)
        begun = time.perf_counter()
        config = _seeded(leg.config(progress.steps[leg.name]), options.seed)
        train_recipe(config, out / leg.name, resume=True, title=leg.title)
        progress.leg_seconds[leg.name] = progress.leg_seconds.get(leg.name, 0.0) + time.perf_counter() - begun
        progress.done.append(leg.name)
        progress.seconds = time.perf_counter() - started
        _save(out, progress)
    demo_results.write(options.out, legs, progress, asdict(options), started)
    progress.done.append("report")
    progress.seconds = time.perf_counter() - started
    _save(out, progress)
    console.print(f"report: {report}  (numbers: {out / 'results.json'})")
    return report


def demo_legs(options: DemoOptions) -> tuple[Leg, ...]:
    """The training runs in order."""
    out, world = options.out, options.out / "world"
    text = find_run("world", "encoder").text_path

    def pretraining(recipe: Callable[[int], RunConfig]) -> Callable[[int], RunConfig]:
        def build(steps: int) -> RunConfig:
            config = recipe(steps)
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

        return build

    legs = [
        Leg(
            name="contrastive",
            title="contrastive teacher",
            purpose="A dual encoder learns which caption belongs to which picture: the World's CLIP.",
            half="nothing",
            weight=1.7,
            overhead=5,
            config=pretraining(lambda steps: world_contrastive(num_steps=steps)),
        ),
        Leg(
            name="visual_tokenizer",
            title="visual tokenizer",
            purpose="VQ-KD turns pictures into discrete tokens that rebuild the teacher's features.",
            half="nothing",
            weight=0.6,
            overhead=4,
            config=pretraining(lambda steps: world_visual_tokenizer(runs=out, num_steps=steps)),
        ),
        Leg(
            name="masked_data_modeling",
            title="masked data modelling",
            purpose="One model predicts hidden visual tokens and hidden words of pictures, texts and pairs.",
            half="nothing",
            weight=1.3,
            overhead=6,
            config=pretraining(lambda steps: world_masked_data_modeling(runs=out, num_steps=steps)),
        ),
    ]
    legs += _task_legs(world, text)
    return tuple(legs)


def _task_legs(world: Path, text: Path) -> list[Leg]:
    """Half (b): tasks from the packed weights, and but for classification and detection from scratch too."""
    tasks = (
        ("vqa", "questions", 0.9, 6, vqa_demo, "Fusion encoder: answers to questions about a picture."),
        ("retrieval", "retrieval", 0.6, 8, retrieval_demo, "Dual encoder: captions for pictures and back."),
        ("captioning", "captions", 1.6, 8, captioning_demo, "Generator: captions, word by word."),
        ("nlvr2", "statements", 1.3, 3, nlvr2_demo, "Fusion encoder: statements about two pictures."),
        (
            "image_classification",
            "classes",
            0.35,
            3,
            image_classification_demo,
            "Vision encoder: the shape of a thing.",
        ),
        (
            "class_names",
            "class names",
            0.35,
            3,
            class_names_demo,
            "Dual encoder: the same by the classes' names.",
        ),
        (
            "segmentation",
            "segmentation",
            1.3,
            5,
            semantic_segmentation_demo,
            "ViT-Adapter and Semantic FPN: a class for every pixel.",
        ),
        (
            "detection",
            "detection",
            1.5,
            14,
            mask_rcnn_demo,
            "ViT-Adapter and Mask R-CNN: a box and a mask for every thing.",
        ),
    )
    legs = []
    for name, title, weight, overhead, recipe, purpose in tasks:

        def pretrained(steps: int, recipe: Callable[..., RunConfig] = recipe) -> RunConfig:
            return recipe(world=world, num_steps=steps)

        def scratch(steps: int, recipe: Callable[..., RunConfig] = recipe) -> RunConfig:
            return from_scratch(recipe(world=world, num_steps=steps), text)

        ours = Leg(
            name=name,
            title=title,
            purpose=purpose,
            half="weights",
            weight=weight,
            overhead=overhead,
            config=pretrained,
        )
        legs.append(ours)
        if recipe not in (image_classification_demo, class_names_demo, mask_rcnn_demo):
            beside = replace(ours, name=f"{name}_scratch", title=f"{title} from scratch")
            legs.append(replace(beside, config=scratch, same_steps_as=name))
    return legs


def _plan_steps(leg: Leg, left: tuple[Leg, ...], seconds: float, progress: Progressed, out: Path) -> int:
    """How many steps fit: the leg's share of the time that is left, by the measured time of a step."""
    if leg.same_steps_as:
        return progress.steps[leg.same_steps_as]
    training = seconds - sum(other.overhead for other in left) - 8  # the report
    share = training * leg.weight / sum(other.weight for other in left)
    step = _measure_step(leg.config(1000), out / leg.name)
    return max(leg.fewest, int(share / step))


def _measure_step(config: RunConfig, folder: Path) -> float:
    """Seconds of one training step, the median of a few."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    assembly = assemble(config, RunFolder(folder), Shares())
    times = []
    for step in range(_TIMED_STEPS + 2):
        begun = time.perf_counter()
        assert assembly.plan is not None
        batch = assembly.plan.batch(step).batch
        assembly.task.training_step(batch).loss.backward()
        assembly.task.after_step()
        times.append(time.perf_counter() - begun)
    return 1.1 * statistics.median(times[2:])  # the optimiser takes its share too


def _draw_world(options: DemoOptions, console: Console) -> None:
    num_train = 2000 if options.quick else 6000
    with Progress(console=console) as bar:
        task = bar.add_task("drawing the World", total=num_train + 600)
        write_world(
            WorldConfig(seed=options.seed),
            options.out / "world",
            num_train=num_train,
            num_validation=500,
            num_compositional=100,
            workers=min(2, os.cpu_count() or 1),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _seeded(config: RunConfig, seed: int) -> RunConfig:
    return replace(config, train=replace(config.train, seed=seed))


def _claim(options: DemoOptions) -> None:
    path = options.out / "options.json"
    wanted = {"seconds": options.seconds, "seed": options.seed}
    if path.is_file():
        found = json.loads(path.read_text())
        if found != wanted:
            raise ConfigError(
                f"{options.out} holds a demo of {found['seconds'] / 60:g} minutes with seed {found['seed']}; "
                "go on with the same options, or choose another folder with --out"
            )
    path.write_text(json.dumps(wanted))


def _load(out: Path) -> Progressed:
    path = out / "progress.json"
    return Progressed(**json.loads(path.read_text())) if path.is_file() else Progressed()


def _save(out: Path, progress: Progressed) -> None:
    partial = out / "progress.partial"
    partial.write_text(json.dumps(asdict(progress), indent=1))
    partial.replace(out / "progress.json")
