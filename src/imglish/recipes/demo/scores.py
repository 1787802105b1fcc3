"""The demo's scores, each beside its baselines: chance, an answerer without the picture, from scratch."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imglish.data.formats.mask_folder import read_mask_folder
from imglish.data.formats.mask_labels import numbered
from imglish.data.segmentation import SegmentationDataset
from imglish.data.world.annotate import CLASSES
from imglish.data.world.files import WorldFiles
from imglish.data.world.questions import KINDS
from imglish.data.world.scene import SHAPES, STUFF
from imglish.evaluation.results import ClassScore, QuestionKind, Score, TaskResult
from imglish.metrics.caption_facts import CaptionFacts
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.recipes.assembly.segmentation import GROUPS
from imglish.recipes.assembly.vqa import question_prior
from imglish.recipes.assembly.world_scores import scenes_of
from imglish.recipes.data_config import FolderData
from imglish.recipes.records import captioned, questions
from imglish.recipes.run_folder import RunFolder

Scores = Mapping[str, float]


def task_results(out: Path, files: WorldFiles) -> tuple[TaskResult, ...]:
    """The tasks of both halves, from the runs in ``out`` on the World ``files``."""
    return (
        _teacher(out),
        _vqa(out, files),
        _retrieval(out),
        _captioning(out, files),
        _statements(out),
        _classification(out),
        _segmentation(out, files),
        _detection(out),
    )


def scores_of(out: Path, leg: str) -> dict[str, float]:
    """The scores of the run ``leg`` of the demo in ``out``."""
    return dict(json.loads(RunFolder(out / leg).scores_path.read_text()))


def _teacher(out: Path) -> TaskResult:
    scores = scores_of(out, "contrastive")
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


def _vqa(out: Path, files: WorldFiles) -> TaskResult:
    ours, scratch = scores_of(out, "vqa"), scores_of(out, "vqa_scratch")
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
    ours, scratch = scores_of(out, "retrieval"), scores_of(out, "retrieval_scratch")

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
    ours, scratch = scores_of(out, "captioning"), scores_of(out, "captioning_scratch")
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


def _statements(out: Path) -> TaskResult:
    ours, scratch = scores_of(out, "nlvr2"), scores_of(out, "nlvr2_scratch")
    return TaskResult(
        name="Statements",
        half="weights",
        how="Whether a statement about two validation scenes is true; each form is said truly as often as "
        "falsely.",
        scores=(
            Score(
                name="accuracy",
                pretrained=ours["nlvr2/accuracy"],
                scratch=scratch["nlvr2/accuracy"],
                chance=0.5,
                target=0.6,
                target_note="10 points above chance",
            ),
        ),
    )


def _classification(out: Path) -> TaskResult:
    def score(name: str, leg: str) -> Score:
        return Score(
            name=name,
            pretrained=scores_of(out, leg)["classification/top_1_accuracy"],
            chance=1 / len(SHAPES),
            target=0.9,
            target_note="90% of the pictures",
        )

    return TaskResult(
        name="Classification",
        half="weights",
        how="The shape of a single thing: by a linear head on the mean of the patches, as in the released "
        "models, and by the names of the classes in a dual encoder, as in the paper.",
        scores=(
            score("top-1, linear head", "image_classification"),
            score("top-1, class names", "class_names"),
        ),
    )


def _segmentation(out: Path, files: WorldFiles) -> TaskResult:
    ours, scratch = scores_of(out, "segmentation"), scores_of(out, "segmentation_scratch")
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


def _detection(out: Path) -> TaskResult:
    scores = scores_of(out, "detection")

    def score(name: str, key: str, target: float | None, note: str) -> Score:
        return Score(name=name, pretrained=scores[key], target=target, target_note=note)

    return TaskResult(
        name="Detection",
        half="weights",
        how="Boxes and masks of the things of 200 validation scenes, by COCO's average precision, which is 0 "
        "for whoever does not look.",
        scores=(
            score("box AP", "box/ap", 0.3, "over IoU 0.5 to 0.95"),
            score("mask AP", "mask/ap", 0.3, "over IoU 0.5 to 0.95"),
            score("box AP at IoU 0.5", "box/ap50", None, ""),
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
    dataset = SegmentationDataset(records=records, labels=numbered(CLASSES, first=1))
    return (dataset.get(index, np.random.default_rng(0)).mask for index in range(len(dataset)))
