"""Joining captioning, and writing the captions that are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imglish.data.captioning import CaptionDataset, captions_of, collate_captions
from imglish.data.collate import stack_images
from imglish.data.formats.karpathy import KarpathyRecord
from imglish.data.loader import SinglePlan, Source
from imglish.data.transforms.image import ImageTransform
from imglish.data.world.files import WorldFiles
from imglish.decoding.beam_search import BeamSearchConfig, beam_search
from imglish.metrics.captioning.caption_metrics import CaptionMetrics
from imglish.models.beit3.heads import Beit3ForCaptioning
from imglish.recipes.assembly.base import Assembly, Shares, first, readable
from imglish.recipes.assembly.world_scores import caption_facts
from imglish.recipes.config import CaptioningTask as CaptioningSettings, RunConfig
from imglish.recipes.records import captioned, world_of
from imglish.structures.batches import CaptionBatch
from imglish.tasks.captioning import CaptioningTask
from imglish.text.tokenizer import BOS, EOS, TextTokenizer

_PICTURES_AT_ONCE = 50


def assemble_captioning(
    config: RunConfig, settings: CaptioningSettings, text: TextTokenizer, shares: Shares
) -> Assembly[CaptionBatch]:
    """Masked captions; generated ones are scored, in the World by the scene graph too."""
    size = settings.model.image_size
    validation = first(captioned(config.data, "validation"), config.data.num_validation)
    dataset = CaptionDataset(
        captions=captions_of(captioned(config.data, "train")),
        transform=settings.augment.transform(size),
        tokenizer=text,
        max_tokens=settings.max_text_tokens,
        mask_share=settings.mask_share,
        use_pictures=settings.use_pictures,
    )
    model = Beit3ForCaptioning(settings.model)
    return Assembly(
        task=CaptioningTask(
            model,
            smoothing=settings.smoothing,
            drop_worst=settings.drop_worst,
            drop_after=settings.drop_after,
        ),
        plan=SinglePlan(
            source=Source(
                dataset=dataset, per_rank=shares.per_rank(settings.batch_size), seed=config.train.seed
            ),
            collate=collate_captions,
            rank=shares.rank,
            world_size=shares.world_size,
        ),
        evaluation_set=replace(
            dataset, captions=captions_of(validation, only_first=True), transform=ImageTransform(size=size)
        ),
        collate=collate_captions,
        finish=WrittenCaptions(
            writer=CaptionWriter(model, settings, text), records=validation, world=world_of(config.data)
        ).scores,
    )


class CaptionWriter:
    """Writes captions by beam search."""

    def __init__(self, model: Beit3ForCaptioning, settings: CaptioningSettings, text: TextTokenizer) -> None:
        self.model, self._text, self._settings = model, text, settings
        self.transform = ImageTransform(size=settings.model.image_size)
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
    """What captions of the validation pictures are worth.

    Args:
        writer: Writes them.
        records: The pictures with their references.
        world: The World they are from, or None.
    """

    writer: CaptionWriter
    records: Sequence[KarpathyRecord]
    world: WorldFiles | None

    def scores(self) -> dict[str, float]:
        """BLEU, ROUGE-L and CIDEr, and in the World the share of things that are named rightly."""
        records, pictures = readable(self.records, self.writer.transform, "the captions to score")
        captions = self.writer.write(pictures)
        metrics = CaptionMetrics()
        metrics.update(
            captions,
            [[sentence.text for sentence in record.sentences] for record in records],
            torch.tensor([record.image_id for record in records]),
        )
        facts = {} if self.world is None else caption_facts(captions, records, self.world)
        return metrics.compute() | facts
