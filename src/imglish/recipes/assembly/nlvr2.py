"""Joining visual reasoning about two pictures."""

from __future__ import annotations

from collections.abc import Sequence

from imglish.data.formats.nlvr2 import Nlvr2Record
from imglish.data.nlvr2 import Nlvr2Dataset, collate_nlvr2, number_statements
from imglish.data.transforms.image import ImageTransform
from imglish.metrics.accuracy import Nlvr2Accuracy
from imglish.models.beit3.classification_heads import Beit3ForNlvr2
from imglish.recipes.assembly.base import (
    Assembly,
    Shares,
    Splits,
    first,
    nothing_told,
    scoring_transform,
    training_plan,
)
from imglish.recipes.config import Nlvr2Task as Nlvr2Settings, RunConfig
from imglish.recipes.records import statements
from imglish.structures.batches import Nlvr2Batch
from imglish.tasks.nlvr2 import Nlvr2Task
from imglish.text.tokenizer import TextTokenizer


def assemble_nlvr2(
    config: RunConfig, settings: Nlvr2Settings, text: TextTokenizer, shares: Shares, splits: Splits
) -> Assembly[Nlvr2Batch]:
    """Statements about two pictures."""
    size = settings.model.image_size

    def dataset(records: Sequence[Nlvr2Record], transform: ImageTransform) -> Nlvr2Dataset:
        return Nlvr2Dataset(
            records=records,
            transform=transform,
            tokenizer=text,
            max_tokens=settings.max_text_tokens,
            statement_ids=number_statements(records),
        )

    plan = None
    if splits.train:
        train = dataset(statements(config.data, "train"), settings.augment.transform(size))
        plan = training_plan(train, collate_nlvr2, config, shares)
    scored = first(statements(config.data, splits.scored), config.data.num_validation)
    return Assembly(
        task=Nlvr2Task(Beit3ForNlvr2(settings.model), Nlvr2Accuracy()),
        plan=plan,
        evaluation_set=dataset(scored, scoring_transform(size)),
        collate=collate_nlvr2,
        unscored=""
        if any(record.label is not None for record in scored)
        else nothing_told(splits.scored, f"{len(scored)} statements without labels"),
    )
