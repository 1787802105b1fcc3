from __future__ import annotations

import numpy as np
import pytest

from imglish.data.transforms.text import answers_in, mask_caption, mask_words
from imglish.structures.batches import IGNORE

SPECIAL = frozenset({0, 1, 2, 3})
TEXT = [0, *range(10, 30), 2]


def test_a_share_of_the_words_is_hidden_and_asked_for() -> None:
    masked = mask_words(TEXT, share=0.5, mask_id=99, special=SPECIAL, rng=np.random.default_rng(0))
    hidden = [i for i, token in enumerate(masked.token_ids) if token == 99]
    assert len(hidden) == 10
    assert masked.targets == [TEXT[i] if i in hidden else IGNORE for i in range(len(TEXT))]


def test_special_tokens_are_never_hidden_and_one_word_always_is() -> None:
    for seed in range(50):
        masked = mask_words(
            [0, 10, 2], share=0.01, mask_id=99, special=SPECIAL, rng=np.random.default_rng(seed)
        )
        assert masked.token_ids == [0, 99, 2]


@pytest.mark.parametrize(("share", "count"), [(0.6, 13), (0.001, 1), (1.0, 21)])
def test_captions_hide_the_official_number_of_tokens(share: float, count: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        masked = mask_caption(TEXT, share=share, mask_id=99, vocab_size=50, rng=rng)
        assert sum(target != IGNORE for target in masked.targets) == count
        assert masked.targets[0] == IGNORE


def test_most_chosen_words_become_masks_some_stay_some_change() -> None:
    rng = np.random.default_rng(0)
    kinds = {"mask": 0, "same": 0, "other": 0}
    for _ in range(400):
        masked = mask_caption(TEXT, share=0.6, mask_id=99, vocab_size=5000, rng=rng)
        for seen, target in zip(masked.token_ids, masked.targets, strict=True):
            if target != IGNORE:
                kinds["mask" if seen == 99 else "same" if seen == target else "other"] += 1
    total = sum(kinds.values())  # 5200 draws: deviation of a share is below 0.006
    assert kinds["mask"] / total == pytest.approx(0.8, abs=0.02)
    assert kinds["same"] / total == pytest.approx(0.1, abs=0.02)


def test_answers_stand_between_question_mark_and_full_stop() -> None:
    text = "a fish. what colour is the fish? very red. is it large? no. done"
    assert [word for word, is_answer in answers_in(text) if is_answer] == ["very", "red.", "no."]
    assert " ".join(word for word, _ in answers_in(text)) == text


def test_a_judgement_is_an_answer_and_other_words_after_a_colon_are_not() -> None:
    assert [
        word
        for word, is_answer in answers_in("left: yes. the picture shows a road: no. red: a fish.")
        if is_answer
    ] == [
        "yes.",
        "no.",
    ]
    assert not any(is_answer for _, is_answer in answers_in("to the left: a yes. no."))
