"""Official ViT-Adapter names to ours and back (parity FACTS of the adapter, sections 1 and 3)."""

from __future__ import annotations

from imglish.models.weight_map import Rule, WeightMap


def _attention(official: str, ours: str) -> tuple[Rule, ...]:
    return (Rule(f"{official}attn.{{layer}}.{{part}}", f"{ours}attention.{{layer}}.{{part}}"),)


def _norms(official: str, ours: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{official}query_norm.{{part}}", f"{ours}query_norm.{{part}}"),
        Rule(f"{official}feat_norm.{{part}}", f"{ours}feature_norm.{{part}}"),
    )


def injector_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of one injector; both prefixes end with a dot or are empty."""
    return (
        Rule(f"{official}gamma", f"{ours}gamma"),
        *_norms(official, ours),
        *_attention(official, ours),
    )


def extractor_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of one extractor; both prefixes end with a dot or are empty."""
    return (
        *_norms(official, ours),
        *_attention(official, ours),
        Rule(f"{official}ffn_norm.{{part}}", f"{ours}feed_forward_norm.{{part}}"),
        *feed_forward_rules(f"{official}ffn.", f"{ours}feed_forward."),
    )


def feed_forward_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of an extractor's feed-forward network; both prefixes end with a dot or are empty."""
    return (
        Rule(f"{official}dwconv.dwconv.{{part}}", f"{ours}depthwise.{{part}}"),
        Rule(f"{official}{{layer}}.{{part}}", f"{ours}{{layer}}.{{part}}"),
    )


def spatial_prior_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of the spatial prior module; both prefixes end with a dot or are empty."""
    return (
        Rule(f"{official}{{layer}}.{{index}}.{{part}}", f"{ours}{{layer}}.{{index}}.{{part}}"),
        Rule(f"{official}{{layer}}.{{part}}", f"{ours}{{layer}}.{{part}}"),
    )


# The parts of an adapter, all but the backbone that it holds.
ADAPTER_MAP = WeightMap(
    (
        Rule("level_embed", "level_embedding"),
        *spatial_prior_rules("spm.", "spatial_prior."),
        *injector_rules("interactions.{block}.injector.", "interactions.{block}.injector."),
        *extractor_rules("interactions.{block}.extractor.", "interactions.{block}.extractor."),
        *extractor_rules(
            "interactions.{block}.extra_extractors.{extra}.", "interactions.{block}.extra_extractors.{extra}."
        ),
        Rule("up.{part}", "up.{part}"),
        *(Rule(f"norm{level + 1}.{{part}}", f"norms.{level}.{{part}}") for level in range(4)),
    )
)
