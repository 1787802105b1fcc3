"""Official names of ATSS's and GFL's heads to ours and back (parity FACTS of the adapter, section 5).

The rules take the prefix that a head has in the official file and the one it has with us; both end with a
dot or are empty.
"""

from __future__ import annotations

from imglish.models.weight_map import Rule, conv_norm_rules


def atss_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of ATSS's head."""
    names = {"atss_cls": "classifier", "atss_reg": "deltas", "atss_centerness": "centerness"}
    return (*_tower_rules(official, ours), *_named(official, ours, names))


def gfl_rules(official: str = "", ours: str = "") -> tuple[Rule, ...]:
    """Rules of GFL's head."""
    names = {"gfl_cls": "classifier", "gfl_reg": "distributions"}
    return (
        *_tower_rules(official, ours),
        *_named(official, ours, names),
        Rule(f"{official}integral.project", f"{ours}distances"),
    )


def _tower_rules(official: str, ours: str) -> tuple[Rule, ...]:
    stacks = {"cls_convs": "classes", "reg_convs": "boxes"}
    convs = (
        conv_norm_rules(f"{official}{theirs}.{{index}}.", f"{ours}towers.{mine}.{{index}}.", norm="gn")
        for theirs, mine in stacks.items()
    )
    return (
        *(rule for rules in convs for rule in rules),
        Rule(f"{official}scales.{{level}}.scale", f"{ours}scales.{{level}}"),
    )


def _named(official: str, ours: str, names: dict[str, str]) -> tuple[Rule, ...]:
    return tuple(
        Rule(f"{official}{theirs}.{{part}}", f"{ours}{mine}.{{part}}") for theirs, mine in names.items()
    )
