"""Losses of question answering and captioning (parity FACTS, section 4)."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from imglish.ops.precision import at_least_fp32


def answer_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """Binary cross entropy over answers: summed over them, averaged over questions.

    Args:
        logits: (B, num_answers).
        answers: Soft scores in [0, 1], (B, num_answers).
    """
    exact = at_least_fp32(logits)
    return F.binary_cross_entropy_with_logits(exact, answers.to(exact.dtype)) * logits.shape[1]


def num_kept_words(num_words: int, keep_share: float) -> int:
    """Of how many masked words `smoothed_word_loss` is a mean: ``keep_share`` rounded down, 1 at least."""
    return max(1, int(keep_share * num_words)) if num_words and keep_share < 1.0 else num_words


def smoothed_word_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    smoothing: float,
    keep_share: float = 1.0,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Kullback-Leibler divergence from smoothed one-hot targets, as the official captioning criterion.

    It differs from smoothed cross entropy by a constant. The off-target mass is spread over V - 1 words.

    Args:
        logits: (M, V) at masked words.
        targets: int64 (M,).
        smoothing: Mass taken from the target, in [0, 1).
        keep_share: Take only this share of smallest losses (the official "drop worst"); 1 keeps all.
        reduction: ``sum`` gives the sum of the losses that are kept (`num_kept_words`), not their mean.

    Returns:
        A scalar; 0 where no word is masked.
    """
    if len(targets) == 0:
        return logits.sum() * 0.0
    num_words = logits.shape[1]
    off = smoothing / (num_words - 1)
    log_p = F.log_softmax(at_least_fp32(logits), dim=-1)
    at_target = log_p.gather(1, targets[:, None]).squeeze(1)
    cross_entropy = -((1 - smoothing - off) * at_target + off * log_p.sum(dim=-1))
    entropy = 0.0
    if smoothing > 0:
        entropy = -((1 - smoothing) * math.log(1 - smoothing) + smoothing * math.log(off))
    losses = cross_entropy - entropy
    if keep_share < 1.0:
        losses = losses.topk(num_kept_words(len(losses), keep_share), largest=False).values
    return losses.mean() if reduction == "mean" else losses.sum()
