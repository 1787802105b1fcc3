"""Writing a text word by word: beam search as the released captioning code has it, and greedy search.

Both drive a step function over a memory (cached keys and values), so that a picture is encoded once and no
word is computed twice. Shapes: B pictures, R rows (pictures times beams), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor


class Memory(Protocol):
    """What a step function remembers of each row, such as keys and values by layer."""

    def select(self, rows: Tensor) -> Self:
        """Keep the rows ``rows`` int64 (R',), in that order; a row may be kept several times."""
        ...


M = TypeVar("M", bound=Memory)

# From the memory and the words just written, int64 (R,), to log-probabilities of the next word (R, V) and the
# memory with those words in it. The first call gets the beginning of the text for each picture.
Step = Callable[[M, Tensor], tuple[Tensor, M]]


@dataclass(frozen=True, kw_only=True, slots=True)
class BeamSearchConfig:
    """How texts are searched; the defaults are those of the released code.

    Args:
        num_beams: Unfinished texts kept for each picture.
        max_tokens: Length that the released code gives to a text. Of it, ``<s>``, ``</s>`` and one slot
            are no words, so a text has at most ``max_tokens - 3`` words.
        length_penalty: A finished text scores its log-probability over length ** this; the length is that
            of the words and two more. 0 prefers short texts, 1 the mean log-probability.
        candidates_per_beam: Continuations looked at for each beam, of which some may end the text.
    """

    num_beams: int = 3
    max_tokens: int = 32
    length_penalty: float = 0.6
    candidates_per_beam: int = 3

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise ValueError(f"num_beams must be at least 1; got {self.num_beams}")
        if self.max_tokens < 3:
            raise ValueError(f"max_tokens must be at least 3; got {self.max_tokens}")
        if self.candidates_per_beam < 2:
            raise ValueError(
                "candidates_per_beam must be at least 2, as one of each beam may end the text; "
                f"got {self.candidates_per_beam}"
            )


class Hypothesis(NamedTuple):
    """A finished text: ids of its words without ``<s>`` and ``</s>``, and its score (higher is better)."""

    words: tuple[int, ...]
    score: float


class _Beam(NamedTuple):
    """An unfinished text: its words and their summed log-probability."""

    words: tuple[int, ...]
    log_probability: float


class _Candidate(NamedTuple):
    """A beam, by number, and a word that may follow it; log-probability of both."""

    beam: int
    word: int
    log_probability: float


class _Search:
    """The search for one picture's text."""

    def __init__(self, config: BeamSearchConfig, eos: int) -> None:
        self.config, self.eos = config, eos
        self.beams = [_Beam((), 0.0)]  # one to begin with: equal beams would stay equal
        self.best: Hypothesis | None = None

    def advance(self, candidates: list[_Candidate]) -> list[int]:
        """Finish some beams and go on with others.

        Args:
            candidates: Best first.

        Returns:
            For each of the new ``beams``, which of the old ones it continues; empty when the search is over.
        """
        decided = self._is_decided(candidates[0].log_probability)
        forced = len(self.beams[0].words) + 3 >= self.config.max_tokens
        beams: list[_Beam] = []
        origins: list[int] = []
        for candidate in [] if decided else candidates:
            words = self.beams[candidate.beam].words
            if forced or candidate.word == self.eos:
                # A forced end loses its last word though it counts in the score, as in the released code.
                self._finish(words, candidate.log_probability)
            else:
                beams.append(_Beam((*words, candidate.word), candidate.log_probability))
                origins.append(candidate.beam)
            if len(beams) == self.config.num_beams:
                break
        self.beams = beams
        return origins

    def result(self) -> Hypothesis:
        """The best finished text."""
        assert self.best is not None, "a search ends with a finished text"
        return self.best

    def _is_decided(self, best_candidate: float) -> bool:
        """Whether no unfinished text can become better, seen from its score at full length."""
        if self.best is None:
            return False
        limit: float = best_candidate / (self.config.max_tokens - 1) ** self.config.length_penalty
        return self.best.score >= limit

    def _finish(self, words: tuple[int, ...], log_probability: float) -> None:
        score = log_probability / (len(words) + 2) ** self.config.length_penalty
        if self.best is None or score > self.best.score:
            self.best = Hypothesis(words, score)


@torch.no_grad()
def beam_search(
    step: Step[M],
    memory: M,
    *,
    batch_size: int,
    bos: int,
    eos: int,
    config: BeamSearchConfig,
    device: torch.device | None = None,
) -> list[Hypothesis]:
    """Find a likely text for each picture.

    Texts are equal to those of the released code (parity FACTS, section 5), though each picture is encoded
    once and not once for each beam, and finished pictures leave the batch.

    Args:
        step: Writes words and predicts the next.
        memory: Of the pictures alone, a row for each.
        batch_size: Pictures, B.
        bos: Id that begins a text.
        eos: Id that ends it.
        config: How to search.
        device: Where ``step`` wants its words.

    Returns:
        The best text of each picture.

    Raises:
        ValueError: The vocabulary is too small for so many beams.
    """
    searches = [_Search(config, eos) for _ in range(batch_size)]
    active = list(searches)
    words = torch.full((batch_size,), bos, device=device)
    while active:
        log_probabilities, memory = step(memory, words)
        rows = []
        first = 0
        for search, candidates in zip(active, _candidates(log_probabilities, active, config), strict=True):
            num_beams = len(search.beams)
            rows += [first + origin for origin in search.advance(candidates)]
            first += num_beams
        active = [search for search in active if search.beams]
        if active:
            memory = memory.select(torch.tensor(rows, device=log_probabilities.device))
            last = [beam.words[-1] for search in active for beam in search.beams]
            words = torch.tensor(last, device=log_probabilities.device)
    return [search.result() for search in searches]


def _candidates(
    log_probabilities: Tensor, active: list[_Search], config: BeamSearchConfig
) -> list[list[_Candidate]]:
    """The likeliest continuations of each search's beams, best first."""
    so_far = torch.tensor(
        [[beam.log_probability for beam in search.beams] for search in active],
        dtype=torch.float32,
        device=log_probabilities.device,
    )  # (active, beams)
    vocab_size = log_probabilities.shape[1]
    total = log_probabilities.float().view(*so_far.shape, vocab_size) + so_far[..., None]
    if vocab_size <= config.num_beams:
        raise ValueError(f"{config.num_beams} beams need a larger vocabulary than {vocab_size} words")
    count = min(config.candidates_per_beam * config.num_beams, total[0].numel())
    best = total.flatten(1).topk(count, dim=1)
    return [
        [
            _Candidate(place // vocab_size, place % vocab_size, score)
            for place, score in zip(*row, strict=True)
        ]
        for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


@torch.no_grad()
def greedy_search(
    step: Step[M],
    memory: M,
    *,
    batch_size: int,
    bos: int,
    eos: int,
    max_words: int,
    device: torch.device | None = None,
) -> list[Hypothesis]:
    """Write the likeliest word again and again, until each text ends or has ``max_words`` words.

    Arguments are those of `beam_search`.

    Returns:
        The text of each picture; its score is its summed log-probability, that of the end included.
    """
    written: list[list[int]] = [[] for _ in range(batch_size)]
    scores = [0.0] * batch_size
    active = list(range(batch_size))
    words = torch.full((batch_size,), bos, device=device)
    while active:
        log_probabilities, memory = step(memory, words)
        best = log_probabilities.max(dim=1)
        rows = []
        for row, (picture, word, score) in enumerate(
            zip(active, best.indices.tolist(), best.values.tolist(), strict=True)
        ):
            scores[picture] += score
            if word != eos:
                written[picture].append(word)
                if len(written[picture]) < max_words:
                    rows.append(row)
        active = [active[row] for row in rows]
        if active:
            kept = torch.tensor(rows, device=log_probabilities.device)
            memory, words = memory.select(kept), best.indices[kept]
    return [Hypothesis(tuple(words), score) for words, score in zip(written, scores, strict=True)]
