from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from imglish.losses.answers import answer_loss, smoothed_word_loss
from imglish.losses.contrastive import contrastive_loss
from imglish.losses.segmentation import pixel_cross_entropy


def test_answer_loss_sums_over_answers_and_averages_over_questions() -> None:
    logits, answers = torch.zeros(2, 5), torch.zeros(2, 5)
    assert answer_loss(logits, answers).item() == pytest.approx(5 * math.log(2))


def test_word_loss_is_the_divergence_from_the_smoothed_target() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 9), torch.randint(0, 9, (6,))
    smoothed = torch.full((6, 9), 0.1 / 8).scatter(1, targets[:, None], 0.9)
    expected = F.kl_div(F.log_softmax(logits, 1), smoothed, reduction="none").sum(1).mean()
    torch.testing.assert_close(smoothed_word_loss(logits, targets, smoothing=0.1), expected)


def test_word_loss_without_smoothing_is_cross_entropy() -> None:
    logits, targets = torch.randn(6, 9), torch.randint(0, 9, (6,))
    torch.testing.assert_close(
        smoothed_word_loss(logits, targets, smoothing=0.0), F.cross_entropy(logits, targets)
    )


def test_word_loss_can_leave_out_the_worst() -> None:
    logits = torch.zeros(5, 4)
    logits[4, 0] = 50.0  # its target is another word: a loss near 50
    targets = torch.tensor([0, 1, 2, 3, 1])
    assert smoothed_word_loss(logits, targets, smoothing=0.0, keep_share=0.8).item() == pytest.approx(
        math.log(4)
    )


def test_contrastive_loss_is_the_mean_of_both_directions() -> None:
    torch.manual_seed(0)
    vision, text = F.normalize(torch.randn(4, 8), dim=1), F.normalize(torch.randn(4, 8), dim=1)
    logits = 10 * vision @ text.T
    expected = (F.cross_entropy(logits, torch.arange(4)) + F.cross_entropy(logits.T, torch.arange(4))) / 2
    torch.testing.assert_close(contrastive_loss(vision, text, torch.tensor(10.0)), expected)


def test_pixels_without_a_label_count_in_the_divisor_only() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    whole = pixel_cross_entropy(logits, masks)
    masks[0, :2] = 255
    lower = F.cross_entropy(logits[:, :, 2:], masks[:, 2:])
    torch.testing.assert_close(pixel_cross_entropy(logits, masks), lower / 2)
    masks[:] = 255
    assert pixel_cross_entropy(logits, masks) == 0 and whole > 0


def test_a_caption_batch_without_a_hidden_word_loses_nothing() -> None:
    logits = torch.zeros(0, 30, requires_grad=True)
    for keep_share in (1.0, 0.5):
        loss = smoothed_word_loss(
            logits, torch.zeros(0, dtype=torch.int64), smoothing=0.1, keep_share=keep_share
        )
        assert loss == 0
        loss.backward()
