"""Beam search over a tiny recurrent language model whose state is the memory."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.decoding.beam_search import BeamSearchConfig, Hypothesis, beam_search, greedy_search

BOS, EOS, VOCAB_SIZE = 0, 2, 9
ROUNDING = 1e-5  # float32 sums of a few log-probabilities in another order


class State(NamedTuple):
    """Hidden vectors (R, C)."""

    hidden: Tensor

    def select(self, rows: Tensor) -> State:
        return State(self.hidden[rows])


class Writer(nn.Module):
    """A recurrent language model; its first state stands for a picture."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(1)  # of these weights, texts end at many lengths
        self.words = nn.Parameter(2 * torch.randn(VOCAB_SIZE, 8, generator=g))
        self.recurrent = nn.Parameter(torch.randn(8, 8, generator=g))
        self.output = nn.Parameter(0.7 * torch.randn(8, VOCAB_SIZE, generator=g))
        self.pictures = nn.Parameter(2 * torch.randn(12, 8, generator=g))

    def start(self, pictures: slice) -> State:
        return State(self.pictures[pictures])

    def step(self, state: State, words: Tensor) -> tuple[Tensor, State]:
        hidden = torch.tanh(state.hidden @ self.recurrent + self.words[words])
        return F.log_softmax(hidden @ self.output, dim=1), State(hidden)

    @torch.no_grad()
    def log_probability(self, picture: int, words: tuple[int, ...]) -> float:
        """Of a whole text, one word after the other."""
        state, total, before = self.start(slice(picture, picture + 1)), 0.0, BOS
        for word in words:
            log_probabilities, state = self.step(state, torch.tensor([before]))
            total, before = total + float(log_probabilities[0, word]), word
        return total


WRITER = Writer()


def search(config: BeamSearchConfig, pictures: slice = slice(0, 12)) -> list[Hypothesis]:
    start = WRITER.start(pictures)
    return beam_search(WRITER.step, start, batch_size=len(start.hidden), bos=BOS, eos=EOS, config=config)


def test_beams_as_wide_as_the_vocabulary_find_the_best_of_all_short_texts() -> None:
    found = search(BeamSearchConfig(num_beams=8, max_tokens=4, length_penalty=0.6))
    for picture, hypothesis in enumerate(found):
        # Nothing, or one word and whatever was predicted after it, which the length limit cuts off.
        texts = [(EOS,)] + [pair for pair in product(range(VOCAB_SIZE), repeat=2) if pair[0] != EOS]
        scores = {text: WRITER.log_probability(picture, text) / (len(text) + 1) ** 0.6 for text in texts}
        best = max(texts, key=lambda text: scores[text])
        assert hypothesis.words == best[:-1]
        assert hypothesis.score == pytest.approx(scores[best], abs=ROUNDING)


def search_without_memory(picture: int, config: BeamSearchConfig) -> tuple[int, ...]:
    """The same search written plainly: every text is read anew for each of its words."""
    beams: dict[tuple[int, ...], float] = {(): 0.0}
    finished: dict[tuple[int, ...], float] = {}
    for length in range(config.max_tokens - 2):
        candidates = sorted(
            ((WRITER.log_probability(picture, (*text, word)), text, word)
             for text in beams for word in range(VOCAB_SIZE)),
            reverse=True,
        )[: config.num_beams * config.candidates_per_beam]  # fmt: skip
        beams = {}
        for log_probability, text, word in candidates:
            if word == EOS or length == config.max_tokens - 3:
                score = log_probability / (len(text) + 2) ** config.length_penalty
                finished[text] = max(score, finished.get(text, score))
            elif len(beams) < config.num_beams:
                beams[*text, word] = log_probability
            if len(beams) == config.num_beams:
                break
    return max(finished, key=lambda text: finished[text])


@pytest.mark.parametrize(("num_beams", "length_penalty"), [(1, 0.6), (2, 0.0), (3, 0.6), (3, 2.0)])
def test_memories_follow_their_texts(num_beams: int, length_penalty: float) -> None:
    config = BeamSearchConfig(num_beams=num_beams, length_penalty=length_penalty, max_tokens=9)
    plain = [search_without_memory(picture, config) for picture in range(12)]
    assert [hypothesis.words for hypothesis in search(config)] == plain


def test_search_ends_when_nothing_can_become_better() -> None:
    num_steps = 0

    def step(state: State, words: Tensor) -> tuple[Tensor, State]:
        nonlocal num_steps
        num_steps += 1
        return WRITER.step(state, words)

    config = BeamSearchConfig(length_penalty=0.0, max_tokens=60)
    found = beam_search(step, WRITER.start(slice(0, 12)), batch_size=12, bos=BOS, eos=EOS, config=config)
    assert max(len(hypothesis.words) for hypothesis in found) < num_steps < 30


def test_a_text_does_not_depend_on_the_others_in_its_batch() -> None:
    together = search(BeamSearchConfig(num_beams=3, max_tokens=10))
    assert len({len(hypothesis.words) for hypothesis in together}) > 1, "some should finish earlier"
    for picture, hypothesis in enumerate(together):
        (alone,) = search(BeamSearchConfig(num_beams=3, max_tokens=10), slice(picture, picture + 1))
        assert alone.words == hypothesis.words


def test_more_beams_are_not_worse_here_and_better_somewhere() -> None:
    narrow, wide = (
        search(BeamSearchConfig(num_beams=1, max_tokens=12)),
        search(BeamSearchConfig(num_beams=5, max_tokens=12)),
    )
    gains = [b.score - a.score for a, b in zip(narrow, wide, strict=True)]
    assert min(gains) >= -ROUNDING
    assert max(gains) > 0.1


def test_length_penalty_favours_longer_texts() -> None:
    lengths = [
        sum(
            len(hypothesis.words)
            for hypothesis in search(BeamSearchConfig(length_penalty=penalty, max_tokens=12))
        )
        for penalty in (0.0, 1.0, 2.0)
    ]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_no_text_is_longer_than_three_less_than_the_limit() -> None:
    found = search(BeamSearchConfig(length_penalty=4.0, max_tokens=6))
    assert max(len(hypothesis.words) for hypothesis in found) == 3


def test_greedy_search_takes_the_likeliest_word_each_time() -> None:
    start = WRITER.start(slice(0, 12))
    found = greedy_search(WRITER.step, start, batch_size=12, bos=BOS, eos=EOS, max_words=6)
    assert any(len(hypothesis.words) < 6 for hypothesis in found)
    assert any(len(hypothesis.words) == 6 for hypothesis in found)
    for picture, hypothesis in enumerate(found):
        text = hypothesis.words if len(hypothesis.words) == 6 else (*hypothesis.words, EOS)
        for place in range(len(text)):
            others = [(*text[:place], word) for word in range(VOCAB_SIZE)]
            best = max(others, key=lambda words: WRITER.log_probability(picture, words))
            assert best == text[: place + 1]
        assert hypothesis.score == pytest.approx(WRITER.log_probability(picture, text), abs=ROUNDING)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"num_beams": 0}, "num_beams must be at least 1; got 0"),
        ({"max_tokens": 2}, "max_tokens must be at least 3; got 2"),
        ({"candidates_per_beam": 1}, "candidates_per_beam must be at least 2"),
        ({"num_beams": 9}, "9 beams need a larger vocabulary than 9 words"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        search(BeamSearchConfig(**settings))
