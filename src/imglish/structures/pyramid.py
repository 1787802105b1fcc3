"""Feature maps of one picture batch at several strides."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class FeaturePyramid:
    """Dense features by stride.

    Args:
        maps: From stride in pixels (4, 8, 16, 32) to features (B, C, H / stride, W / stride), in
            ascending order of stride.
    """

    maps: dict[int, Tensor]

    def __post_init__(self) -> None:
        strides = list(self.maps)
        if not strides or strides != sorted(strides):
            raise ValueError(f"strides must be given in ascending order; got {strides}")

    def __getitem__(self, stride: int) -> Tensor:
        return self.maps[stride]

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides present, ascending."""
        return tuple(self.maps)

    def sizes(self) -> dict[int, tuple[int, int]]:
        """(height, width) of each map by stride."""
        return {stride: (x.shape[-2], x.shape[-1]) for stride, x in self.maps.items()}
