"""Joining the fine-tuning tasks: questions, retrieval, captions, segmentation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imglish.data.captioning import CaptionDataset, CaptionedPictures, CaptionSample, collate_captions
from imglish.data.collate import pad_ids, padding_of, stack_images
from imglish.data.formats.karpathy import KarpathyRecord, read_karpathy
from imglish.data.formats.vqa import VqaRecord, read_vqa
from imglish.data.loader import SinglePlan, Source
from imglish.data.pictures import read_picture
from imglish.data.pretraining import CaptionedImages, collate_captioned
from imglish.data.transforms.image import ImageTransform
from imglish.data.vocabulary import AnswerVocabulary, build_vocabulary, load_vocabulary
from imglish.data.vqa import VqaDataset, collate_vqa
from imglish.data.world.files import KARPATHY_SPLITS, PICTURE_NAME, WorldFiles, read_scenes, read_world
from imglish.data.world.grammar import named_things
from imglish.data.world.language import swapped_caption
from imglish.data.world.questions import KINDS
from imglish.data.world.scene import Scene
from imglish.decoding.beam_search import BeamSearchConfig, beam_search
from imglish.errors import ConfigError
from imglish.metrics.caption_facts import CaptionFacts
from imglish.metrics.retrieval import RetrievalRecall, rejection_rate
from imglish.metrics.vqa_accuracy import VqaAccuracy
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval, Beit3ForVqa
from imglish.recipes.assembly import Assembly, Shares
from imglish.recipes.config import (
    CaptioningTask as CaptioningSettings,
    FolderData,
    RetrievalTask as RetrievalSettings,
    RunConfig,
    VqaTask as VqaSettings,
)
from imglish.recipes.run_folder import RunFolder
from imglish.structures.batches import CaptionBatch, ImageTextBatch, VqaBatch
from imglish.tasks.captioning import CaptioningTask
from imglish.tasks.retrieval import RetrievalTask
from imglish.tasks.vqa import VqaTask
from imglish.text.tokenizer import BOS, EOS, TextTokenizer


def world_of(config: RunConfig) -> WorldFiles:
    """The World that a run reads.

    Raises:
        ConfigError: The run's data is no folder.
    """
    if not isinstance(config.data, FolderData):
        raise ConfigError(
            f"data: a run of {config.task.kind} reads files; give data.kind folder and data.root"
        )
    return read_world(config.data.root)


def assemble_vqa(
    config: RunConfig, settings: VqaSettings, text: TextTokenizer, folder: RunFolder, shares: Shares
) -> Assembly[VqaBatch]:
    """Questions about pictures, with a vocabulary of frequent answers."""
    files = world_of(config)
    records = {split: world_questions(files, split) for split in ("train", "validation")}
    vocabulary = answer_vocabulary(records["train"], settings.min_answer_count, folder)
    dataset = VqaDataset(
        records=records["train"],
        transform=ImageTransform(size=settings.model.image_size),
        tokenizer=text,
        vocabulary=vocabulary,
        question_types=KINDS,
        max_tokens=settings.max_text_tokens,
        use_pictures=settings.use_pictures,
    )
    scored = _first(records["validation"], config.data.num_validation)
    model = Beit3ForVqa(replace(settings.model, output_norm=False), num_answers=len(vocabulary))
    return Assembly(
        task=VqaTask(model, VqaAccuracy(KINDS)),
        plan=SinglePlan(
            source=Source(
                dataset=dataset, per_rank=shares.per_rank(settings.batch_size), seed=config.train.seed
            ),
            collate=collate_vqa,
            rank=shares.rank,
            world_size=shares.world_size,
        ),
        evaluation_set=replace(dataset, records=scored, needs_answer=False),
        collate=collate_vqa,
    )


def assemble_retrieval(
    config: RunConfig, settings: RetrievalSettings, text: TextTokenizer, shares: Shares
) -> Assembly[ImageTextBatch]:
    """Pictures and captions; scored with hard negatives too."""
    files = world_of(config)
    train, validation = (world_captions(files, split) for split in ("train", "validation"))
    validation = _first(validation, config.data.num_validation)

    def dataset(records: tuple[KarpathyRecord, ...], only: int | None) -> CaptionedImages:
        return CaptionedImages(
            source=CaptionedPictures(records=records, only=only),
            transform=ImageTransform(size=settings.model.image_size),
            tokenizer=text,
            max_tokens=settings.max_text_tokens,
        )

    model = Beit3ForRetrieval(settings.model)
    negatives = HardNegatives(model, files, validation, text, settings.max_text_tokens)
    return Assembly(
        task=RetrievalTask(model, RetrievalRecall()),
        plan=SinglePlan(
            source=Source(
                dataset=dataset(train, None),
                per_rank=shares.per_rank(settings.batch_size),
                seed=config.train.seed,
            ),
            collate=collate_captioned,
            rank=shares.rank,
            world_size=shares.world_size,
        ),
        evaluation_set=dataset(validation, 0),
        collate=collate_captioned,
        finish=negatives.scores,
    )


def assemble_captioning(
    config: RunConfig, settings: CaptioningSettings, text: TextTokenizer, shares: Shares
) -> Assembly[CaptionBatch]:
    """Masked captions; scored by what generated captions say of the scene graph."""
    files = world_of(config)
    train, validation = (world_captions(files, split) for split in ("train", "validation"))
    validation = _first(validation, config.data.num_validation)
    dataset = CaptionDataset(
        records=train,
        transform=ImageTransform(size=settings.model.image_size),
        tokenizer=text,
        max_tokens=settings.max_text_tokens,
        mask_share=settings.mask_share,
        use_pictures=settings.use_pictures,
    )
    model = Beit3ForCaptioning(settings.model)
    writer = CaptionWriter(model, settings, text)
    facts = CaptionScores(writer, files, validation, use_pictures=settings.use_pictures)
    return Assembly(
        task=CaptioningTask(model, smoothing=settings.smoothing),
        plan=SinglePlan(
            source=Source(
                dataset=dataset, per_rank=shares.per_rank(settings.batch_size), seed=config.train.seed
            ),
            collate=_collate_captions,
            rank=shares.rank,
            world_size=shares.world_size,
        ),
        evaluation_set=replace(dataset, records=validation),
        collate=_collate_captions,
        finish=facts.scores,
    )


class CaptionWriter:
    """Writes captions by beam search."""

    def __init__(self, model: Beit3ForCaptioning, settings: CaptioningSettings, text: TextTokenizer) -> None:
        self.model, self._text = model, text
        self._search = BeamSearchConfig(
            num_beams=settings.num_beams,
            max_tokens=settings.max_text_tokens,
            length_penalty=settings.length_penalty,
        )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[str]:
        """Captions of pictures (B, 3, H, W) in [-1, 1]."""
        model = self.model.eval()
        found = beam_search(
            lambda memory, words: model.step(memory, words, self._text.mask_id),
            model.start(images),
            batch_size=len(images),
            bos=BOS,
            eos=EOS,
            config=self._search,
            device=images.device,
        )
        return [self._text.decode(hypothesis.words) for hypothesis in found]


class CaptionScores:
    """What generated captions say of the things in the scene graph."""

    def __init__(
        self,
        writer: CaptionWriter,
        files: WorldFiles,
        records: tuple[KarpathyRecord, ...],
        *,
        use_pictures: bool = True,
    ) -> None:
        self._writer, self._files, self._records = writer, files, records
        self._use_pictures = use_pictures

    def scores(self) -> dict[str, float]:
        """Write a caption for every picture and compare what it names with what is there."""
        metric = CaptionFacts()
        scenes = scenes_of(self._files, "validation")
        device = next(self._writer.model.parameters()).device
        for start in range(0, len(self._records), 50):
            records = self._records[start : start + 50]
            images = stack_images([read_picture(record.path) for record in records]).to(device)
            captions = self._writer(images if self._use_pictures else torch.zeros_like(images))
            for record, caption in zip(records, captions, strict=True):
                things = [(thing.colour, thing.shape) for thing in scenes[record.image_id].things]
                metric.update([named_things(caption)], [things])
        return metric.compute()


class HardNegatives:
    """How often a caption with one word exchanged is told from the true one."""

    def __init__(
        self,
        model: Beit3ForRetrieval,
        files: WorldFiles,
        records: tuple[KarpathyRecord, ...],
        text: TextTokenizer,
        max_tokens: int,
    ) -> None:
        self._model, self._files, self._records = model, files, records
        self._text, self._max_tokens = text, max_tokens

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """Share of swapped captions rejected, by the kind of the word."""
        model = self._model.eval()
        scenes, rng = scenes_of(self._files, "validation"), np.random.default_rng(7)
        device = next(model.parameters()).device
        images = stack_images([read_picture(record.path) for record in self._records]).to(device)
        vision = model.encode_images(images)
        scores: dict[str, float] = {}
        for kind in ("shape", "colour"):
            true, false = [], []
            for record in self._records:
                caption = record.sentences[0].text
                true.append(caption)
                false.append(swapped_caption(scenes[record.image_id], rng, kind, caption))
            scores[f"retrieval/rejected_{kind}_swaps"] = rejection_rate(
                vision, self._encode(true, device), self._encode(false, device)
            )
        return scores

    def _encode(self, texts: list[str], device: torch.device) -> Tensor:
        ids = [self._text.encode_for_model(text, self._max_tokens) for text in texts]
        return self._model.encode_texts(pad_ids(ids).to(device), padding_of(ids).to(device))


def question_prior(train: tuple[VqaRecord, ...], validation: tuple[VqaRecord, ...]) -> dict[str, float]:
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


def answer_vocabulary(records: tuple[VqaRecord, ...], min_count: int, folder: RunFolder) -> AnswerVocabulary:
    """The vocabulary in the run's folder, or a new one from the answers of the training questions."""
    if folder.answers_path.is_file():
        return load_vocabulary(folder.answers_path)
    answers = (record.annotation.most_common for record in records if record.annotation is not None)
    vocabulary = build_vocabulary(answers, min_count=min_count)
    vocabulary.save(folder.answers_path)
    return vocabulary


def world_questions(files: WorldFiles, split: str) -> tuple[VqaRecord, ...]:
    """Answered questions of a split of the World."""
    return read_vqa(files.questions(split), files.annotations(split), files.images(split), PICTURE_NAME)


def world_captions(files: WorldFiles, split: str) -> tuple[KarpathyRecord, ...]:
    """Captioned pictures of a split of the World."""
    return read_karpathy(files.karpathy, files.images_root, (KARPATHY_SPLITS[split],))


def scenes_of(files: WorldFiles, split: str) -> dict[int, Scene]:
    """Scene graphs by picture id."""
    return {scene.index: scene for scene in read_scenes(files.scenes(split))}


def _collate_captions(samples: Any) -> CaptionBatch:
    return collate_captions([sample for sample in samples if isinstance(sample, CaptionSample)])


def _first(records: Any, count: int) -> Any:
    return records[:count] if count else records
