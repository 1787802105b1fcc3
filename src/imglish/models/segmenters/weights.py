"""Official names of necks and heads to ours and back (parity FACTS of the adapter, section 5).

The rules of a part take the prefix that it has in the official file and the one it has with us; both end
with a dot or are empty.
"""

from __future__ import annotations

from imglish.models.necks.weights import fpn_rules
from imglish.models.segmenters.config import (
    Mask2FormerConfig,
    SegmenterConfig,
    SemanticFpnConfig,
    SetrPupConfig,
    UPerNetConfig,
)
from imglish.models.weight_map import Rule, WeightMap, conv_norm_rules

DECODE_HEAD = "decode_head."  # official prefix of the heads of segmenters


def classifier_rules(official: str, ours: str) -> tuple[Rule, ...]:
    """Rules of a head's last convolution."""
    return (Rule(f"{official}conv_seg.{{part}}", f"{ours}classifier.{{part}}"),)


def semantic_fpn_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of Semantic FPN's head."""
    scale = "{level}.{index}."
    return (
        *classifier_rules(official, ours),
        *conv_norm_rules(f"{official}scale_heads.{scale}", f"{ours}scales.{scale}"),
    )


def fcn_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of a fully convolutional head."""
    return (
        *classifier_rules(official, ours),
        *conv_norm_rules(f"{official}convs.{{index}}.", f"{ours}convs.{{index}}."),
        *conv_norm_rules(f"{official}conv_cat.", f"{ours}join."),
    )


def upernet_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of UPerNet's head."""
    return (
        *classifier_rules(official, ours),
        *conv_norm_rules(f"{official}psp_modules.{{grid}}.1.", f"{ours}pooling.grids.{{grid}}."),
        *conv_norm_rules(f"{official}bottleneck.", f"{ours}pooling.join."),
        *conv_norm_rules(f"{official}lateral_convs.{{level}}.", f"{ours}laterals.{{level}}."),
        *conv_norm_rules(f"{official}fpn_convs.{{level}}.", f"{ours}outputs.{{level}}."),
        *conv_norm_rules(f"{official}fpn_bottleneck.", f"{ours}fusion."),
    )


def setr_pup_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of SETR-PUP's head: each doubling is a convolution and a resize, one after the other with us."""
    doubling = conv_norm_rules(f"{official}up_convs.{{index}}.0.", f"{ours}doublings.{{index}}.")
    numbers = {"index": {str(i): str(2 * i) for i in range(10)}}
    return (
        *classifier_rules(official, ours),
        Rule(f"{official}norm.{{part}}", f"{ours}input_norm.{{part}}"),
        *(Rule(rule.official, rule.ours, numbers) for rule in doubling),
    )


def _feed_forward_rules(official: str, ours: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{official}ffns.0.layers.0.0.{{part}}", f"{ours}feed_forward.0.{{part}}"),
        Rule(f"{official}ffns.0.layers.1.{{part}}", f"{ours}feed_forward.2.{{part}}"),
    )


def pixel_decoder_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of Mask2Former's pixel decoder."""
    theirs, layer = f"{official}encoder.layers.{{layer}}.", f"{ours}layers.{{layer}}."
    return (
        *conv_norm_rules(f"{official}input_convs.{{level}}.", f"{ours}inputs.{{level}}.", norm="gn"),
        Rule(f"{theirs}attentions.0.{{linear}}.{{part}}", f"{layer}attention.{{linear}}.{{part}}"),
        *_feed_forward_rules(theirs, layer),
        Rule(f"{theirs}norms.0.{{part}}", f"{layer}attention_norm.{{part}}"),
        Rule(f"{theirs}norms.1.{{part}}", f"{layer}feed_forward_norm.{{part}}"),
        Rule(f"{official}level_encoding.weight", f"{ours}level_encoding"),
        *conv_norm_rules(f"{official}lateral_convs.0.", f"{ours}lateral.", norm="gn"),
        *conv_norm_rules(f"{official}output_convs.0.", f"{ours}output.", norm="gn"),
        Rule(f"{official}mask_feature.{{part}}", f"{ours}mask_features.{{part}}"),
    )


def mask_decoder_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of Mask2Former's Transformer decoder."""
    theirs, layer = f"{official}transformer_decoder.layers.{{layer}}.", f"{ours}layers.{{layer}}."
    attentions = {"0": "cross", "1": "self"}
    return (
        *(
            Rule(f"{theirs}attentions.{number}.attn.{old}{{part}}", f"{layer}{name}_attention.{new}{{part}}")
            for number, name in attentions.items()
            for old, new in (("in_proj_", "projection."), ("out_proj.", "output."))
        ),
        *_feed_forward_rules(theirs, layer),
        *(
            Rule(f"{theirs}norms.{number}.{{part}}", f"{layer}{name}_norm.{{part}}")
            for number, name in (*attentions.items(), ("2", "feed_forward"))
        ),
        Rule(f"{official}transformer_decoder.post_norm.{{part}}", f"{ours}output_norm.{{part}}"),
        Rule(f"{official}query_embed.weight", f"{ours}query_positions"),
        Rule(f"{official}query_feat.weight", f"{ours}query_features"),
        Rule(f"{official}level_embed.weight", f"{ours}level_embedding"),
        Rule(f"{official}cls_embed.{{part}}", f"{ours}classifier.{{part}}"),
        Rule(f"{official}mask_embed.{{index}}.{{part}}", f"{ours}mask_embedding.{{index}}.{{part}}"),
    )


def head_rules(config: SegmenterConfig, *, head: str = DECODE_HEAD) -> tuple[Rule, ...]:
    """Rules of all but the backbone of a segmenter.

    Args:
        config: Which segmenter.
        head: Official prefix of the head; ``panoptic_head.`` in the official panoptic Mask2Former.
    """
    auxiliary = fcn_rules("auxiliary_head.", "auxiliary.")
    match config:
        case SemanticFpnConfig():
            return (*fpn_rules("neck.", "neck."), *semantic_fpn_rules(head, "head."))
        case UPerNetConfig():
            return (*upernet_rules(head, "head."), *auxiliary)
        case SetrPupConfig():
            return (*setr_pup_rules(head, "head."), *auxiliary)
        case Mask2FormerConfig():
            return (
                *pixel_decoder_rules(f"{head}pixel_decoder.", "neck."),
                *mask_decoder_rules(head, "head."),
            )


def head_map(config: SegmenterConfig, *, head: str = DECODE_HEAD) -> WeightMap:
    """The same as a map of its own, for the state of neck and heads alone."""
    return WeightMap(head_rules(config, head=head))
