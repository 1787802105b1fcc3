"""Joining visual question answering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from imglish.data.formats.vqa import ANSWER_TYPES, VqaRecord
from imglish.data.transforms.answers import normalise_answer
from imglish.data.vocabulary import AnswerVocabulary, build_vocabulary, load_vocabulary
from imglish.data.vqa import TypesFrom, VqaDataset, collate_vqa
from imglish.metrics.vqa_accuracy import VqaAccuracy
from imglish.models.beit3.heads import Beit3ForVqa
from imglish.recipes.assembly.base import (
    Assembly,
    Shares,
    Splits,
    first,
    nothing_told,
    scoring_transform,
    training_plan,
)
from imglish.recipes.config import RunConfig, VqaTask as VqaSettings
from imglish.recipes.records import common_answers, questions
from imglish.recipes.run_folder import RunFolder
from imglish.structures.batches import VqaBatch
from imglish.tasks.vqa import VqaTask
from imglish.text.tokenizer import TextTokenizer

_MOST_KINDS = 12  # scores by question type are shown for so many; VQAv2 has 65, its answer types are shown


def assemble_vqa(
    config: RunConfig,
    settings: VqaSettings,
    text: TextTokenizer,
    folder: RunFolder,
    shares: Shares,
    splits: Splits,
) -> Assembly[VqaBatch]:
    """Questions about pictures, with a vocabulary of frequent answers."""
    asked = questions(config.data, splits.scored)
    vocabulary = answer_vocabulary(lambda: common_answers(config.data), settings, folder)
    kinds, by = question_kinds(asked)
    size = settings.model.image_size
    dataset = VqaDataset(
        records=first(asked, config.data.num_validation),
        transform=scoring_transform(size),
        tokenizer=text,
        vocabulary=vocabulary,
        question_types=kinds,
        types_from=by,
        max_tokens=settings.max_text_tokens,
        use_pictures=settings.use_pictures,
        needs_answer=False,
    )
    plan = None
    if splits.train:
        train = replace(
            dataset,
            records=questions(config.data, "train"),
            transform=settings.augment.transform(size),
            needs_answer=True,
        )
        plan = training_plan(train, collate_vqa, config, shares)
    model = Beit3ForVqa(
        replace(settings.model, output_norm=False),
        num_answers=len(vocabulary),
        picture_alone=settings.picture_alone,
    )
    return Assembly(
        task=VqaTask(model, VqaAccuracy(kinds)),
        plan=plan,
        evaluation_set=dataset,
        collate=collate_vqa,
        unscored=""
        if any(record.annotation is not None for record in asked)
        else nothing_told(splits.scored, f"{len(asked)} questions without answers"),
    )


def answer_vocabulary(
    read: Callable[[], Sequence[str]], settings: VqaSettings, folder: RunFolder
) -> AnswerVocabulary:
    """The answers that are classes, kept in the run's folder.

    They are those of ``settings.answers`` where that names a file, else the normalised most common answers of
    all annotated questions that occur often enough.

    Args:
        read: Gives the most common answer to each question; called where they are needed.
        settings: Of the task.
        folder: The run's; a vocabulary there is taken before all others.
    """
    if folder.answers_path.is_file():
        return load_vocabulary(folder.answers_path)
    if settings.answers:
        vocabulary = load_vocabulary(Path(settings.answers))
    else:
        vocabulary = build_vocabulary(map(normalise_answer, read()), min_count=settings.min_answer_count)
    vocabulary.save(folder.answers_path)
    return vocabulary


def question_kinds(records: Sequence[VqaRecord]) -> tuple[tuple[str, ...], TypesFrom]:
    """Names of the kinds of questions that are scored apart, and the annotation's field that tells them."""
    types = sorted({r.annotation.question_type for r in records if r.annotation is not None} - {""})
    if 0 < len(types) <= _MOST_KINDS:
        return tuple(types), "question_type"
    return ANSWER_TYPES, "answer_type"


def question_prior(train: Sequence[VqaRecord], validation: Sequence[VqaRecord]) -> dict[str, float]:
    """Accuracy of the best answerer that sees the kind of the question only, overall and by kind.

    It gives each kind the answer most frequent in training.
    """
    by_kind: dict[str, Counter[str]] = {}
    for record in train:
        if record.annotation is not None:
            by_kind.setdefault(record.annotation.question_type, Counter())[record.annotation.most_common] += 1
    guess = {kind: counts.most_common(1)[0][0] for kind, counts in by_kind.items()}
    hits: dict[str, list[float]] = {}
    for record in validation:
        if record.annotation is not None:
            kind = record.annotation.question_type
            vocabulary = AnswerVocabulary((guess.get(kind, ""),))
            hits.setdefault(kind, []).append(
                float(vocabulary.scores([answer.text for answer in record.annotation.answers])[0])
            )
    everything = [score for scores in hits.values() for score in scores]
    overall = {"vqa/accuracy": sum(everything) / len(everything)}
    return overall | {f"vqa/accuracy/{kind}": sum(scores) / len(scores) for kind, scores in hits.items()}
