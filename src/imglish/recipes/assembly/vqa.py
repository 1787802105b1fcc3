"""Joining visual question answering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from imglish.data.formats.vqa import ANSWER_TYPES, VqaRecord
from imglish.data.loader import SinglePlan, Source
from imglish.data.transforms.answers import normalise_answer
from imglish.data.transforms.image import ImageTransform
from imglish.data.vocabulary import AnswerVocabulary, build_vocabulary, load_vocabulary
from imglish.data.vqa import TypesFrom, VqaDataset, collate_vqa
from imglish.metrics.vqa_accuracy import VqaAccuracy
from imglish.models.beit3.heads import Beit3ForVqa
from imglish.recipes.assembly.base import Assembly, Shares, first
from imglish.recipes.config import RunConfig, VqaTask as VqaSettings
from imglish.recipes.records import questions
from imglish.recipes.run_folder import RunFolder
from imglish.structures.batches import VqaBatch
from imglish.tasks.vqa import VqaTask
from imglish.text.tokenizer import TextTokenizer

_MOST_KINDS = 12  # scores by question type are shown for so many; VQAv2 has 65, its answer types are shown


def assemble_vqa(
    config: RunConfig, settings: VqaSettings, text: TextTokenizer, folder: RunFolder, shares: Shares
) -> Assembly[VqaBatch]:
    """Questions about pictures, with a vocabulary of frequent answers."""
    train, validation = (questions(config.data, split) for split in ("train", "validation"))
    vocabulary = answer_vocabulary((*train, *validation), settings, folder)
    kinds, by = question_kinds(validation)
    size = settings.model.image_size
    dataset = VqaDataset(
        records=train,
        transform=settings.augment.transform(size),
        tokenizer=text,
        vocabulary=vocabulary,
        question_types=kinds,
        types_from=by,
        max_tokens=settings.max_text_tokens,
        use_pictures=settings.use_pictures,
    )
    scored = replace(
        dataset,
        records=first(validation, config.data.num_validation),
        transform=ImageTransform(size=size),
        needs_answer=False,
    )
    model = Beit3ForVqa(replace(settings.model, output_norm=False), num_answers=len(vocabulary))
    return Assembly(
        task=VqaTask(model, VqaAccuracy(kinds)),
        plan=SinglePlan(
            source=Source(
                dataset=dataset, per_rank=shares.per_rank(settings.batch_size), seed=config.train.seed
            ),
            collate=collate_vqa,
            rank=shares.rank,
            world_size=shares.world_size,
        ),
        evaluation_set=scored,
        collate=collate_vqa,
    )


def answer_vocabulary(
    records: Sequence[VqaRecord], settings: VqaSettings, folder: RunFolder
) -> AnswerVocabulary:
    """The answers that are classes, kept in the run's folder.

    They are those of ``settings.answers`` where that names a file, else the normalised most common answers of
    all annotated questions that occur often enough.
    """
    if folder.answers_path.is_file():
        return load_vocabulary(folder.answers_path)
    if settings.answers:
        vocabulary = load_vocabulary(Path(settings.answers))
    else:
        given = (record.annotation.most_common for record in records if record.annotation is not None)
        vocabulary = build_vocabulary(map(normalise_answer, given), min_count=settings.min_answer_count)
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
