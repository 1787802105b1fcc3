from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imglish.data.pretraining import TextStream, WordMasking
from imglish.data.world.questions import questions
from imglish.data.world.scene import WorldConfig
from imglish.data.world.stream import SceneStream
from imglish.structures.batches import IGNORE
from imglish.text.tokenizer import EOS, TextTokenizer
from imglish.text.training import train_tokenizer

STREAM = SceneStream(world=WorldConfig(), split="train", length=1000, with_questions=True)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    lines = [text for index in range(60) for text in STREAM.sample(index)[1]]
    path: Path = tmp_path_factory.mktemp("text") / "text.spm"
    return train_tokenizer(lines, path, vocab_size=200)


def test_half_of_the_texts_ask_about_the_scene_and_answer_rightly() -> None:
    for index in range(20):
        truth = {question.text: question.answer for question in questions(STREAM.scene(index))}
        texts = STREAM.sample(index)[1]
        assert len(texts) == 10 and not any("?" in text for text in texts[:5])
        for text in texts[5:]:
            parts = text.removesuffix(".").split(". ")
            assert 1 <= len(parts) <= 3
            for question, answer in (part.rsplit(" ", 1) for part in parts):
                assert truth[question] == answer


def test_most_texts_keep_to_favoured_kinds() -> None:
    stream = replace(STREAM, favoured_questions=("exists", "relation"))
    kept, total = 0, 0
    for index in range(40):
        kinds = {question.text: question.kind for question in questions(stream.scene(index))}
        for text in stream.sample(index)[1][5:]:
            asked = {kinds[part.rsplit(" ", 1)[0]] for part in text.removesuffix(".").split(". ")}
            kept, total = kept + (asked <= {"exists", "relation"}), total + 1
    assert 0.6 < kept / total < 0.95  # two thirds, and some of the others by chance


def test_a_text_with_questions_hides_its_answers_and_nothing_else(tokenizer: TextTokenizer) -> None:
    masking = WordMasking(tokenizer=tokenizer, share=0.5, max_tokens=64, answers=True)
    text = "is there a fish? no. what colour is the star? red."
    sample = masking(text, np.random.default_rng(0))
    hidden = [target for target in sample.targets if target != IGNORE]
    assert tokenizer.decode(hidden) == "no red"
    assert sample.token_ids.count(tokenizer.mask_id) == len(hidden)
    restored = [
        seen if target == IGNORE else target
        for seen, target in zip(sample.token_ids, sample.targets, strict=True)
    ]
    assert restored == tokenizer.encode_for_model(text, 64)


def test_the_answer_of_a_single_question_is_asked_at_the_class_token(tokenizer: TextTokenizer) -> None:
    masking = WordMasking(tokenizer=tokenizer, share=0.5, max_tokens=64, answers=True)
    sample = masking("is there a fish? no.", np.random.default_rng(0))
    assert sample.token_ids == tokenizer.encode_for_model("is there a fish?", 64)
    assert set(sample.targets) == {IGNORE} and tokenizer.decode([sample.answer]) == "no"


def test_a_text_without_questions_hides_its_share(tokenizer: TextTokenizer) -> None:
    asking = WordMasking(tokenizer=tokenizer, share=0.5, max_tokens=64, answers=True)
    plain = WordMasking(tokenizer=tokenizer, share=0.5, max_tokens=64)
    text = "a red fish in the water and a small star"
    assert asking(text, np.random.default_rng(3)) == plain(text, np.random.default_rng(3))


def test_a_long_text_with_questions_is_cut_to_the_longest(tokenizer: TextTokenizer) -> None:
    masking = WordMasking(tokenizer=tokenizer, share=0.5, max_tokens=9, answers=True)
    sample = masking("is there a fish? no. " * 5, np.random.default_rng(0))
    assert len(sample.token_ids) == len(sample.targets) == 9


class Documents:
    """Short texts."""

    texts = ("a red star", "two blue fish", "a moon", "a red circle")

    def __len__(self) -> int:
        return len(self.texts)

    def text(self, index: int) -> str:
        return self.texts[index]


def test_packed_texts_fill_the_context_and_follow_from_the_index_alone(tokenizer: TextTokenizer) -> None:
    masking = WordMasking(tokenizer=tokenizer, share=0.2, max_tokens=16)
    stream = TextStream(source=Documents(), masking=masking, packed=True)
    samples = [stream.get(index, np.random.default_rng(index)) for index in range(len(stream))]
    assert samples == [stream.get(index, np.random.default_rng(index)) for index in range(len(stream))]
    for index, sample in enumerate(samples):
        assert 15 <= len(sample.token_ids) <= 16 and EOS in sample.token_ids[1:-1]
        assert sample.token_ids[-1] == EOS
        whole = [
            seen if target == IGNORE else target
            for seen, target in zip(sample.token_ids, sample.targets, strict=True)
        ]
        first = tokenizer.encode(Documents.texts[index])[:14]
        assert whole[1 : 1 + len(first)] == first
        assert any(target != IGNORE for target in sample.targets)
        assert all(target != EOS for target in sample.targets)
