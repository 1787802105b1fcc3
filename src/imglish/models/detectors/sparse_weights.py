"""Official names of Sparse R-CNN to ours and back (names and shapes: adapter FACTS, section 10)."""

from __future__ import annotations

from imglish.models.necks.weights import fpn_rules
from imglish.models.weight_map import Rule, WeightMap


def dynamic_head_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of a stage; both prefixes end with a dot or are empty."""
    theirs, mine = f"{official}instance_interactive_conv.", f"{ours}interaction."
    names = {
        f"{official}attention.attn.in_proj_{{part}}": f"{ours}attention.projection.{{part}}",
        f"{official}attention.attn.out_proj.{{part}}": f"{ours}attention.output.{{part}}",
        f"{official}attention_norm.{{part}}": f"{ours}attention_norm.{{part}}",
        f"{theirs}dynamic_layer.{{part}}": f"{mine}weights.{{part}}",
        f"{theirs}norm_in.{{part}}": f"{mine}hidden_norm.{{part}}",
        f"{theirs}norm_out.{{part}}": f"{mine}cell_norm.{{part}}",
        f"{theirs}fc_layer.{{part}}": f"{mine}output.{{part}}",
        f"{theirs}fc_norm.{{part}}": f"{mine}output_norm.{{part}}",
        f"{official}instance_interactive_conv_norm.{{part}}": f"{ours}interaction_norm.{{part}}",
        f"{official}ffn.layers.0.0.{{part}}": f"{ours}feed_forward.0.{{part}}",
        f"{official}ffn.layers.1.{{part}}": f"{ours}feed_forward.2.{{part}}",
        f"{official}ffn_norm.{{part}}": f"{ours}feed_forward_norm.{{part}}",
        # Linear, norm and ReLU are counted through, by them and by us.
        f"{official}cls_fcs.{{index}}.{{part}}": f"{ours}class_layers.{{index}}.{{part}}",
        f"{official}reg_fcs.{{index}}.{{part}}": f"{ours}box_layers.{{index}}.{{part}}",
        f"{official}fc_cls.{{part}}": f"{ours}classes.{{part}}",
        f"{official}fc_reg.{{part}}": f"{ours}deltas.{{part}}",
    }
    return tuple(Rule(old, new) for old, new in names.items())


def sparse_rcnn_map() -> WeightMap:
    """Names of all but the backbone."""
    return WeightMap(
        (
            *fpn_rules("neck.", "neck."),
            Rule("rpn_head.init_proposal_bboxes.weight", "proposals.boxes"),
            Rule("rpn_head.init_proposal_features.weight", "proposals.features"),
            *dynamic_head_rules("roi_head.bbox_head.{stage}.", "stages.{stage}."),
        )
    )
