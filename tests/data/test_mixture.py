"""Proportions are exact, every sample is read, and text is packed as a pure function of the index."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from imglish.data.loader import SinglePlan, Source, prefetch
from imglish.data.mixture import MixedTexts, Proportions
from imglish.data.packing import pack_documents
from imglish.errors import ConfigError, DataFormatError
from imglish.text.tokenizer import EOS


@pytest.mark.parametrize(("lengths", "weights"), [((7, 3), (3, 1)), ((5, 1, 40), (2, 5, 1)), ((4,), (9,))])
def test_every_turn_has_the_exact_proportions_and_all_samples_come(
    lengths: tuple[int, ...], weights: tuple[int, ...]
) -> None:
    mixture = Proportions(lengths, weights)
    places = [mixture.place(index) for index in range(len(mixture))]
    shares = [weight // int(np.gcd.reduce(weights)) for weight in weights]
    for start in range(0, len(places), sum(shares)):
        turn = Counter(which for which, _ in places[start : start + sum(shares)])
        assert [turn[which] for which in range(len(shares))] == shares
    for which, length in enumerate(lengths):
        read = Counter(number for each, number in places if each == which)
        assert sorted(read) == list(range(length))
        assert max(read.values()) - min(read.values()) <= 1


def test_a_turn_is_spread_evenly() -> None:
    mixture = Proportions((100, 100), (6, 2))
    assert [mixture.place(index)[0] for index in range(8)] in (
        [0, 0, 1, 0, 0, 0, 1, 0],
        [0, 1, 0, 0, 0, 0, 1, 0],
    )


@pytest.mark.parametrize("weights", [(0, 1), (1_000_001, 1)])
def test_weights_that_can_not_be_are_refused(weights: tuple[int, int]) -> None:
    with pytest.raises(ConfigError):
        Proportions((1, 1), weights)


class Named:
    def __init__(self, name: str, length: int) -> None:
        self.name, self.length = name, length

    def __len__(self) -> int:
        return self.length

    def text(self, index: int) -> str:
        return f"{self.name}{index}"


def test_mixed_texts_come_from_their_sources() -> None:
    mixed = MixedTexts(sources=[Named("a", 2), Named("b", 1)], proportions=Proportions((2, 1), (2, 1)))
    assert sorted(mixed.text(index) for index in range(len(mixed))) == ["a0", "a1", "b0"]


class Drawn:
    """Samples of a mixture, each with a number drawn for it."""

    def __init__(self, mixed: MixedTexts) -> None:
        self.mixed = mixed

    def __len__(self) -> int:
        return len(self.mixed)

    def get(self, index: int, rng: np.random.Generator) -> str:
        if index % 7 == 3:
            raise DataFormatError(f"sample {index} is damaged")
        return f"{self.mixed.text(index)} {rng.random()}"


@pytest.mark.parametrize("start", [0, 5])
def test_any_number_of_workers_and_any_start_give_the_same_batches(start: int) -> None:
    sources = [Named("a", 20), Named("b", 9)]
    mixed = MixedTexts(sources=sources, proportions=Proportions((20, 9), (3, 1)))
    source = Source(dataset=Drawn(mixed), per_rank=3, seed=4)
    plan = SinglePlan(source=source, collate=list, rank=1, world_size=2)
    expected = [plan.batch(step) for step in range(start, 9)]
    assert any(made.skipped for made in expected)
    for workers in (0, 1, 2):
        assert list(prefetch(plan, start, 9, num_workers=workers)) == expected


DOCUMENTS = [[10, 11], [20], [30, 31, 32, 33, 34, 35, 36, 37], [40, 41, 42]]


def packed(first: int, length: int, seed: int = 0) -> list[int]:
    return pack_documents(DOCUMENTS.__getitem__, 4, first, length, np.random.default_rng(seed))


def test_documents_are_joined_with_an_end_between_and_cut_at_the_length() -> None:
    assert packed(0, 7) == [10, 11, EOS, 20, EOS, 30, 31]
    assert packed(3, 7) == [40, 41, 42, EOS, 10, 11]  # an end alone would say nothing
    assert packed(3, 4) == [40, 41, 42]
    assert len(packed(0, 100)) == 14 + 3  # each document once


def test_every_part_of_a_long_document_is_read_in_time() -> None:
    seen = {token for seed in range(40) for token in packed(2, 3, seed)}
    assert seen == set(DOCUMENTS[2])
    assert packed(2, 3, 5) == packed(2, 3, 5)
