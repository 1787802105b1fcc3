"""The scores equal those of pycocoevalcap 1.2, recorded with Java in tests/metrics/data/caption_scores.json.

``record_scores.py`` in this folder made the file and says how.
"""

from __future__ import annotations

import pytest
import torch

from imglish.metrics.captioning.bleu import bleu
from imglish.metrics.captioning.caption_metrics import CaptionMetrics
from imglish.metrics.captioning.cider import cider
from imglish.metrics.captioning.ptb_tokenizer import caption_words
from imglish.metrics.captioning.rouge import rouge_l
from tests.metrics.captioning.world_captions import NUM_SCENES, RECORDED, recorded

TOLERANCE = 1e-6  # the recorded ones have nine digits


def test_every_caption_scores_what_the_official_scorer_gave_it() -> None:
    captions, scores = recorded()
    candidates = caption_words(captions.candidates)
    references = [caption_words(texts) for texts in captions.references]
    assert len(candidates) == NUM_SCENES
    assert bleu(candidates, references) == pytest.approx(tuple(scores["bleu"]), abs=TOLERANCE)
    assert rouge_l(candidates, references) == pytest.approx(scores["rouge_l"], abs=TOLERANCE)
    assert cider(candidates, references) == pytest.approx(scores["cider"], abs=TOLERANCE)


def test_the_metric_reports_the_official_scores_of_the_set() -> None:
    captions, scores = recorded()
    metric = CaptionMetrics()
    metric.update(captions.candidates, captions.references, torch.arange(NUM_SCENES))
    expected = {f"caption/bleu_{i}": score for i, score in enumerate(scores["bleu"], start=1)}
    expected |= {f"caption/{name}": sum(scores[name]) / NUM_SCENES for name in ("rouge_l", "cider")}
    assert metric.compute() == pytest.approx(expected, abs=TOLERANCE)


def test_the_recorded_captions_are_of_all_kinds() -> None:
    _, scores = recorded()
    assert min(scores["cider"]) < 0.2 and max(scores["cider"]) > 4
    assert min(scores["rouge_l"]) < 0.2 and max(scores["rouge_l"]) > 0.7
    assert RECORDED.stat().st_size < 100_000
