"""Accuracy of answers, overall and by question type."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imglish.metrics.base import first_of_each, join_over_ranks


class VqaAccuracy:
    """Mean soft score of the chosen answers (VQAv2's measure over a closed answer set).

    Args:
        question_types: Names of the types that batches number; may be empty.
    """

    def __init__(self, question_types: Sequence[str] = ()) -> None:
        self._types = tuple(question_types)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._rows = [torch.zeros(0, 3, dtype=torch.float64)]  # sample id, question type, score

    def update(self, predicted: Tensor, answers: Tensor, question_types: Tensor, sample_ids: Tensor) -> None:
        """Score a batch.

        Args:
            predicted: Chosen answers, int64 (B,).
            answers: Soft scores of all answers, (B, num_answers).
            question_types: int64 (B,), -1 where none.
            sample_ids: int64 (B,); a sample seen twice counts once.
        """
        score = answers.gather(1, predicted[:, None]).squeeze(1)
        rows = torch.stack([sample_ids.double(), question_types.double(), score.double()], dim=1)
        self._rows.append(rows.cpu())

    def reduce(self) -> None:
        """Join what all ranks have seen."""
        self._rows = [join_over_ranks(torch.cat(self._rows))]

    def compute(self) -> dict[str, float]:
        """``vqa/accuracy`` and ``vqa/accuracy/<type>``, in [0, 1]; nothing where nothing was scored."""
        rows = torch.cat(self._rows)
        rows = rows[first_of_each(rows[:, 0])[1]]
        if len(rows) == 0:
            return {}
        scores = {"vqa/accuracy": rows[:, 2].mean().item()}
        for number, name in enumerate(self._types):
            mine = rows[rows[:, 1] == number, 2]
            if len(mine):
                scores[f"vqa/accuracy/{name}"] = mine.mean().item()
        return scores
