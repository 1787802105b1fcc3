"""Joining visual reasoning about two pictures."""

from __future__ import annotations

from imglish.data.loader import SinglePlan, Source
from imglish.data.nlvr2 import Nlvr2Dataset, collate_nlvr2, number_statements
from imglish.data.transforms.image import ImageTransform
from imglish.metrics.accuracy import Nlvr2Accuracy
from imglish.models.beit3.classification_heads import Beit3ForNlvr2
from imglish.recipes.assembly.base import Assembly, Shares, first
from imglish.recipes.config import Nlvr2Task as Nlvr2Settings, RunConfig
from imglish.recipes.records import statements
from imglish.structures.batches import Nlvr2Batch
from imglish.tasks.nlvr2 import Nlvr2Task
from imglish.text.tokenizer import TextTokenizer


def assemble_nlvr2(
    config: RunConfig, settings: Nlvr2Settings, text: TextTokenizer, shares: Shares
) -> Assembly[Nlvr2Batch]:
    """Statements about two pictures."""
    size = settings.model.image_size

    def dataset(split: str) -> Nlvr2Dataset:
        scored = split == "validation"
        records = first(statements(config.data, split), config.data.num_validation if scored else 0)
        return Nlvr2Dataset(
            records=records,
            transform=ImageTransform(size=size) if scored else settings.augment.transform(size),
            tokenizer=text,
            max_tokens=settings.max_text_tokens,
            statement_ids=number_statements(records),
        )

    return Assembly(
        task=Nlvr2Task(Beit3ForNlvr2(settings.model), Nlvr2Accuracy()),
        plan=SinglePlan(
            source=Source(
                dataset=dataset("train"),
                per_rank=shares.per_rank(settings.batch_size),
                seed=config.train.seed,
            ),
            collate=collate_nlvr2,
            rank=shares.rank,
            world_size=shares.world_size,
        ),
        evaluation_set=dataset("validation"),
        collate=collate_nlvr2,
    )
