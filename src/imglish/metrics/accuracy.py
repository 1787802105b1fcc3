"""Accuracy of classes, and of statements about pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from imglish.metrics.base import first_of_each, join_over_ranks


class ClassAccuracy:
    """Share of pictures whose class is the most probable one, or among the five most probable."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._rows = [torch.zeros(0, 2, dtype=torch.int64)]  # sample id, place of the right class

    def update(self, logits: Tensor, labels: Tensor, sample_ids: Tensor) -> None:
        """Score a batch.

        Args:
            logits: (B, num_classes); among equal ones the first class wins, and NaN never does.
            labels: The right classes, int64 (B,).
            sample_ids: int64 (B,); a sample seen twice counts once.
        """
        of_label = logits.gather(1, labels[:, None])
        earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
        # Also true where either is NaN, so that a model that broke is not taken for a perfect one.
        above = ~(logits <= of_label) | ((logits == of_label) & earlier)
        self._rows.append(torch.stack([sample_ids, above.sum(dim=1)], dim=1).cpu())

    def reduce(self) -> None:
        """Join what all ranks have seen."""
        self._rows = [join_over_ranks(torch.cat(self._rows))]

    def compute(self) -> dict[str, float]:
        """``classification/top_1_accuracy`` and its ``top_5``, in [0, 1]; empty where nothing was scored."""
        rows = torch.cat(self._rows)
        places = rows[first_of_each(rows[:, 0])[1], 1]
        if len(places) == 0:
            return {}
        return {
            f"classification/top_{count}_accuracy": (places < count).double().mean().item()
            for count in (1, 5)
        }


class Nlvr2Accuracy:
    """Accuracy of single judgements, and consistency: statements that are judged right of every pair.

    A statement of NLVR2 comes with up to four pairs of pictures (Suhr et al. 2019, section 5).
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._rows = [torch.zeros(0, 3, dtype=torch.int64)]  # sample id, statement id, whether right

    def update(self, predicted: Tensor, labels: Tensor, statement_ids: Tensor, sample_ids: Tensor) -> None:
        """Score a batch; all int64 (B,).

        Args:
            predicted: 1 where the statement is judged true, else 0.
            labels: 1 where it is true, else 0.
            statement_ids: Equal for the pairs of one statement.
            sample_ids: A sample seen twice counts once.
        """
        right = (predicted == labels).long()
        self._rows.append(torch.stack([sample_ids, statement_ids, right], dim=1).cpu())

    def reduce(self) -> None:
        """Join what all ranks have seen."""
        self._rows = [join_over_ranks(torch.cat(self._rows))]

    def compute(self) -> dict[str, float]:
        """``nlvr2/accuracy`` and ``nlvr2/consistency`` in [0, 1]; nothing where nothing was scored."""
        rows = torch.cat(self._rows)
        rows = rows[first_of_each(rows[:, 0])[1]]
        if len(rows) == 0:
            return {}
        right = rows[:, 2]
        statements, place = torch.unique(rows[:, 1], return_inverse=True)
        always = torch.ones_like(statements).scatter_reduce(0, place, right, reduce="amin")
        return {
            "nlvr2/accuracy": right.double().mean().item(),
            "nlvr2/consistency": always.double().mean().item(),
        }
