"""Image-text retrieval scores, as the official evaluation has them (parity FACTS, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from imglish.metrics.base import first_of_each, join_over_ranks

_CUTS = (1, 5, 10)


class RetrievalRecall:
    """Recall at 1, 5 and 10, texts for pictures and pictures for texts.

    There is one entry for each text. A picture that comes with several texts counts once: its first
    feature is kept. A picture is found where any of its texts ranks among the first k. Every text counts, so
    that ranks must share them out without repeats: two texts of a picture may well be of the same words.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._vision = [torch.zeros(0)]
        self._text = [torch.zeros(0)]
        self._ids = [torch.zeros(0, dtype=torch.int64)]

    def update(self, vision: Tensor, text: Tensor, image_ids: Tensor) -> None:
        """Collect unit vectors (B, C) of pictures and their texts, and the pictures' ids int64 (B,)."""
        self._vision.append(vision.float().cpu())
        self._text.append(text.float().cpu())
        self._ids.append(image_ids.cpu())

    def reduce(self) -> None:
        """Join what all ranks have seen."""
        self._vision = [join_over_ranks(torch.cat(self._vision))]
        self._text = [join_over_ranks(torch.cat(self._text))]
        self._ids = [join_over_ranks(torch.cat(self._ids))]

    def compute(self) -> dict[str, float]:
        """``retrieval/text_recall_at_k``, ``retrieval/image_recall_at_k`` and their mean, in [0, 1].

        ``text_recall`` finds texts for pictures, ``image_recall`` pictures for texts; nothing where nothing
        was collected.
        """
        text_ids = torch.cat(self._ids)
        if len(text_ids) == 0:
            return {}
        text, all_vision = torch.cat(self._text), torch.cat(self._vision)
        image_ids, first = first_of_each(text_ids)
        similarity = text @ all_vision[first].T  # (texts, pictures)
        scores: dict[str, float] = {}
        for k in _CUTS:
            found = similarity.topk(min(k, len(image_ids)), dim=1).indices
            image_recall = (image_ids[found] == text_ids[:, None]).any(dim=1)
            found = similarity.T.topk(min(k, len(text_ids)), dim=1).indices
            text_recall = (text_ids[found] == image_ids[:, None]).any(dim=1)
            scores[f"retrieval/text_recall_at_{k}"] = text_recall.float().mean().item()
            scores[f"retrieval/image_recall_at_{k}"] = image_recall.float().mean().item()
        scores["retrieval/average"] = sum(scores.values()) / len(scores)
        return scores


def rejection_rate(vision: Tensor, text: Tensor, wrong_text: Tensor) -> float:
    """Share of pictures that lie nearer to their text than to its falsified form.

    Args:
        vision: Unit vectors (B, C) of pictures.
        text: Unit vectors (B, C) of true texts.
        wrong_text: Unit vectors (B, C) of the same texts with one word exchanged.
    """
    return ((vision * text).sum(1) > (vision * wrong_text).sum(1)).float().mean().item()
