"""Official names of two-stage detectors to ours and back (parity FACTS of the adapter, section 5).

The rules of a part take the prefix that it has in the official file and the one it has with us; both end
with a dot or are empty.
"""

from __future__ import annotations

from imglish.models.detectors.config import NeckConfig, RpnConfig, TwoStageConfig
from imglish.models.necks.weights import channel_mapper_rules, extra_attention_rules, fpn_rules
from imglish.models.weight_map import Rule, WeightMap, conv_norm_rules


def neck_rules(config: NeckConfig, official: str = "neck.", ours: str = "neck.") -> tuple[Rule, ...]:
    """Rules of the neck; behind extra attention the pyramid is the second of two necks."""
    if config.attention_heads:
        return (
            *extra_attention_rules(f"{official}0.", f"{ours}attention."),
            *_pyramid_rules(config, f"{official}1.", f"{ours}levels."),
        )
    return _pyramid_rules(config, official, f"{ours}levels.")


def _pyramid_rules(config: NeckConfig, official: str, ours: str) -> tuple[Rule, ...]:
    if config.kind == "mapper":
        return channel_mapper_rules(official, ours)
    return fpn_rules(official, ours, norm={"none": None, "batch": "bn", "group": "gn"}[config.norm])


def rpn_rules(config: RpnConfig, official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of the region proposal network, whose convolution has a number only among several."""
    if config.num_convs == 1:
        convs = Rule(f"{official}rpn_conv.{{part}}", f"{ours}convs.0.{{part}}")
    else:
        convs = Rule(f"{official}rpn_conv.{{index}}.conv.{{part}}", f"{ours}convs.{{index}}.{{part}}")
    return (
        convs,
        Rule(f"{official}rpn_cls.{{part}}", f"{ours}objectness.{{part}}"),
        Rule(f"{official}rpn_reg.{{part}}", f"{ours}deltas.{{part}}"),
    )


def box_head_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of a box head."""
    return (
        *conv_norm_rules(f"{official}shared_convs.{{index}}.", f"{ours}convs.{{index}}."),
        Rule(f"{official}shared_fcs.{{index}}.{{part}}", f"{ours}linears.{{index}}.{{part}}"),
        Rule(f"{official}fc_cls.{{part}}", f"{ours}classes.{{part}}"),
        Rule(f"{official}fc_reg.{{part}}", f"{ours}deltas.{{part}}"),
    )


def mask_head_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of a mask head."""
    return (
        Rule(f"{official}conv_res.conv.{{part}}", f"{ours}last.conv.{{part}}"),
        *conv_norm_rules(f"{official}convs.{{index}}.", f"{ours}convs.{{index}}."),
        Rule(f"{official}upsample.{{part}}", f"{ours}upsample.{{part}}"),
        Rule(f"{official}conv_logits.{{part}}", f"{ours}logits.{{part}}"),
    )


def semantic_head_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of HTC's semantic branch."""
    return (
        Rule(f"{official}lateral_convs.{{level}}.conv.{{part}}", f"{ours}laterals.{{level}}.conv.{{part}}"),
        Rule(f"{official}convs.{{index}}.conv.{{part}}", f"{ours}convs.{{index}}.conv.{{part}}"),
        Rule(f"{official}conv_embedding.conv.{{part}}", f"{ours}embedding.conv.{{part}}"),
        Rule(f"{official}conv_logits.{{part}}", f"{ours}logits.{{part}}"),
    )


def roi_head_rules(config: TwoStageConfig, official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of all heads that look at regions; a single stage has no number."""
    theirs, number = (".{stage}.", "{stage}.") if len(config.stages) > 1 else (".", "0.")
    return (
        *box_head_rules(f"{official}bbox_head{theirs}", f"{ours}box_heads.{number}"),
        *mask_head_rules(f"{official}mask_head{theirs}", f"{ours}mask_heads.{number}"),
        *semantic_head_rules(f"{official}semantic_head.", f"{ours}semantic_head."),
    )


def two_stage_map(config: TwoStageConfig) -> WeightMap:
    """Names of all but the backbone of an official detector."""
    return WeightMap(
        (
            *neck_rules(config.neck),
            *rpn_rules(config.rpn, "rpn_head.", "rpn."),
            *roi_head_rules(config, "roi_head.", "heads."),
        )
    )
