"""Official names and shapes of ATSS and GFL to ours and back (parity FACTS of the adapter, section 5)."""

from __future__ import annotations

from torch import Tensor

from imglish.models.dense_heads.weights import atss_rules, gfl_rules
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.necks.weights import fpn_rules
from imglish.models.weight_map import StateDict, WeightMap

_SCALES = "head.scales."  # factors of levels: () in the official files, (1,) with us, which sharding wants


def one_stage_map(config: OneStageConfig) -> WeightMap:
    """Names of all but the backbone; for the shapes see `our_shapes`."""
    rules = {"atss": atss_rules, "gfl": gfl_rules}[config.kind]
    return WeightMap((*fpn_rules("neck.", "neck."), *rules("bbox_head.", "head.")))


def our_shapes(state: StateDict) -> dict[str, Tensor]:
    """Official weights under our names, in our shapes."""
    return {name: w.reshape(1) if name.startswith(_SCALES) else w for name, w in state.items()}


def official_shapes(state: StateDict) -> dict[str, Tensor]:
    """Undo `our_shapes`."""
    return {name: w.reshape(()) if name.startswith(_SCALES) else w for name, w in state.items()}
