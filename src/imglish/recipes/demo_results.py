"""From the demo's runs to its report: scores beside their baselines, curves, pictures."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import random
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from imglish.data.formats.mask_folder import read_mask_folder
from imglish.data.segmentation import SegmentationDataset
from imglish.data.world.annotate import CLASSES
from imglish.data.world.files import WorldFiles, read_world
from imglish.data.world.questions import KINDS
from imglish.data.world.scene import STUFF
from imglish.evaluation.machine import this_machine
from imglish.evaluation.report import write_report
from imglish.evaluation.results import (
    ClassScore,
    Codebook,
    Curve,
    DemoResults,
    MaskedAccuracy,
    QuestionKind,
    Score,
    Stage,
    TaskResult,
)
from imglish.metrics.caption_facts import CaptionFacts
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.recipes.assembly.segmentation import GROUPS
from imglish.recipes.assembly.vqa import question_prior
from imglish.recipes.assembly.world_scores import scenes_of
from imglish.recipes.data_config import FolderData
from imglish.recipes.demo_gallery import make_gallery
from imglish.recipes.records import captioned, questions
from imglish.recipes.run_folder import RunFolder
from imglish.train.logging import read_log
from imglish.train.precision import resolve_precision

_STREAMS = {
    "image": "pictures: visual tokens",
    "text": "texts: words",
    "pair_image": "pairs: visual tokens",
    "pair_text": "pairs: words",
}
Scores = Mapping[str, float]


class LegLike(Protocol):
    """A training run of the demo."""

    @property
    def name(self) -> str:
        """Folder of the run."""
        ...

    @property
    def title(self) -> str:
        """In words."""
        ...

    @property
    def purpose(self) -> str:
        """What it learns."""
        ...

    @property
    def half(self) -> Literal["nothing", "weights"]:
        """Which half of the demo."""
        ...

    @property
    def same_steps_as(self) -> str:
        """The run from pretrained weights that this one from scratch stands beside, or empty."""
        ...


class ProgressLike(Protocol):
    """What was done, and how long it took."""

    steps: dict[str, int]
    leg_seconds: dict[str, float]
    resumed: list[str]


def write(
    out: Path, legs: Sequence[LegLike], progress: ProgressLike, options: Mapping[str, Any], started: float
) -> Path:
    """Collect everything and write the report; ``started`` is on the clock of `time.perf_counter`."""
    files = read_world(out / "world")
    device = torch.device("cpu")
    results = DemoResults(
        command=_command(options),
        date=datetime.date.today().isoformat(),
        commit=_commit(),
        seed=int(options["seed"]),
        seconds=time.perf_counter() - started,
        settings={
            "minutes": f"{2 if options['quick'] else options['minutes']:g}",
            "training scenes": str(files.counts["train"]),
            "validation scenes": str(files.counts["validation"]),
            "picture size": str(files.config.picture_size),
            "level": files.config.level,
        },
        machine=this_machine(device, resolve_precision("auto", device)),
        stages=_stages(out, legs, progress),
        codebook=_codebook(out),
        masked=_masked(_scores(out, "masked_data_modeling")),
        tasks=(_teacher(out), *_tasks(out, files)),
        gallery=make_gallery(out, files),
    )
    return write_report(results, out)


def _stages(out: Path, legs: Sequence[LegLike], progress: ProgressLike) -> tuple[Stage, ...]:
    """All runs; the curve of one from scratch is drawn beside that from pretrained weights."""
    scratch = {leg.same_steps_as: leg for leg in legs if leg.same_steps_as}
    stages = []
    for leg in legs:
        curves = () if leg.same_steps_as else _curves(out, leg)
        if leg.name in scratch:
            beside = _curves(out, scratch[leg.name])
            curves = (replace(curves[0], name="pretrained"), replace(beside[0], name="from scratch"))
        stages.append(_stage(out, leg, progress, curves))
    return tuple(stages)


def _curves(out: Path, leg: LegLike) -> tuple[Curve, ...]:
    records = read_log(out / leg.name / "metrics.jsonl")
    curves = []
    for name in sorted({key for record in records for key in record if key.startswith("loss")}):
        points = tuple((int(record["step"]), record[name]) for record in records if name in record)
        curves.append(Curve(name=name.removeprefix("loss_"), points=points))
    return tuple(curves)


def _stage(out: Path, leg: LegLike, progress: ProgressLike, curves: tuple[Curve, ...]) -> Stage:
    config = RunFolder(out / leg.name).config()
    steps = progress.steps[leg.name]
    return Stage(
        name=leg.title,
        half=leg.half,
        purpose=leg.purpose,
        seconds=progress.leg_seconds.get(leg.name, 0.0),
        steps=steps,
        samples=steps * config.task.batch_size,
        status="resumed" if leg.name in progress.resumed else "finished",
        curves=curves,
    )


def _codebook(out: Path) -> Codebook:
    scores = _scores(out, "visual_tokenizer")
    task: Any = RunFolder(out / "visual_tokenizer").config().task
    return Codebook(
        size=task.tokenizer.codebook_size,
        usage=scores["codebook/usage"],
        perplexity=scores["codebook/perplexity"],
    )


def _masked(scores: Scores) -> tuple[MaskedAccuracy, ...]:
    return tuple(
        MaskedAccuracy(
            name=title,
            accuracy=scores[f"{stream}/accuracy"],
            unigram=scores[f"{stream}/unigram"],
            count=int(scores[f"{stream}/count"]),
        )
        for stream, title in _STREAMS.items()
    )


def _teacher(out: Path) -> TaskResult:
    scores = _scores(out, "contrastive")
    chance = 1 / 500
    return TaskResult(
        name="Contrastive teacher",
        half="nothing",
        how="Captions for pictures and pictures for captions among 500 scenes that it never saw.",
        scores=tuple(
            Score(
                name=f"{title}, R@1 of 500",
                pretrained=scores[f"retrieval/{side}_recall_at_1"],
                chance=chance,
                target=20 * chance,
                target_note="20 times chance",
            )
            for side, title in (("text", "picture to text"), ("image", "text to picture"))
        ),
    )


def _tasks(out: Path, files: WorldFiles) -> tuple[TaskResult, ...]:
    return _vqa(out, files), _retrieval(out), _captioning(out, files), _segmentation(out, files)


def _vqa(out: Path, files: WorldFiles) -> TaskResult:
    ours, scratch = _scores(out, "vqa"), _scores(out, "vqa_scratch")
    data = FolderData(root=files.root)
    validation = questions(data, "validation")
    prior = question_prior(questions(data, "train"), validation)
    kinds = [record.annotation.question_type for record in validation if record.annotation is not None]
    return TaskResult(
        name="Questions",
        half="weights",
        how="Every question of the validation scenes, by soft accuracy. The baseline knows the kind of "
        "question only.",
        scores=(
            Score(
                name="accuracy",
                pretrained=ours["vqa/accuracy"],
                scratch=scratch["vqa/accuracy"],
                no_picture=prior["vqa/accuracy"],
                target=prior["vqa/accuracy"] + 0.25,
                target_note="25 points above the best answerer without a picture",
            ),
        ),
        question_kinds=tuple(
            QuestionKind(
                name=kind,
                count=kinds.count(kind),
                prior=prior[f"vqa/accuracy/{kind}"],
                pretrained=ours[f"vqa/accuracy/{kind}"],
                scratch=scratch.get(f"vqa/accuracy/{kind}"),
            )
            for kind in KINDS
            if f"vqa/accuracy/{kind}" in ours
        ),
    )


def _retrieval(out: Path) -> TaskResult:
    ours, scratch = _scores(out, "retrieval"), _scores(out, "retrieval_scratch")

    def score(name: str, key: str, chance: float, target: float, note: str) -> Score:
        return Score(
            name=name,
            pretrained=ours[key],
            scratch=scratch[key],
            chance=chance,
            target=target,
            target_note=note,
        )

    return TaskResult(
        name="Retrieval",
        half="weights",
        how="500 validation scenes with a caption each; swapped captions have a shape or colour exchanged.",
        scores=(
            score("text to picture, R@1", "retrieval/image_recall_at_1", 1 / 500, 0.5, "half of them"),
            score("picture to text, R@1", "retrieval/text_recall_at_1", 1 / 500, 0.5, "half of them"),
            score("shape swaps rejected", "retrieval/rejected_shape_swaps", 0.5, 0.8, "80%"),
            score("colour swaps rejected", "retrieval/rejected_colour_swaps", 0.5, 0.8, "80%"),
        ),
    )


def _captioning(out: Path, files: WorldFiles) -> TaskResult:
    ours, scratch = _scores(out, "captioning"), _scores(out, "captioning_scratch")
    return TaskResult(
        name="Captions",
        half="weights",
        how="Captions by beam search, read back and compared with the scene graph. The baseline gives each "
        "picture the caption of another.",
        scores=(
            Score(
                name="things named with shape and colour",
                pretrained=ours["caption/things_named"],
                scratch=scratch["caption/things_named"],
                no_picture=_blind_captions(files),
                target=0.6,
                target_note="60% of all things",
            ),
            Score(
                name="names that are right",
                pretrained=1 - ours["caption/wrong_names"],
                scratch=1 - scratch["caption/wrong_names"],
            ),
        ),
    )


def _segmentation(out: Path, files: WorldFiles) -> TaskResult:
    ours, scratch = _scores(out, "segmentation"), _scores(out, "segmentation_scratch")
    blind = _blind_masks(files)

    def score(name: str, key: str, target: float | None, note: str) -> Score:
        return Score(
            name=name,
            pretrained=ours[key],
            scratch=scratch[key],
            no_picture=blind[key],
            target=target,
            target_note=note,
        )

    return TaskResult(
        name="Segmentation",
        half="weights",
        how="Validation scenes, 6 kinds of stuff and 12 of things. The baseline gives every pixel the class "
        "most frequent at its place.",
        scores=(
            score("mean IoU", "semantic/mean_iou", 0.6, "over all classes"),
            score("mean IoU of things", "semantic/mean_iou_things", 0.4, "over things alone"),
            score("mean IoU of stuff", "semantic/mean_iou_stuff", None, ""),
        ),
        classes=tuple(
            ClassScore(
                name=name,
                group="stuff" if name in STUFF else "thing",
                pretrained=ours.get(f"semantic/iou/{name}"),
                scratch=scratch.get(f"semantic/iou/{name}"),
            )
            for name in CLASSES
        ),
    )


def _blind_captions(files: WorldFiles) -> float:
    """What captions of other pictures get."""
    metric, draw = CaptionFacts(), random.Random(0)
    scenes = scenes_of(files, "validation")
    others = [scene.things for scene in scenes_of(files, "train").values()]
    for record in captioned(FolderData(root=files.root), "validation"):
        named = [(thing.colour, thing.shape) for thing in draw.choice(others)]
        metric.update([named], [[(thing.colour, thing.shape) for thing in scenes[record.image_id].things]])
    return metric.compute()["caption/things_named"]


def _blind_masks(files: WorldFiles) -> Scores:
    """What the most frequent class of each pixel's place gets."""
    counts: torch.Tensor | None = None
    for number, mask in enumerate(_masks(files, "train")):
        one_hot = torch.nn.functional.one_hot(mask, len(CLASSES))
        counts = one_hot if counts is None else counts + one_hot
        if number == 500:
            break
    assert counts is not None
    guess, metric = counts.argmax(dim=-1), SegmentationIou(CLASSES, GROUPS)
    for number, mask in enumerate(_masks(files, "validation")):
        metric.update(guess[None], mask[None])
        if number == 200:
            break
    return metric.compute()


def _masks(files: WorldFiles, split: str) -> Any:
    records = read_mask_folder(files.mask_images(split), files.masks(split))
    dataset = SegmentationDataset(records=records, num_classes=len(CLASSES))
    return (dataset.get(index, np.random.default_rng(0)).mask for index in range(len(dataset)))


def _scores(out: Path, leg: str) -> dict[str, float]:
    return dict(json.loads(RunFolder(out / leg).scores_path.read_text()))


def _command(options: Mapping[str, Any]) -> str:
    words = ["imglish demo"]
    if options["quick"]:
        words.append("--quick")
    elif options["minutes"] != 8.0:
        words.append(f"--minutes {options['minutes']:g}")
    if options["seed"]:
        words.append(f"--seed {options['seed']}")
    return " ".join(words)


def _commit() -> str:
    """The commit of the code where it is a checkout, else the version of the package."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return importlib.metadata.version("imglish")
    return found.stdout.strip()
