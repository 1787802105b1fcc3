"""Several data sets as one, in fixed proportions: a pure function of the index, nothing is remembered.

Of each run of ``sum(weights)`` indices, data set ``d`` gets exactly ``weights[d]``, evenly spread. Samples
come in their order, and begin anew after the last. A mixture is so long that each data set is read whole at
least once. Whoever reads it in a shuffled order (`loader.Source`) has the exact proportions over an epoch of
the mixture, and in a batch in expectation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from imglish.data.pretraining import PictureSource, TextSource, TokenSource
from imglish.errors import ConfigError

_LONGEST_PATTERN = 1_000_000


class Proportions:
    """Which data set, and which of its samples, an index of a mixture means.

    Args:
        lengths: Samples of each data set, at least 1.
        weights: How often each comes up, whole numbers of at least 1; only their proportions matter.

    Raises:
        ConfigError: A weight is less than 1, or they add up to more than a million.
    """

    def __init__(self, lengths: Sequence[int], weights: Sequence[int]) -> None:
        if len(lengths) != len(weights) or not lengths:
            raise ValueError(
                f"{len(lengths)} data sets and {len(weights)} weights; expected as many, not none"
            )
        if min(weights) < 1:
            raise ConfigError(
                f"the weight of a data set is {min(weights)}; expected a whole number from 1 on"
            )
        common = int(np.gcd.reduce(np.array(weights)))
        shares = [weight // common for weight in weights]
        if sum(shares) > _LONGEST_PATTERN:
            raise ConfigError(
                f"the weights {', '.join(map(str, weights))} add up to {sum(shares)} in lowest terms; "
                f"expected at most {_LONGEST_PATTERN}: round them"
            )
        self._lengths, self._shares = tuple(lengths), tuple(shares)
        # Sample k of n stands at (k + 1/2) / n of the pattern: each data set is spread evenly over it.
        which = np.repeat(np.arange(len(shares)), shares)
        rank = np.concatenate([np.arange(share) for share in shares])
        order = np.argsort((rank + 0.5) / np.array(shares)[which], kind="stable")
        self._which, self._rank = which[order].tolist(), rank[order].tolist()
        rounds = max(-(-length // share) for length, share in zip(lengths, shares, strict=True))
        self._total = rounds * sum(shares)

    def __len__(self) -> int:
        return self._total

    def place(self, index: int) -> tuple[int, int]:
        """Number of the data set and of the sample in it; raises IndexError outside the mixture."""
        if not 0 <= index < self._total:
            raise IndexError(f"sample {index} of {self._total}")
        turn, position = divmod(index, len(self._which))
        which = self._which[position]
        return which, (turn * self._shares[which] + self._rank[position]) % self._lengths[which]


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedPictures:
    """Pictures of several sources; ``proportions`` must be made of their lengths."""

    sources: Sequence[PictureSource]
    proportions: Proportions

    def __len__(self) -> int:
        return len(self.proportions)

    def sample(self, index: int) -> tuple[Tensor, tuple[str, ...]]:
        """Picture uint8 (3, H, W) and its texts; raises DataFormatError where it is damaged."""
        which, number = self.proportions.place(index)
        return self.sources[which].sample(number)


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedTokens:
    """Stored visual tokens of the pictures of several sources, in the ``proportions`` of `MixedPictures`."""

    sources: Sequence[TokenSource]
    proportions: Proportions

    def tokens(self, index: int) -> Tensor:
        """Visual tokens int64 (N,) of a picture; raises DataFormatError where there are none."""
        which, number = self.proportions.place(index)
        return self.sources[which].tokens(number)


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedTexts:
    """Documents of several sources; ``proportions`` must be made of their lengths."""

    sources: Sequence[TextSource]
    proportions: Proportions

    def __len__(self) -> int:
        return len(self.proportions)

    def text(self, index: int) -> str:
        """One document; raises DataFormatError where it is damaged."""
        which, number = self.proportions.place(index)
        return self.sources[which].text(number)
