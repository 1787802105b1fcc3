"""Joining image-text retrieval."""

from __future__ import annotations

from collections.abc import Sequence

from imglish.data.captioning import RetrievalDataset, captions_of
from imglish.data.formats.karpathy import KarpathyRecord
from imglish.data.pretraining import collate_captioned
from imglish.data.transforms.image import ImageTransform
from imglish.metrics.retrieval import RetrievalRecall
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.recipes.assembly.base import (
    Assembly,
    Shares,
    Splits,
    check_chunks,
    first,
    nothing_told,
    scoring_transform,
    training_plan,
)
from imglish.recipes.assembly.world_scores import HardNegatives
from imglish.recipes.config import RetrievalTask as RetrievalSettings, RunConfig
from imglish.recipes.records import WORLD_SPLITS, captioned, world_of
from imglish.structures.batches import ImageTextBatch
from imglish.tasks.retrieval import RetrievalTask
from imglish.text.tokenizer import TextTokenizer


def assemble_retrieval(
    config: RunConfig, settings: RetrievalSettings, text: TextTokenizer, shares: Shares, splits: Splits
) -> Assembly[ImageTextBatch]:
    """Pictures and captions; in the World scored with hard negatives too.

    Every caption of a scored picture counts, as in the official evaluation; of the World's the first one, so
    that R@1 is among as many captions as pictures.

    Raises:
        ConfigError: Chunks and micro steps are asked for at once.
        DataFormatError: A file is missing or damaged.
    """
    check_chunks(settings.chunk_size, shares)
    world, size = world_of(config.data), settings.model.image_size
    scored = first(captioned(config.data, splits.scored), config.data.num_validation)

    def dataset(
        records: Sequence[KarpathyRecord], transform: ImageTransform, *, first: bool
    ) -> RetrievalDataset:
        return RetrievalDataset(
            captions=captions_of(records, only_first=first),
            transform=transform,
            tokenizer=text,
            max_tokens=settings.max_text_tokens,
        )

    plan = None
    if splits.train:
        train = dataset(captioned(config.data, "train"), settings.augment.transform(size), first=False)
        plan = training_plan(train, collate_captioned, config, shares)
    model = Beit3ForRetrieval(settings.model)
    return Assembly(
        task=RetrievalTask(model, RetrievalRecall(), chunk_size=settings.chunk_size),
        plan=plan,
        evaluation_set=dataset(scored, scoring_transform(size), first=world is not None),
        collate=collate_captioned,
        unscored=""
        if any(record.sentences for record in scored)
        else nothing_told(splits.scored, f"{len(scored)} pictures without captions"),
        finish=None
        if world is None
        else HardNegatives(
            model, world, scored, text, settings.max_text_tokens, WORLD_SPLITS[splits.scored]
        ).scores,
    )
