"""BEiT-3 with the heads of its uses (section 2.2 and figure 3; details in the parity FACTS, section 3).

Shapes: B batch, T text tokens, C width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder, EncoderOutput, PictureFeatures
from imglish.nn.attention import KeyValue
from imglish.nn.init import init_linear
from imglish.ops.attention import key_mask, merge_masks, prefix_causal_mask
from imglish.structures.batches import IGNORE, MaskedBatch, MaskedPairs, MaskedText, buckets_of
from imglish.structures.tokens import TokenLayout


def _init_head(head: nn.Module, config: Beit3Config) -> None:
    """Start a new head as the encoder starts: small models need larger weights to get going."""
    if config.init == "scaled":
        init_linear(head, std=config.width**-0.5)
    else:
        init_linear(head, cut=1.0)


class MaskedLogits(NamedTuple):
    """Predictions at hidden positions only, one row each, in row-major order of the batch.

    image and pair_image (M, codebook_size); text, pair_text and pair_answer (M, V). M differs from field to
    field. pair_answer is read at the class token of pairs whose text is a question.
    """

    image: Tensor
    text: Tensor
    pair_image: Tensor
    pair_text: Tensor
    pair_answer: Tensor


class Beit3ForMaskedDataModeling(nn.Module):
    """Predict hidden visual tokens and words of three streams (section 2.2).

    Texts of one bucket (see `structures.batches.Bucket`) are encoded together, padded to the longest of them;
    a bucket without padding needs no attention mask, and so may take the fastest attention. What is predicted
    does not depend on the buckets, but for the draws of drop path, which are made bucket by bucket.
    """

    def __init__(self, config: Beit3Config, *, codebook_size: int) -> None:
        super().__init__()
        self.encoder = Beit3Encoder(config)
        self.image_head = nn.Linear(config.width, codebook_size)
        self.text_head = nn.Linear(config.width, config.vocab_size)
        _init_head(self.image_head, config)
        _init_head(self.text_head, config)

    def forward(self, batch: MaskedBatch) -> MaskedLogits:
        """Encode each stream; one call, so that data parallelism sees one forward for one backward.

        An empty stream is not encoded; the heads stay in the graph.
        """
        images, pairs = batch.images, batch.pairs
        image = pair_image = asked = self.text_head.weight.new_zeros(0, self.encoder.config.width)
        if len(images.images):
            image = self.encoder(images.images, corruption=images.corruption).vision[:, 1:][images.corruption]
        _, text = self._read(batch.texts)
        vision, pair_text = self._read(pairs)
        if len(pairs.images):
            pair_image = vision[:, 1:][pairs.corruption]
            asked = vision[:0, 0] if pairs.answers is None else vision[pairs.answers != IGNORE, 0]
        return MaskedLogits(
            image=self.image_head(image),
            text=self.text_head(text),
            pair_image=self.image_head(pair_image),
            pair_text=self.text_head(pair_text),
            pair_answer=self.text_head(asked),
        )

    def _read(self, texts: MaskedText | MaskedPairs) -> tuple[Tensor, Tensor]:
        """Encode texts, or pairs, bucket by bucket.

        Returns:
            Vision tokens (B, 1 + patches, C), none of texts alone, and the hidden words (M, C).
        """
        vision, words, hidden, start = [], [], [], 0
        for bucket in buckets_of(texts):
            rows, length = slice(start, start + bucket.rows), bucket.length
            start += bucket.rows
            padding = texts.padding[rows, :length] if bucket.tokens < bucket.rows * length else None
            token_ids = texts.token_ids[rows, :length]
            if isinstance(texts, MaskedPairs):
                found: EncoderOutput = self.encoder(
                    texts.images[rows], token_ids, padding=padding, corruption=texts.corruption[rows]
                )
            else:
                found = self.encoder(token_ids=token_ids, padding=padding)
            vision.append(found.vision)
            words.append(found.text.flatten(0, 1))
            hidden.append((texts.targets[rows, :length] != IGNORE).flatten())
        if not vision:
            nothing = self.text_head.weight.new_zeros(0, self.encoder.config.width)
            return nothing, nothing
        # Chosen in one go: on an accelerator every choice by a mask waits for the device.
        return torch.cat(vision), torch.cat(words)[torch.cat(hidden)]


class Pooler(nn.Module):
    """Class token to one vector: norm, linear, tanh."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dense = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, C), reading the first."""
        return torch.tanh(self.dense(self.norm(tokens[:, 0])))


