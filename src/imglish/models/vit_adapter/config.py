"""Settings of an adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Attention = Literal["deformable", "global", "cswin", "pale"]
Components = Literal["all", "prior", "prior_injector", "prior_extractor"]
ViTFeatures = Literal["last", "per_interaction", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ViTAdapterConfig:
    """The adapter beside a plain ViT; `models.vit_adapter.presets` has the official settings.

    Args:
        num_interactions: Groups that the ViT's blocks are split into; 4 as published. 0 leaves of the adapter
            what ``components="prior"`` does. (The paper's N = 0 is the plain ViT:
            `models.vit_adapter.baseline`.)
        interaction_blocks: First and last block of each group; empty divides the blocks evenly.
        components: What there is besides the ViT: the spatial ``prior`` module, injectors, extractors (the
            paper's ablation adds them in this order). Without extractors the ViT's maps are enlarged as in
            the plain baseline, and the prior's are added. ``prior_extractor`` reads the ViT and leaves it as
            it is.
        attention: How injectors and extractors look: ``deformable``, or one of the paper's comparison, see
            `models.vit_adapter.attention`.
        vit_features: Which of the ViT's maps are added to the output: the ``last`` one to all levels
            (official detection), the one after each interaction to the level of its number (official
            segmentation; needs 4 interactions), or ``none`` (the light variant).
        stem_width: Features of the spatial prior's stem.
        num_heads: Heads of attention.
        num_points: Points of a head on a level, of deformable attention.
        value_ratio: Share of the width that values are projected to, in deformable attention.
        feed_forward_ratio: Inner width of the extractor's feed-forward network over the width; 0 has none.
        num_extra_extractors: Extractors after the last interaction.
        injector_scale: Start of the injector's learned factor: 0, or as BEiT's layer scale in official
            configs of BEiT.
        drop_path: Stochastic depth of the extractor's feed-forward network, the same in all interactions.
        norm_eps: Epsilon of the layer norms: 1e-6 beside ViT and BEiT, 1e-5 beside Uni-Perceiver.
        frozen_backbone: True trains the adapter alone: the ViT keeps its weights, stays in evaluation mode,
            and its activations are not kept. Injectors would learn through the ViT, so there must be none.
    """

    num_interactions: int = 4
    interaction_blocks: tuple[tuple[int, int], ...] = ()
    components: Components = "all"
    attention: Attention = "deformable"
    vit_features: ViTFeatures = "last"
    stem_width: int = 64
    num_heads: int = 12
    num_points: int = 4
    value_ratio: float = 0.5
    feed_forward_ratio: float = 0.25
    num_extra_extractors: int = 2
    injector_scale: float = 0.0
    drop_path: float = 0.0
    norm_eps: float = 1e-6
    frozen_backbone: bool = False

    def __post_init__(self) -> None:
        if self.num_interactions < 0:
            raise ValueError(f"num_interactions must be at least 0; got {self.num_interactions}")
        if self.interaction_blocks and len(self.interaction_blocks) != self.num_interactions:
            raise ValueError(
                f"interaction_blocks has {len(self.interaction_blocks)} groups, "
                f"num_interactions is {self.num_interactions}"
            )
        if self.vit_features == "per_interaction" and self.num_interactions != 4:
            raise ValueError(
                "vit_features per_interaction gives each of 4 levels the map of its interaction, "
                f"num_interactions is {self.num_interactions}"
            )
        if self.vit_features == "none" and not self.has_extractors:
            raise ValueError("vit_features none without extractors would leave the ViT unread")
        if self.frozen_backbone and self.has_injectors:
            raise ValueError(
                'frozen_backbone keeps gradients from the injectors; set components "prior_extractor"'
            )

    @property
    def has_injectors(self) -> bool:
        """Whether spatial features are brought into the ViT."""
        return self.num_interactions > 0 and self.components in ("all", "prior_injector")

    @property
    def has_extractors(self) -> bool:
        """Whether the ViT's features are brought into the spatial ones."""
        return self.num_interactions > 0 and self.components in ("all", "prior_extractor")

    def groups(self, depth: int) -> tuple[tuple[int, int], ...]:
        """First block and the one after the last of each interaction, for a ViT of ``depth`` blocks.

        Raises:
            ValueError: The blocks do not divide evenly, or ``interaction_blocks`` leaves some out.
        """
        if not self.interaction_blocks:
            if not self.num_interactions:
                return ()
            if depth % self.num_interactions:
                raise ValueError(
                    f"depth {depth} does not divide into {self.num_interactions} interactions; "
                    "give interaction_blocks"
                )
            size = depth // self.num_interactions
            return tuple((start, start + size) for start in range(0, depth, size))
        groups = tuple((first, last + 1) for first, last in self.interaction_blocks)
        starts, stops = [start for start, _ in groups], [stop for _, stop in groups]
        if [*starts, depth] != [0, *stops] or any(start >= stop for start, stop in groups):
            raise ValueError(
                f"interaction_blocks {self.interaction_blocks} do not follow on each other from block 0 to "
                f"block {depth - 1}"
            )
        return groups
