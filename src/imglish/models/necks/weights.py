"""Official names of necks to ours and back (parity FACTS of the adapter, section 5).

The rules take the prefix that a neck has in the official file and the one it has with us; both end with a
dot or are empty.
"""

from __future__ import annotations

from imglish.models.weight_map import Rule, conv_norm_rules


def fpn_rules(official: str = "", ours: str = "", *, norm: str | None = None) -> tuple[Rule, ...]:
    """Rules of a top-down pyramid; the official name of its norms is ``bn`` or ``gn``, None is without."""
    names = {"lateral_convs": "laterals", "fpn_convs": "outputs"}
    if norm is not None:
        return tuple(
            rule
            for theirs, mine in names.items()
            for rule in conv_norm_rules(
                f"{official}{theirs}.{{level}}.", f"{ours}{mine}.{{level}}.", norm=norm
            )
        )
    return tuple(
        Rule(f"{official}{theirs}.{{level}}.conv.{{part}}", f"{ours}{mine}.{{level}}.{{part}}")
        for theirs, mine in names.items()
    )


def channel_mapper_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of a 1 x 1 convolution for each level."""
    return (Rule(f"{official}convs.{{level}}.conv.{{part}}", f"{ours}convs.{{level}}.{{part}}"),)


def extra_attention_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of the attention over the coarsest level."""
    names = {
        "norm1": "norm1",
        "attn.qkv": "qkv",
        "attn.proj": "output",
        "norm2": "norm2",
        "ffn.fc1": "feed_forward.fc1",
        "ffn.fc2": "feed_forward.fc2",
        "final_norm": "final_norm",
    }
    return tuple(
        Rule(f"{official}{theirs}.{{part}}", f"{ours}{mine}.{{part}}") for theirs, mine in names.items()
    )
