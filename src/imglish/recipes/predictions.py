"""Predictions in the published submission formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from imglish.data.collate import pad_ids, padding_of, stack_images
from imglish.data.vocabulary import load_vocabulary
from imglish.errors import ConfigError
from imglish.models.beit3.classification_heads import Beit3ForNlvr2
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForVqa
from imglish.recipes.assembly.base import Scored, read_pictures, scoring_transform
from imglish.recipes.assembly.captioning import CaptionWriter
from imglish.recipes.config import CaptioningTask, Nlvr2Task, RunConfig, VqaTask
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.detection_predictions import write_found
from imglish.recipes.records import captioned, questions, statements
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.scoring import Ready, finished_run, official_weights

T = TypeVar("T")
Progress = Callable[[int, int], None]
_AT_ONCE = 32
_TASKS = (VqaTask, CaptioningTask, Nlvr2Task, DetectionTask)


def write_predictions(
    config: RunConfig, weights: Path | str, split: Scored, out: Path, progress: Progress
) -> int:
    """Answer every sample of a split with the weights of a finished run, or with official ones.

    VQAv2: a json list of question_id and answer. Captions of COCO and NoCaps: one of image_id and caption.
    NLVR2: lines of identifier and judgement. Objects: COCO's json list of detections with boxes, and masks
    where the detector draws them. Panoptic segments: COCO's json, and its PNGs in a folder of the same name
    without ``.json``.

    Args:
        config: The settings of the run, or of the recipe whose data official weights answer.
        weights: The folder of the run as a path; official weights by name, or a file of them, as a text.
        split: "validation" or "test".
        out: The file to write; it appears whole or not at all.
        progress: Called with the samples done and all.

    Returns:
        How many samples there are; of objects, how many were found.

    Raises:
        CheckpointError: The run is not finished, or there are no such weights.
        ConfigError: There is no submission format for its task, or no such split, or ``out`` has not the
            ending that its format asks for.
        DataFormatError: A file or a picture is missing or damaged.
    """
    if not isinstance(config.task, _TASKS):
        raise ConfigError(
            f"a run of {config.task.kind} has no submission format; expected vqa, captioning, nlvr2 or "
            "detection"
        )
    if isinstance(config.task, DetectionTask) and config.task.panoptic and out.suffix != ".json":
        raise ConfigError(f"{out}: panoptic segments are a .json file and a folder of its name; end it so")
    if isinstance(weights, Path):
        source = finished_run(config, weights, split)
    else:
        source = official_weights(config, weights, split)
    if isinstance(config.task, DetectionTask):
        with source as ready:
            return write_found(config, ready, split, out, progress)
    with source as ready, torch.no_grad():
        lines = _predict(config, ready, split, progress)
    if ready.ranks.is_main:
        _write(lines, out, as_lines=isinstance(config.task, Nlvr2Task))
    return len(lines)


def _write(lines: list[Any], out: Path, *, as_lines: bool) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    text = "".join(f"{line}\n" for line in lines) if as_lines else json.dumps(lines)
    partial.write_text(text, encoding="utf-8")
    partial.replace(out)


def _predict(config: RunConfig, ready: Ready, split: Scored, progress: Progress) -> list[Any]:
    folder, model = ready.folder, ready.assembly.task.model.eval()
    match config.task, model:
        case VqaTask() as settings, Beit3ForVqa():
            return _answers(config, settings, folder, model, split, progress)
        case Nlvr2Task() as settings, Beit3ForNlvr2():
            return _judgements(config, settings, folder, model, split, progress)
        case CaptioningTask() as settings, Beit3ForCaptioning():
            return _captions(config, settings, folder, model, split, progress)
        case _:
            raise AssertionError(f"{config.task.kind} is of {_TASKS}, and its model a {type(model).__name__}")


def _captions(
    config: RunConfig,
    settings: CaptioningTask,
    folder: RunFolder,
    model: Beit3ForCaptioning,
    split: str,
    progress: Progress,
) -> list[Any]:
    writer = CaptionWriter(model, settings, folder.text_tokenizer())
    lines: list[Any] = []
    for some in _chunks(captioned(config.data, split), progress):
        written = writer.write(read_pictures([record.path for record in some], writer.transform))
        lines += [
            {"image_id": record.image_id, "caption": caption}
            for record, caption in zip(some, written, strict=True)
        ]
    return lines


def _answers(
    config: RunConfig,
    settings: VqaTask,
    folder: RunFolder,
    model: Beit3ForVqa,
    split: str,
    progress: Progress,
) -> list[Any]:
    vocabulary, text = load_vocabulary(folder.answers_path), folder.text_tokenizer()
    transform, device = scoring_transform(settings.model.image_size), _device(model)
    lines: list[Any] = []
    for some in _chunks(questions(config.data, split), progress):
        ids = [text.encode_for_model(record.question, settings.max_text_tokens) for record in some]
        images = stack_images(read_pictures([record.path for record in some], transform)).to(device)
        best = model(images, pad_ids(ids).to(device), padding_of(ids).to(device)).argmax(dim=1).tolist()
        lines += [
            {"question_id": record.question_id, "answer": vocabulary.answers[answer]}
            for record, answer in zip(some, best, strict=True)
        ]
    return lines


def _judgements(
    config: RunConfig,
    settings: Nlvr2Task,
    folder: RunFolder,
    model: Beit3ForNlvr2,
    split: str,
    progress: Progress,
) -> list[Any]:
    text, transform = folder.text_tokenizer(), scoring_transform(settings.model.image_size)
    device, lines = _device(model), []
    for some in _chunks(statements(config.data, split), progress):
        ids = [text.encode_for_model(record.sentence, settings.max_text_tokens) for record in some]
        left, right = (
            stack_images(read_pictures(paths, transform)).to(device)
            for paths in ([record.left for record in some], [record.right for record in some])
        )
        judged = model(left, right, pad_ids(ids).to(device), padding_of(ids).to(device)).argmax(dim=1)
        lines += [
            f"{record.identifier},{bool(true)}" for record, true in zip(some, judged.tolist(), strict=True)
        ]
    return lines


def _chunks(records: Sequence[T], progress: Progress) -> Any:
    for start in range(0, len(records), _AT_ONCE):
        yield records[start : start + _AT_ONCE]
        progress(min(start + _AT_ONCE, len(records)), len(records))


def _device(model: nn.Module) -> torch.device:
    parameter: Tensor = next(model.parameters())
    return parameter.device
