"""Captioned pictures as samples of captioning and retrieval; every caption is a sample of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
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


class Caption(NamedTuple):
    """One caption of a picture."""

    path: Path
    image_id: int
    text: str


def captions_of(records: Iterable[KarpathyRecord], *, only_first: bool = False) -> tuple[Caption, ...]:
    """All captions of some pictures, or the first of each."""
    return tuple(
        Caption(record.path, record.image_id, sentence.text)
        for record in records
        for sentence in (record.sentences[:1] if only_first else record.sentences)
    )


class CaptionSample(NamedTuple):
    """Picture uint8 (3, H, W), caption ids with hidden words, their targets, and the picture's id."""

    image: Tensor
    token_ids: list[int]
    targets: list[int]
    image_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionDataset:
    """Captions, words of which are hidden.

    Args:
        captions: With their pictures.
        transform: Of the pictures.
        tokenizer: Of the captions.
        max_tokens: Captions are cut to this length.
        mask_share: Share of tokens to hide.
        use_pictures: False shows a grey picture instead, for the baseline that knows the language only.
    """

    captions: Sequence[Caption]
    transform: ImageTransform
    tokenizer: TextTokenizer
    max_tokens: int
    mask_share: float
    use_pictures: bool = True

    def __len__(self) -> int:
        return len(self.captions)

    def get(self, index: int, rng: np.random.Generator) -> CaptionSample:
        """Sample ``index``; raises DataFormatError where the picture is damaged."""
        caption = self.captions[index]
        if self.use_pictures:
            image = self.transform(read_picture(caption.path), rng)
        else:
            image = torch.full((3, *self.transform.size), 128, dtype=torch.uint8)
        masked = mask_caption(
            self.tokenizer.encode_for_model(caption.text, self.max_tokens),
            share=self.mask_share,
            mask_id=self.tokenizer.mask_id,
            vocab_size=self.tokenizer.vocab_size,
            rng=rng,
        )
        return CaptionSample(image, *masked, caption.image_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalDataset:
    """Captions whole, with their pictures; fields as in `CaptionDataset`."""

    captions: Sequence[Caption]
    transform: ImageTransform
    tokenizer: TextTokenizer
    max_tokens: int

    def __len__(self) -> int:
        return len(self.captions)

    def get(self, index: int, rng: np.random.Generator) -> tuple[Tensor, list[int], int]:
        """Picture uint8 (3, H, W), caption ids, id of the picture; errors as in `CaptionDataset`."""
        caption = self.captions[index]
        image = self.transform(read_picture(caption.path), rng)
        return image, self.tokenizer.encode_for_model(caption.text, self.max_tokens), caption.image_id


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
