"""Captioned pictures as samples of captioning and retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from imglish.data.collate import pad_ids, padding_of, stack_images
from imglish.data.formats.karpathy import KarpathyRecord
from imglish.data.pictures import read_picture
from imglish.data.transforms.image import ImageTransform
from imglish.data.transforms.text import mask_caption
from imglish.structures.batches import IGNORE, CaptionBatch
from imglish.text.tokenizer import TextTokenizer


class CaptionSample(NamedTuple):
    """Picture uint8 (3, H, W), caption ids with hidden words, their targets, and the picture's id."""

    image: Tensor
    token_ids: list[int]
    targets: list[int]
    image_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionDataset:
    """Pictures with one of their captions, words of which are hidden.

    Args:
        records: Pictures with captions.
        transform: Of the pictures.
        tokenizer: Of the captions.
        max_tokens: Captions are cut to this length.
        mask_share: Share of tokens to hide.
        use_pictures: False shows a grey picture instead, for the baseline that knows the language only.
    """

    records: Sequence[KarpathyRecord]
    transform: ImageTransform
    tokenizer: TextTokenizer
    max_tokens: int
    mask_share: float
    use_pictures: bool = True

    def __len__(self) -> int:
        return len(self.records)

    def get(self, index: int, rng: np.random.Generator) -> CaptionSample:
        """Sample ``index``; raises DataFormatError where the picture is damaged."""
        record = self.records[index]
        if self.use_pictures:
            image = self.transform(read_picture(record.path), rng)
        else:
            image = torch.full((3, *self.transform.size), 128, dtype=torch.uint8)
        text = record.sentences[int(rng.integers(len(record.sentences)))].text
        masked = mask_caption(
            self.tokenizer.encode_for_model(text, self.max_tokens),
            share=self.mask_share,
            mask_id=self.tokenizer.mask_id,
            vocab_size=self.tokenizer.vocab_size,
            rng=rng,
        )
        return CaptionSample(image, *masked, record.image_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedPictures:
    """Captioned pictures of a Karpathy file as a picture source; one of its captions, or all.

    Args:
        records: Pictures with captions.
        only: Number of the one caption to give; None gives all.
    """

    records: Sequence[KarpathyRecord]
    only: int | None = None

    def __len__(self) -> int:
        return len(self.records)

    def sample(self, index: int) -> tuple[Tensor, tuple[str, ...]]:
        """Picture uint8 (3, H, W) and its captions."""
        record = self.records[index]
        texts = tuple(sentence.text for sentence in record.sentences)
        return read_picture(record.path), texts if self.only is None else (texts[self.only % len(texts)],)


def collate_captions(samples: Sequence[CaptionSample]) -> CaptionBatch:
    """Stack pictures and pad captions."""
    texts = [sample.token_ids for sample in samples]
    return CaptionBatch(
        images=stack_images([sample.image for sample in samples]),
        token_ids=pad_ids(texts),
        padding=padding_of(texts),
        targets=pad_ids([sample.targets for sample in samples], fill=IGNORE),
        image_ids=torch.tensor([sample.image_id for sample in samples]),
    )
