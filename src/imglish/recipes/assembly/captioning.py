"""Joining captioning, and writing the captions that are scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imglish.data.captioning import CaptionDataset, captions_of, collate_captions
from imglish.data.collate import stack_images
from imglish.data.formats.karpathy import KarpathyRecord
from imglish.data.formats.nocaps import DOMAINS
from imglish.data.transforms.image import ImageTransform
from imglish.data.world.files import WorldFiles
from imglish.decoding.beam_search import BeamSearchConfig, beam_search
from imglish.metrics.captioning.caption_metrics import CaptionMetrics
from imglish.models.beit3.heads import Beit3ForCaptioning
from imglish.recipes.assembly.base import (
    Assembly,
    Shares,
    Splits,
    first,
    nothing_told,
    readable,
    scoring_transform,
    training_plan,
)
from imglish.recipes.assembly.world_scores import caption_facts
from imglish.recipes.config import CaptioningTask as CaptioningSettings, RunConfig
from imglish.recipes.records import WORLD_SPLITS, captioned, world_of
from imglish.structures.batches import CaptionBatch
from imglish.tasks.captioning import CaptioningTask
from imglish.text.tokenizer import BOS, EOS, TextTokenizer

_PICTURES_AT_ONCE = 50


def assemble_captioning(
    config: RunConfig, settings: CaptioningSettings, text: TextTokenizer, shares: Shares, splits: Splits
) -> Assembly[CaptionBatch]:
    """Masked captions; generated ones are scored, in the World by the scene graph too.

    Raises:
        DataFormatError: A file is missing or damaged.
    """
    size = settings.model.image_size
    scored = first(captioned(config.data, splits.scored), config.data.num_validation)

    def dataset(
        records: Sequence[KarpathyRecord], transform: ImageTransform, *, first: bool
    ) -> CaptionDataset:
        return CaptionDataset(
            captions=captions_of(records, only_first=first),
            transform=transform,
            tokenizer=text,
            max_tokens=settings.max_text_tokens,
            mask_share=settings.mask_share,
            use_pictures=settings.use_pictures,
        )

    plan = None
    if splits.train:
        train = dataset(captioned(config.data, "train"), settings.augment.transform(size), first=False)
        plan = training_plan(train, collate_captions, config, shares)
    model = Beit3ForCaptioning(settings.model, picture_alone=settings.picture_alone)
    return Assembly(
        task=CaptioningTask(
            model,
            smoothing=settings.smoothing,
            drop_worst=settings.drop_worst,
            drop_after=settings.drop_after,
        ),
        plan=plan,
        evaluation_set=dataset(scored, scoring_transform(size), first=True),
        collate=collate_captions,
        finish=WrittenCaptions(
            writer=CaptionWriter(model, settings, text),
            records=scored,
            split=splits.scored,
            world=world_of(config.data),
            shares=shares,
        ).scores,
        unscored=""
        if any(record.sentences for record in scored)
        else nothing_told(splits.scored, f"{len(scored)} pictures without captions"),
    )


class CaptionWriter:
    """Writes captions by beam search."""

    def __init__(self, model: Beit3ForCaptioning, settings: CaptioningSettings, text: TextTokenizer) -> None:
        self.model, self._text, self._settings = model, text, settings
        self.transform = scoring_transform(settings.model.image_size)
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

    def write(self, pictures: Sequence[Tensor]) -> list[str]:
        """A caption for each picture uint8 (3, H, W); grey pictures where the run uses none."""
        captions: list[str] = []
        device = next(self.model.parameters()).device
        for start in range(0, len(pictures), _PICTURES_AT_ONCE):
            images = stack_images(pictures[start : start + _PICTURES_AT_ONCE])
            captions += self((images if self._settings.use_pictures else torch.zeros_like(images)).to(device))
        return captions


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenCaptions:
    """What captions of the scored pictures are worth.

    Args:
        writer: Writes them.
        records: The pictures with their references.
        split: What they are called, "validation" or "test".
        world: The World they are from, or None.
        shares: Each rank writes captions of its share of the pictures.
    """

    writer: CaptionWriter
    records: Sequence[KarpathyRecord]
    split: str
    world: WorldFiles | None
    shares: Shares

    def scores(self) -> dict[str, float]:
        """BLEU, ROUGE-L and CIDEr; in the World the share of things that are named rightly.

        In NoCaps those of each domain too, as ``caption/cider/near-domain``: each is scored as a set of its
        own, as the official evaluation does, and the scores without a domain are those of the entire set.
        """
        written = list(self._write(self.records[self.shares.rank :: self.shares.world_size]))
        scores = _caption_scores(written)
        for domain in DOMAINS:
            own = [(record, caption) for record, caption in written if record.domain == domain]
            # Asked of all records: all ranks must take part in joining what they have seen, or none.
            if any(record.domain == domain for record in self.records):
                scores |= {f"{name}/{domain}": score for name, score in _caption_scores(own).items()}
        if self.world is not None:
            records, captions = [record for record, _ in written], [caption for _, caption in written]
            scores |= caption_facts(captions, records, self.world, WORLD_SPLITS[self.split])
        return scores

    def _write(self, records: Sequence[KarpathyRecord]) -> Iterator[tuple[KarpathyRecord, str]]:
        """Pictures that decode, with their captions; no more are held at once than the model sees."""
        for start in range(0, len(records), _PICTURES_AT_ONCE):
            some = records[start : start + _PICTURES_AT_ONCE]
            kept, pictures = readable(some, self.writer.transform, "the captions to score")
            yield from zip(kept, self.writer.write(pictures), strict=True)


def _caption_scores(written: Sequence[tuple[KarpathyRecord, str]]) -> dict[str, float]:
    """Scores of captions against those of people, over all ranks."""
    metrics = CaptionMetrics()
    metrics.update(
        [caption for _, caption in written],
        [[sentence.text for sentence in record.sentences] for record, _ in written],
        torch.tensor([record.image_id for record, _ in written], dtype=torch.int64),
    )
    metrics.reduce()
    return metrics.compute()
