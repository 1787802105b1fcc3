"""Samples of the three pretraining streams, corrupted, and their collation (BEiT-3, section 2.2).

Where pictures and texts come from is the sources' affair: the World's scenes, or shards on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from imglish.data.buckets import cut_into_buckets
from imglish.data.collate import pad_ids, padding_of, stack_images
from imglish.data.packing import pack_documents
from imglish.data.transforms.image import ImageTransform
from imglish.data.transforms.text import answers_in, mask_words
from imglish.structures.batches import (
    IGNORE,
    Bucket,
    ImageBatch,
    ImageTextBatch,
    MaskedBatch,
    MaskedImages,
    MaskedPairs,
    MaskedText,
)
from imglish.text.tokenizer import BOS, EOS, PAD, UNK, TextTokenizer, with_ends

SPECIAL = frozenset({BOS, PAD, EOS, UNK})

PictureTransform = Callable[[Tensor, np.random.Generator], Tensor]  # uint8 (3, H, W) to the model's size
DrawMask = Callable[[np.random.Generator], np.ndarray]  # bool (rows, columns), True where hidden


class PictureSource(Protocol):
    """Numbered pictures with their texts; reading one may raise DataFormatError."""

    def __len__(self) -> int: ...

    def sample(self, index: int) -> tuple[Tensor, tuple[str, ...]]:
        """Picture uint8 (3, H, W), and the texts that go with it, which may be none."""
        ...


class TextSource(Protocol):
    """Numbered texts."""

    def __len__(self) -> int: ...

    def text(self, index: int) -> str:
        """One document."""
        ...


class TokenSource(Protocol):
    """Stored visual tokens of numbered pictures; reading them may raise DataFormatError."""

    def tokens(self, index: int) -> Tensor:
        """Visual tokens int64 (N,) of picture ``index``."""
        ...


class ImageSample(NamedTuple):
    """A picture uint8 (3, H, W), which patches are hidden bool (N,), and its number in the data set.

    tokens int64 (N,) are its visual tokens where they are stored.
    """

    image: Tensor
    corruption: Tensor
    number: int
    tokens: Tensor | None = None


class TextSample(NamedTuple):
    """A text with hidden words; where it is a question, ``answer`` is the token that answers it."""

    token_ids: list[int]
    targets: list[int]
    answer: int = IGNORE


class PairSample(NamedTuple):
    """A picture with hidden patches and its text with hidden words."""

    image: ImageSample
    text: TextSample


@dataclass(frozen=True, kw_only=True, slots=True)
class WordMasking:
    """How words are hidden.

    Args:
        tokenizer: Of the texts.
        share: Share of words to hide.
        max_tokens: Longest text in tokens.
        answers: True hides, in a text with questions or a judged statement, the answers and nothing else:
            half of the words of a question hidden, nobody could tell what is asked. A single answer is left
            out altogether, to be told at the class token, as fine-tuning will ask for it.
    """

    tokenizer: TextTokenizer
    share: float
    max_tokens: int
    answers: bool = False

    def __call__(self, text: str, rng: np.random.Generator) -> TextSample:
        """Tokenize a text and hide some of its words."""
        if self.asks(text):
            return self._without_answers(text)
        return self.of_ids(self.tokenizer.encode(text), rng)

    def of_ids(self, token_ids: Sequence[int], rng: np.random.Generator) -> TextSample:
        """Hide some of the words of a text in ids without ``<s>`` and the last ``</s>``."""
        ids = with_ends(token_ids, self.max_tokens)
        return TextSample(
            *mask_words(ids, share=self.share, mask_id=self.tokenizer.mask_id, special=SPECIAL, rng=rng)
        )

    def asks(self, text: str) -> bool:
        """True where the answers of this text are hidden."""
        return self.answers and any(is_answer for _, is_answer in answers_in(text))

    def _without_answers(self, text: str) -> TextSample:
        ids, hidden = [], []
        for word, is_answer in answers_in(text):
            pieces = self.tokenizer.encode(word)
            ids += pieces
            hidden += [is_answer and any(map(str.isalnum, p)) for p in self.tokenizer.pieces(pieces)]
        if sum(hidden) == 1:
            place = hidden.index(True)
            question = with_ends(ids[:place], self.max_tokens)
            return TextSample(question, [IGNORE] * len(question), ids[place])
        ids, hidden = with_ends(ids, self.max_tokens), [False, *hidden[: self.max_tokens - 2], False]
        return TextSample(
            [self.tokenizer.mask_id if hide else token for token, hide in zip(ids, hidden, strict=True)],
            [token if hide else IGNORE for token, hide in zip(ids, hidden, strict=True)],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageStream:
    """Pictures, transformed, with hidden patches.

    Args:
        source: Pictures.
        transform: Of the picture; one that draws nothing where tokens are stored, as those are of the whole.
        draw_mask: Which patches are hidden.
        stored: The pictures' visual tokens, where they are stored.
    """

    source: PictureSource
    transform: PictureTransform
    draw_mask: DrawMask
    stored: TokenSource | None = None

    def __len__(self) -> int:
        return len(self.source)

    def get(self, index: int, rng: np.random.Generator) -> ImageSample:
        """Sample ``index``; raises DataFormatError where the picture is damaged."""
        picture, _ = self.source.sample(index)
        image = self.transform(picture, rng)
        tokens = None if self.stored is None else self.stored.tokens(index)
        return ImageSample(image, torch.from_numpy(self.draw_mask(rng).reshape(-1)), index, tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextStream:
    """Documents with hidden words.

    Args:
        source: Documents.
        masking: Which words are hidden, and the length of a sample in tokens.
        packed: True fills a sample up: see `packing.pack_documents`.
    """

    source: TextSource
    masking: WordMasking
    packed: bool = False

    def __len__(self) -> int:
        return len(self.source)

    def get(self, index: int, rng: np.random.Generator) -> TextSample:
        """Sample ``index``; raises DataFormatError where a document of it is damaged."""
        if not self.packed:
            return self.masking(self.source.text(index), rng)

        def encode(number: int) -> list[int]:
            return self.masking.tokenizer.encode(self.source.text(number))

        ids = pack_documents(encode, len(self.source), index, self.masking.max_tokens - 2, rng)
        return self.masking.of_ids(ids, rng)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairStream:
    """Pictures with one of their captions, both with hidden parts.

    Args:
        source: Pictures with captions.
        transform: Of the picture.
        draw_mask: Which patches are hidden.
        masking: Which words are hidden.
        clean_share: Share of pairs whose picture is left whole; 0 in the paper. A picture that a question
            asks about always is, where the answers are hidden.
        stored: The pictures' visual tokens, where they are stored; see `ImageStream`.
    """

    source: PictureSource
    transform: PictureTransform
    draw_mask: DrawMask
    masking: WordMasking
    clean_share: float = 0.0
    stored: TokenSource | None = None

    def __len__(self) -> int:
        return len(self.source)

    def get(self, index: int, rng: np.random.Generator) -> PairSample:
        """Sample ``index`` with a caption drawn among its captions."""
        picture, captions = self.source.sample(index)
        image = self.transform(picture, rng)
        corruption = torch.from_numpy(self.draw_mask(rng).reshape(-1))
        caption = captions[int(rng.integers(len(captions)))]
        if rng.random() < self.clean_share or self.masking.asks(caption):
            corruption = torch.zeros_like(corruption)
        text = self.masking(caption, rng)
        tokens = None if self.stored is None else self.stored.tokens(index)
        return PairSample(ImageSample(image, corruption, index, tokens), text)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedImages:
    """Pictures with one of their captions, nothing hidden: what the contrastive loss reads."""

    source: PictureSource
    transform: ImageTransform
    tokenizer: TextTokenizer
    max_tokens: int

    def __len__(self) -> int:
        return len(self.source)

    def get(self, index: int, rng: np.random.Generator) -> tuple[Tensor, list[int], int]:
        """Picture uint8 (3, H, W), caption ids, and the number of the picture."""
        picture, captions = self.source.sample(index)
        image = self.transform(picture, rng)
        caption = captions[int(rng.integers(len(captions)))]
        return image, self.tokenizer.encode_for_model(caption, self.max_tokens), index


def collate_images(samples: Sequence[ImageSample]) -> ImageBatch:
    """Stack pictures; their masks are left out."""
    return ImageBatch(
        images=stack_images([s.image for s in samples]),
        sample_ids=torch.tensor([s.number for s in samples]),
    )


def collate_masked_images(samples: Sequence[ImageSample]) -> MaskedImages:
    """Stack pictures and their masks."""
    return MaskedImages(
        images=stack_images([s.image for s in samples]),
        corruption=_corruption(samples),
        tokens=_stored([s.tokens for s in samples]),
    )


def collate_captioned(samples: Sequence[tuple[Tensor, list[int], int]]) -> ImageTextBatch:
    """Stack pictures and pad their captions."""
    images, texts, ids = zip(*samples, strict=True)
    return ImageTextBatch(
        images=stack_images(images),
        token_ids=pad_ids(texts),
        padding=padding_of(texts),
        image_ids=torch.tensor(ids),
    )


def collate_masked(
    samples: Mapping[str, Sequence[ImageSample | TextSample | PairSample]],
    *,
    text_buckets: int = 1,
    pair_buckets: int = 1,
) -> MaskedBatch:
    """Join the three streams, keys ``images``, ``texts``, ``pairs``; one without a key is empty.

    Args:
        samples: Of each stream.
        text_buckets: Lengths that the texts of the stream of texts are padded to. Rows are sorted by length
            where there are several; one leaves them in their order.
        pair_buckets: The same of the texts of pairs.
    """
    images = [s for s in samples.get("images", ()) if isinstance(s, ImageSample)]
    texts = [s for s in samples.get("texts", ()) if isinstance(s, TextSample)]
    pairs = [s for s in samples.get("pairs", ()) if isinstance(s, PairSample)]
    if text_buckets > 1:
        texts.sort(key=lambda s: len(s.token_ids))
    if pair_buckets > 1:
        pairs.sort(key=lambda s: len(s.text.token_ids))
    pictures = [s.image for s in pairs]
    return MaskedBatch(
        images=collate_masked_images(images),
        texts=MaskedText(**_padded(texts), buckets=_buckets(texts, text_buckets)),
        pairs=MaskedPairs(
            images=stack_images([s.image for s in pictures]),
            corruption=_corruption(pictures),
            **_padded([s.text for s in pairs]),
            answers=torch.tensor([s.text.answer for s in pairs], dtype=torch.int64),
            tokens=_stored([s.tokens for s in pictures]),
            buckets=_buckets([s.text for s in pairs], pair_buckets),
        ),
    )


def _padded(texts: Sequence[TextSample]) -> dict[str, Tensor]:
    """What the streams of texts and of pairs have in common, by field."""
    return {
        "token_ids": pad_ids([s.token_ids for s in texts]),
        "padding": padding_of([s.token_ids for s in texts]),
        "targets": pad_ids([s.targets for s in texts], fill=IGNORE),
    }


def _buckets(texts: Sequence[TextSample], count: int) -> tuple[Bucket, ...]:
    return cut_into_buckets([len(s.token_ids) for s in texts], count)


def _corruption(samples: Sequence[ImageSample]) -> Tensor:
    """Hidden patches bool (B, N); (0, 0) where there are no samples."""
    return torch.stack([s.corruption for s in samples]) if samples else torch.zeros(0, 0, dtype=torch.bool)


def _stored(tokens: Sequence[Tensor | None]) -> Tensor | None:
    found = [each for each in tokens if each is not None]
    return torch.stack(found) if found else None
