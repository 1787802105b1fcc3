"""Scores that only a drawn scene allows: its graph says what is true of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from imglish.data.collate import pad_ids, padding_of, stack_images
from imglish.data.formats.karpathy import KarpathyRecord
from imglish.data.world.files import WorldFiles, read_scenes
from imglish.data.world.grammar import named_things
from imglish.data.world.language import swapped_caption
from imglish.data.world.scene import Scene
from imglish.metrics.caption_facts import CaptionFacts
from imglish.metrics.retrieval import rejection_rate
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.recipes.assembly.base import readable, scoring_transform
from imglish.text.tokenizer import TextTokenizer


def scenes_of(files: WorldFiles, split: str) -> dict[int, Scene]:
    """Scene graphs by picture id."""
    return {scene.index: scene for scene in read_scenes(files.scenes(split))}


def caption_facts(
    captions: Sequence[str], records: Sequence[KarpathyRecord], files: WorldFiles, split: str = "validation"
) -> dict[str, float]:
    """What written captions say of the things in the scene graphs of a split, over all ranks."""
    metric, scenes = CaptionFacts(), scenes_of(files, split)
    for record, caption in zip(records, captions, strict=True):
        things = [(thing.colour, thing.shape) for thing in scenes[record.image_id].things]
        metric.update([named_things(caption)], [things])
    metric.reduce()
    return metric.compute()


class HardNegatives:
    """How often a caption with one word exchanged is told from the true one."""

    def __init__(
        self,
        model: Beit3ForRetrieval,
        files: WorldFiles,
        records: Sequence[KarpathyRecord],
        text: TextTokenizer,
        max_tokens: int,
        split: str = "validation",
    ) -> None:
        self._model, self._files, self._records, self._split = model, files, records, split
        self._text, self._max_tokens = text, max_tokens
        self._transform = scoring_transform(model.encoder.config.image_size)

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """Share of swapped captions rejected, by the kind of the word."""
        model = self._model.eval()
        scenes, rng = scenes_of(self._files, self._split), np.random.default_rng(7)
        device = next(model.parameters()).device
        records, pictures = readable(self._records, self._transform, "the swapped captions")
        images = stack_images(pictures).to(device)
        vision = model.encode_images(images)
        scores: dict[str, float] = {}
        for kind in ("shape", "colour"):
            true, false = [], []
            for record in records:
                caption = record.sentences[0].text
                true.append(caption)
                false.append(swapped_caption(scenes[record.image_id], rng, kind, caption))
            scores[f"retrieval/rejected_{kind}_swaps"] = rejection_rate(
                vision, self._encode(true, device), self._encode(false, device)
            )
        return scores

    def _encode(self, texts: list[str], device: torch.device) -> Tensor:
        ids = [self._text.encode_for_model(text, self._max_tokens) for text in texts]
        return self._model.encode_texts(pad_ids(ids).to(device), padding_of(ids).to(device))
