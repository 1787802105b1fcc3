"""Nearest neighbours among stored vectors: exact, in blocks, with bounded memory."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from imglish.errors import ConfigError

Engine = Literal["auto", "exact", "faiss"]
Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Numbers = NDArray[np.int64]

FAISS_FROM = 1_000_000  # vectors, from which on "auto" takes faiss where it is installed
# A product of matrices sums in an order that depends on the number of rows. Rows whose sums lie so close to
# the last of the best are summed again, one by one, before any is left out.
_ROUNDING = 1e-4
_BLOCK = 2048


class Vectors(Protocol):
    """Vectors (N, C) that can be searched."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def near(self, query: Floats, k: int) -> Numbers:
        """Numbers of the k vectors with the largest products with a query (C,), and of all that could be.

        They are in no order. All vectors where k is larger than their number.
        """
        ...

    def rows(self, numbers: Numbers) -> Floats:
        """Vectors by their numbers, float32 (len(numbers), C), to the bit as they were stored."""
        ...


class ExactVectors:
    """Vectors in memory as float32; a search is one product with the matrix.

    Args:
        vectors: float16 (N, C).
    """

    def __init__(self, vectors: Halves) -> None:
        self._matrix = np.empty(vectors.shape, np.float32)
        for first in range(0, len(vectors), _BLOCK):
            self._matrix[first : first + _BLOCK] = vectors[first : first + _BLOCK]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._matrix)

    def near(self, query: Floats, k: int) -> Numbers:
        """As of `Vectors`."""
        if k >= len(self):
            return np.arange(len(self))
        products = self._matrix @ query
        least = np.partition(products, len(products) - k)[len(products) - k]
        return np.flatnonzero(products >= least - _ROUNDING)

    def rows(self, numbers: Numbers) -> Floats:
        """As of `Vectors`."""
        return self._matrix[numbers]


class FaissVectors:
    """Vectors in faiss as float16, which takes half the memory; every vector is looked at, none is guessed.

    Args:
        vectors: float16 (N, C).

    Raises:
        ConfigError: faiss is not installed.
    """

    def __init__(self, vectors: Halves) -> None:
        if not has_faiss():
            raise ConfigError(
                "faiss is not installed; pip install 'imglish[search]', or search without it (--engine exact)"
            )
        import faiss

        width = vectors.shape[1]
        self._index: Any = faiss.IndexScalarQuantizer(
            width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        self._index.train(np.zeros((1, width), np.float32))  # which float16 does not learn from
        for first in range(0, len(vectors), 16 * _BLOCK):
            self._index.add(vectors[first : first + 16 * _BLOCK].astype(np.float32))

    def __len__(self) -> int:
        """How many there are."""
        return int(self._index.ntotal)

    def near(self, query: Floats, k: int) -> Numbers:
        """As of `Vectors`."""
        wanted = k + 16
        while wanted < len(self):
            products, numbers = self._index.search(query[None], wanted)
            if products[0, -1] < products[0, k - 1] - _ROUNDING:  # what could be among the best is there
                return cast(Numbers, numbers[0])
            wanted *= 2
        return np.arange(len(self))

    def rows(self, numbers: Numbers) -> Floats:
        """As of `Vectors`."""
        return cast(Floats, self._index.reconstruct_batch(numbers))


def has_faiss() -> bool:
    """Whether the extra ``[search]`` is installed."""
    return find_spec("faiss") is not None


def hold(vectors: Halves, engine: Engine) -> Vectors:
    """Make vectors (N, C) ready to be searched.

    Args:
        vectors: float16, of length one.
        engine: ``exact``, ``faiss``, or ``auto``, which takes faiss from `FAISS_FROM` vectors on where it is
            installed. All find the same.

    Raises:
        ConfigError: faiss was asked for and is not installed, or there is no such engine.
    """
    match engine:
        case "exact":
            return ExactVectors(vectors)
        case "faiss":
            return FaissVectors(vectors)
        case "auto":
            use_faiss = len(vectors) >= FAISS_FROM and has_faiss()
            return FaissVectors(vectors) if use_faiss else ExactVectors(vectors)
        case _:
            raise ConfigError(f"engine is {engine!r}; expected auto, exact or faiss")


def similarities(vectors: Vectors, numbers: Numbers, query: Floats) -> NDArray[np.float64]:
    """Cosines of some vectors with a query (C,), summed one by one: equal vectors have equal ones."""
    found = np.empty(len(numbers))
    wide = query.astype(np.float64)
    for first in range(0, len(numbers), _BLOCK):
        rows = vectors.rows(numbers[first : first + _BLOCK]).astype(np.float64)
        found[first : first + _BLOCK] = (rows * wide).sum(axis=1)
    return np.clip(found, -1, 1)


def near_groups(vectors: Vectors, order: Numbers, threshold: float) -> list[list[int]]:
    """Groups of vectors that are very like their first.

    Vectors are gone through in order: one that is in no group yet leads a group of all later ones in no group
    whose cosine with it is at least ``threshold``. Products are made of a block with a block, so that memory
    stays bounded.

    Args:
        vectors: N of them.
        order: Permutation (N,) of their numbers.
        threshold: The least cosine.

    Returns:
        Groups of at least two, in that order.
    """
    leaders = np.full(len(order), -1)  # place in the order of each one's leader, itself where it leads
    for upper in range(0, len(order), _BLOCK):
        rows = vectors.rows(order[upper : upper + _BLOCK])
        within = rows @ rows.T >= threshold
        own = leaders[upper : upper + _BLOCK]
        for place in range(len(rows)):
            if own[place] < 0:
                own[place] = upper + place
                own[place + 1 :][within[place, place + 1 :] & (own[place + 1 :] < 0)] = upper + place
        leading = upper + np.flatnonzero(own == np.arange(upper, upper + len(rows)))
        if len(leading) == 0:
            continue
        for lower in range(upper + _BLOCK, len(order), _BLOCK):
            free = lower + np.flatnonzero(leaders[lower : lower + _BLOCK] < 0)
            if len(free):
                like = rows[leading - upper] @ vectors.rows(order[free]).T >= threshold
                leaders[free] = np.where(like.any(axis=0), leading[like.argmax(axis=0)], -1)
    groups: dict[int, list[int]] = {}
    for number, leader in zip(order.tolist(), leaders.tolist(), strict=True):
        groups.setdefault(leader, []).append(number)
    return [group for group in groups.values() if len(group) > 1]
