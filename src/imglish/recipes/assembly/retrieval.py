"""Joining image-text retrieval."""

from __future__ import annotations

from imglish.data.captioning import RetrievalDataset, captions_of
from imglish.data.loader import SinglePlan, Source
from imglish.data.pretraining import collate_captioned
from imglish.data.transforms.image import ImageTransform
from imglish.errors import ConfigError
from imglish.metrics.retrieval import RetrievalRecall
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.recipes.assembly.base import Assembly, Shares, first
from imglish.recipes.assembly.world_scores import HardNegatives
from imglish.recipes.config import RetrievalTask as RetrievalSettings, RunConfig
from imglish.recipes.records import captioned, world_of
from imglish.structures.batches import ImageTextBatch
from imglish.tasks.retrieval import RetrievalTask
from imglish.text.tokenizer import TextTokenizer


def assemble_retrieval(
    config: RunConfig, settings: RetrievalSettings, text: TextTokenizer, shares: Shares
) -> Assembly[ImageTextBatch]:
    """Pictures and captions; in the World scored with hard negatives too.

    Every caption of a validation picture is scored, as in the official evaluation; of the World's the first
    one, so that R@1 is among as many captions as pictures.
    """
    if settings.chunk_size and shares.grad_accumulation > 1:
        raise ConfigError(
            "task.chunk_size and train.grad_accumulation both save memory, but only chunks let all pairs "
            "compete; set grad_accumulation to 1"
        )
    world, size = world_of(config.data), settings.model.image_size
    train = captions_of(captioned(config.data, "train"))
    validation = first(captioned(config.data, "validation"), config.data.num_validation)
    dataset = RetrievalDataset(
        captions=train,
        transform=settings.augment.transform(size),
        tokenizer=text,
        max_tokens=settings.max_text_tokens,
    )
    scored = RetrievalDataset(
        captions=captions_of(validation, only_first=world is not None),
        transform=ImageTransform(size=size),
        tokenizer=text,
        max_tokens=settings.max_text_tokens,
    )
    model = Beit3ForRetrieval(settings.model)
    return Assembly(
        task=RetrievalTask(model, RetrievalRecall(), chunk_size=settings.chunk_size),
        plan=SinglePlan(
            source=Source(
                dataset=dataset, per_rank=shares.per_rank(settings.batch_size), seed=config.train.seed
            ),
            collate=collate_captioned,
            rank=shares.rank,
            world_size=shares.world_size,
        ),
        evaluation_set=scored,
        collate=collate_captioned,
        finish=None
        if world is None
        else HardNegatives(model, world, validation, text, settings.max_text_tokens).scores,
    )
