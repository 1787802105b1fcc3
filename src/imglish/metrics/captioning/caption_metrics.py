"""BLEU, ROUGE-L and CIDEr of captions, built up batch by batch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, distributed as dist

from imglish.metrics.captioning.bleu import bleu
from imglish.metrics.captioning.cider import cider
from imglish.metrics.captioning.ptb_tokenizer import caption_words
from imglish.metrics.captioning.rouge import rouge_l

Row = tuple[int, str, tuple[str, ...]]  # picture's id, caption, human captions


class CaptionMetrics:
    """The scores of COCO's caption evaluation that need no Java, equal to those of ``pycocoevalcap``.

    There is one caption of each picture. A picture seen twice, as those that fill up the last batch are,
    counts once. All are scored together at the end, in the order of the pictures' ids: CIDEr weighs words by
    the whole set, and BLEU is no mean.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._rows: list[Row] = []

    def update(self, captions: Sequence[str], references: Sequence[Sequence[str]], image_ids: Tensor) -> None:
        """Collect captions as plain text, not yet split into words.

        Args:
            captions: The captions to score, B of them.
            references: For each its human captions, at least one.
            image_ids: The pictures' ids, int64 (B,).

        Raises:
            ValueError: If there are not as many of each, or a picture has no human caption.
        """
        for caption, own_references, image_id in zip(captions, references, image_ids.tolist(), strict=True):
            if not own_references:
                raise ValueError(f"picture {image_id} has no reference caption to be scored against")
            self._rows.append((image_id, caption, tuple(own_references)))

    def reduce(self) -> None:
        """Join what all ranks have seen."""
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            parts: list[list[Row]] = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(parts, self._rows)
            self._rows = [row for part in parts for row in part]

    def compute(self) -> dict[str, float]:
        """``caption/bleu_1`` to ``_4`` and ``caption/rouge_l`` in [0, 1], ``caption/cider`` in [0, 10].

        Published tables show all of them times 100. Nothing where nothing was collected.
        """
        first: dict[int, Row] = {}
        for row in self._rows:
            first.setdefault(row[0], row)
        rows = [first[image_id] for image_id in sorted(first)]
        if not rows:
            return {}
        candidates = caption_words([caption for _, caption, _ in rows])
        words = iter(caption_words([reference for *_, references in rows for reference in references]))
        references = [[next(words) for _ in own_references] for *_, own_references in rows]
        scores = {f"caption/bleu_{i}": score for i, score in enumerate(bleu(candidates, references), start=1)}
        rouge, consensus = rouge_l(candidates, references), cider(candidates, references)
        scores["caption/rouge_l"] = sum(rouge) / len(rouge)
        scores["caption/cider"] = sum(consensus) / len(consensus)
        return scores
