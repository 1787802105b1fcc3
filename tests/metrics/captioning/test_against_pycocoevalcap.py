"""The same words and scores as pycocoevalcap itself, where it and Java are installed."""

from __future__ import annotations

import shutil

import pytest

from imglish.metrics.captioning.bleu import bleu
from imglish.metrics.captioning.cider import cider
from imglish.metrics.captioning.ptb_tokenizer import caption_words
from imglish.metrics.captioning.rouge import rouge_l
from tests.metrics.captioning.record_scores import official_scores, tokenized
from tests.metrics.captioning.test_ptb_tokenizer import TOKENS
from tests.metrics.captioning.world_captions import Captions, drawn

pytest.importorskip("pycocoevalcap")

TOLERANCE = 1e-12  # the same sums in another order


def joined(words: list[str]) -> str:
    return " ".join(words)


def test_captions_of_the_world_score_the_same() -> None:
    captions = drawn()
    candidates = caption_words(captions.candidates)
    references = [caption_words(texts) for texts in captions.references]
    scores = official_scores(
        {i: [joined(words) for words in texts] for i, texts in enumerate(references)},
        {i: [joined(words)] for i, words in enumerate(candidates)},
    )
    assert bleu(candidates, references) == pytest.approx(tuple(scores["bleu"]), abs=TOLERANCE)
    assert rouge_l(candidates, references) == pytest.approx(scores["rouge_l"], abs=TOLERANCE)
    assert cider(candidates, references) == pytest.approx(scores["cider"], abs=TOLERANCE)


@pytest.mark.skipif(shutil.which("java") is None, reason="Stanford's tokenizer needs Java")
def test_captions_fall_into_the_same_words() -> None:
    captions = drawn()
    lines = [caption for caption, _ in TOKENS]
    captions = Captions(captions.candidates + lines, captions.references + [["a"]] * len(lines))
    references, candidates = tokenized(captions)
    ours = caption_words(captions.candidates)
    assert [joined(words) for words in ours] == [candidates[i][0] for i in range(len(ours))]
    flat = caption_words([text for texts in captions.references for text in texts])
    assert [joined(words) for words in flat] == [text for texts in references.values() for text in texts]
