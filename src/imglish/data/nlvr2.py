"""Statements about two pictures as training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from imglish.data.collate import pad_ids, padding_of, stack_images
from imglish.data.formats.nlvr2 import Nlvr2Record
from imglish.data.pictures import read_picture
from imglish.data.transforms.image import ImageTransform
from imglish.errors import DataFormatError
from imglish.structures.batches import Nlvr2Batch
from imglish.text.tokenizer import TextTokenizer


class Nlvr2Sample(NamedTuple):
    """Two pictures uint8 (3, H, W), statement ids, whether it is true, number of statement and of sample."""

    left: Tensor
    right: Tensor
    token_ids: list[int]
    label: int
    statement_id: int
    sample_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Nlvr2Dataset:
    """Statements that are known to be true or false.

    Args:
        records: With labels.
        transform: Of the pictures, each drawn for itself.
        tokenizer: Of the statements.
        max_tokens: Statements are cut to this length.
        statement_ids: Of the records; see `number_statements`.
    """

    records: Sequence[Nlvr2Record]
    transform: ImageTransform
    tokenizer: TextTokenizer
    max_tokens: int
    statement_ids: Sequence[int]

    def __len__(self) -> int:
        return len(self.records)

    def get(self, index: int, rng: np.random.Generator) -> Nlvr2Sample:
        """Sample ``index``; raises DataFormatError where a picture is damaged or no label is known."""
        record = self.records[index]
        if record.label is None:
            raise DataFormatError(f"statement {record.identifier} has no label; expected a labelled split")
        return Nlvr2Sample(
            left=self.transform(read_picture(record.left), rng),
            right=self.transform(read_picture(record.right), rng),
            token_ids=self.tokenizer.encode_for_model(record.sentence, self.max_tokens),
            label=int(record.label),
            statement_id=self.statement_ids[index],
            sample_id=index,
        )


def number_statements(records: Sequence[Nlvr2Record]) -> tuple[int, ...]:
    """A number of each record's statement, equal for the pairs that one statement is about.

    Identifiers are ``<split>-<set>-<pair>-<sentence>``: those of one statement differ in the pair.
    """
    numbers: dict[str, int] = {}
    keys = []
    for record in records:
        *front, _, sentence = record.identifier.split("-")
        keys.append("-".join((*front, sentence)))
    return tuple(numbers.setdefault(key, len(numbers)) for key in keys)


def collate_nlvr2(samples: Sequence[Nlvr2Sample]) -> Nlvr2Batch:
    """Stack pictures and pad statements."""
    texts = [sample.token_ids for sample in samples]
    return Nlvr2Batch(
        left=stack_images([sample.left for sample in samples]),
        right=stack_images([sample.right for sample in samples]),
        token_ids=pad_ids(texts),
        padding=padding_of(texts),
        labels=torch.tensor([sample.label for sample in samples]),
        statement_ids=torch.tensor([sample.statement_id for sample in samples]),
        sample_ids=torch.tensor([sample.sample_id for sample in samples]),
    )