class AnswerHead(nn.Module):
    """Two-layer classifier over answers: linear, norm, GELU, linear."""

    def __init__(self, width: int, num_answers: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(2 * width)
        self.output = nn.Linear(2 * width, num_answers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C) to logits (B, num_answers)."""
        y: Tensor = self.output(F.gelu(self.norm(self.dense(x))))
        return y


class Beit3ForVqa(nn.Module):
    """Fusion encoder: score a closed set of answers to a question about a picture.

    Args:
        config: Of the encoder.
        num_answers: Answers to choose among.
        picture_alone: False as published: picture and question see each other. True: the picture does not
            see the question, so that its features serve other questions and other heads as well; the answer
            is read where the question begins, at ``<s>``.
    """

    def __init__(self, config: Beit3Config, *, num_answers: int, picture_alone: bool = False) -> None:
        super().__init__()
        self.picture_alone = picture_alone
        self.encoder = Beit3Encoder(config)
        self.pooler = Pooler(config.width)
        self.head = AnswerHead(config.width, num_answers)
        _init_head(self.pooler, config)
        _init_head(self.head, config)

    def forward(self, images: Tensor, token_ids: Tensor, padding: Tensor | None = None) -> Tensor:
        """Pictures (B, 3, H, W) and questions (B, T) to answer logits (B, num_answers)."""
        if self.picture_alone:
            return self.answer(self.encoder.look(images), token_ids, padding)
        tokens = self.encoder(images, token_ids, padding=padding).tokens
        logits: Tensor = self.head(self.pooler(tokens))
        return logits

    def answer(self, pictures: PictureFeatures, token_ids: Tensor, padding: Tensor | None = None) -> Tensor:
        """`forward` with pictures that were encoded before.

        Raises:
            ValueError: Picture and question see each other in this model.
        """
        if not self.picture_alone:
            raise ValueError("in this model pictures see the question: give pictures, not their features")
        logits: Tensor = self.head(self.pooler(self.encoder.read(token_ids, pictures, padding=padding)))
        return logits


class DualFeatures(NamedTuple):
    """Unit vectors of pictures and of texts, each (B, C), and the factor of their cosines."""

    vision: Tensor
    text: Tensor
    scale: Tensor


class Beit3ForRetrieval(nn.Module):
    """Dual encoder: pictures and texts, each alone, as unit vectors of one space."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.encoder = Beit3Encoder(config)
        self.vision_head = nn.Linear(config.width, config.width, bias=False)
        self.text_head = nn.Linear(config.width, config.width, bias=False)
        for head in (self.vision_head, self.text_head):
            nn.init.trunc_normal_(head.weight, std=0.02, a=-0.02, b=0.02)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, token_ids: Tensor, padding: Tensor | None = None) -> DualFeatures:
        """Pictures (B, 3, H, W) and texts (B, T), each encoded alone."""
        return DualFeatures(
            self.encode_images(images), self.encode_texts(token_ids, padding), self.logit_scale.exp()
        )

    def encode_images(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to unit vectors (B, C)."""
        return F.normalize(self.vision_head(self.encoder(images).vision[:, 0]), dim=-1)

    def project(self, pictures: PictureFeatures) -> Tensor:
        """`encode_images` with pictures that were encoded before."""
        return F.normalize(self.vision_head(pictures.encoded[:, 0]), dim=-1)

    def encode_texts(self, token_ids: Tensor, padding: Tensor | None = None) -> Tensor:
        """Texts (B, T) to unit vectors (B, C)."""
        return F.normalize(
            self.text_head(self.encoder(token_ids=token_ids, padding=padding).text[:, 0]), dim=-1
        )


class CaptionMemory(NamedTuple):
    """What cached generation remembers, by block.

    Args:
        pictures: Keys and values of P pictures, each kept once whatever the number of its beams.
        words: Keys and values of the words of R rows so far; None before the first.
        owners: Which picture each row is about, int64 (R,), each the same number of times in a row.
        num_words: Words so far.
    """

    pictures: list[KeyValue]
    words: list[KeyValue] | None
    owners: Tensor
    num_words: int

    def select(self, rows: Tensor) -> CaptionMemory:
        """Keep the rows ``rows`` int64 (R',) in that order, those of a picture one after the other."""
        owners, words = self.owners[rows], self.words
        if words is not None:
            words = [memory.select(rows) for memory in words]
        kept, owners, counts = torch.unique_consecutive(owners, return_inverse=True, return_counts=True)
        if bool((counts != counts[0]).any()):  # rows of unequal number can not share
            kept, owners = kept[owners], torch.arange(len(rows), device=rows.device)
        unchanged = len(kept) == len(self.pictures[0].keys) and bool((kept.diff() == 1).all())
        pictures = self.pictures if unchanged else [memory.select(kept) for memory in self.pictures]
        return CaptionMemory(pictures, words, owners, self.num_words)


class Beit3ForCaptioning(nn.Module):
    """Image-to-text generator: predict masked words that see the picture and the words before them.

    Args:
        config: Of the encoder.
        picture_alone: False as published: in blocks with fusion experts these encode the picture too. True:
            the picture is encoded as one without a text, so that its features serve other heads as well.
            Without fusion experts both are the same.
    """

    def __init__(self, config: Beit3Config, *, picture_alone: bool = False) -> None:
        super().__init__()
        self.picture_alone = picture_alone or not config.num_fusion_layers
        self.encoder = Beit3Encoder(config)
        self.text_head = nn.Linear(config.width, config.vocab_size)
        _init_head(self.text_head, config)

    def forward(self, images: Tensor, token_ids: Tensor, padding: Tensor, positions: Tensor) -> Tensor:
        """Logits of masked words.

        Args:
            images: (B, 3, H, W).
            token_ids: Caption with mask tokens, int64 (B, T).
            padding: bool (B, T), True where padded.
            positions: bool (B, T), True where a word is to be predicted.

        Returns:
            Logits (M, V), a row for each True of ``positions``.
        """
        if self.picture_alone and self.encoder.config.num_fusion_layers:
            words = torch.ones(2 * token_ids.shape[1:], dtype=torch.bool, device=token_ids.device).tril()
            read = self.encoder.read(
                token_ids, self.encoder.look(images), padding=padding, attention_mask=words
            )
            chosen: Tensor = self.text_head(read[positions])
            return chosen
        x, layout, padding_all = self.encoder.embed(images, token_ids, padding=padding)
        mask = merge_masks(
            key_mask(padding_all) if padding_all is not None else None,
            prefix_causal_mask(layout, x.device),
        )
        for block in self.encoder.blocks:
            x = block(x, layout, mask)
        text = self.encoder.normalise(x, layout)[:, layout.num_vision :]
        logits: Tensor = self.text_head(text[positions])
        return logits

    def start(self, images: Tensor) -> CaptionMemory:
        """Read pictures (B, 3, H, W) once; no word is written yet."""
        if self.picture_alone:
            return self.remember(self.encoder.look(images))
        x = self.encoder.vision_embedding(images)
        layout = TokenLayout(num_vision=x.shape[1], num_text=0, of_pair=True)
        _, seen = self.encoder.extend(x, layout, past=None, mask=None)
        return CaptionMemory(seen, None, torch.arange(len(images), device=x.device), num_words=0)

    def remember(self, pictures: PictureFeatures) -> CaptionMemory:
        """`start` with pictures that were encoded before.

        Raises:
            ValueError: In this model captioned pictures are encoded by the fusion experts.
        """
        if not self.picture_alone:
            raise ValueError("this model encodes pictures by fusion experts: give pictures, not features")
        rows = torch.arange(len(pictures.encoded), device=pictures.encoded.device)
        return CaptionMemory(list(pictures.memory), None, rows, num_words=0)

    def step(self, memory: CaptionMemory, words: Tensor, mask_id: int) -> tuple[Tensor, CaptionMemory]:
        """Write one word and predict the next.

        The word and a mask token are fed together; the prediction is read at the mask, which is then
        forgotten (parity FACTS, section 5).

        Args:
            memory: What was seen so far.
            words: The words just written, int64 (B,), ``<s>`` first.
            mask_id: Id of the mask token.

        Returns:
            Log-probabilities of the next word (B, V), and the memory with ``words`` in it.
        """
        token_ids = torch.stack([words, torch.full_like(words, mask_id)], dim=1)
        x = self.encoder.text_embedding(token_ids, start=memory.num_words)
        allowed = torch.ones(2, memory.num_words + 2, dtype=torch.bool, device=words.device)
        allowed[0, -1] = False
        layout = TokenLayout(num_vision=0, num_text=2, of_pair=True)
        y, seen = self.encoder.extend(x, layout, memory.words, allowed, shared=memory.pictures)
        log_probabilities = F.log_softmax(self.text_head(y[:, 1]).float(), dim=-1)
        kept = [block.first(memory.num_words + 1) for block in seen]
        return log_probabilities, memory._replace(words=kept, num_words=memory.num_words + 1)
