"""Settings of an adapter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ViTAdapterConfig:
    """The adapter beside a plain ViT (paper, table of variants).

    Args:
        num_interactions: Groups that the ViT's blocks are split into; 4 as published.
        stem_width: Features of the spatial prior's stem.
        num_heads: Heads of deformable attention.
        num_points: Points of a head on a level.
        value_ratio: Share of the width that values are projected to.
        feed_forward_ratio: Inner width of the extractor's feed-forward network over the width.
        num_extra_extractors: Extractors after the last interaction.
        drop_path: Stochastic depth of the extractor's feed-forward network.
    """

    num_interactions: int = 4
    stem_width: int = 64
    num_heads: int = 12
    num_points: int = 4
    value_ratio: float = 0.5
    feed_forward_ratio: float = 0.25
    num_extra_extractors: int = 2
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.num_interactions < 1:
            raise ValueError(f"num_interactions must be at least 1; got {self.num_interactions}")
