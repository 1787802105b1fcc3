"""Parity family of pretrained weights that become the start of an adapter's backbone."""

from __future__ import annotations

import math

from torch import Tensor

from imglish.models.vit.config import ViTConfig
from imglish.models.vit.positions import NUM_CLASS_OFFSETS
from imglish.models.vit.transfer import fit_state
from imglish.models.vit.weights import INDEX, vit_rules
from imglish.models.weight_map import WeightMap
from tests.parity.case import Case, Check, Family

_TABLE = "relative_position_bias_table"
# float32 numbers of size 1 that both compute in float64, or bicubic in float32
_ROUNDING = 1e-6


def _side(num_rows: int) -> int:
    """Patches on a side of the square grid of a table of relative positions, class token's rows or not."""
    return (math.isqrt(num_rows) + 1) // 2


def vit_config(official: dict[str, Tensor]) -> ViTConfig:
    """Settings of a ViT that has tables of these shapes under official names."""
    tables = [tensor for name, tensor in sorted(official.items()) if name.endswith(_TABLE)]
    lengths = [len(table) for table in tables]
    class_token = all(math.isqrt(n) ** 2 != n for n in lengths)
    assert class_token == all(
        math.isqrt(n - NUM_CLASS_OFFSETS) ** 2 == n - NUM_CLASS_OFFSETS for n in lengths
    )
    sides = [_side(n) for n in lengths]
    positions = official.get("pos_embed")
    num_heads = tables[0].shape[1]
    return ViTConfig(
        image_size=(16 * sides[0], 16 * sides[0]),
        width=8 * num_heads if positions is None else positions.shape[2],
        depth=len(tables),
        num_heads=num_heads,
        absolute_positions=positions is not None,
        relative_positions="per_block",
        class_token=class_token,
        output_norm=False,
        windows=() if class_token else tuple(sides),
    )


def run_checkpoint(case: Case) -> list[Check]:
    """Position tables of a file, as they are where they start an adapter's ViT."""
    names = WeightMap(vit_rules("", "", norm="norm"), dropped=(INDEX,))
    fitted = fit_state(names.to_ours(case.inputs), vit_config(case.outputs), where=case.name)
    ours = names.to_official(fitted)
    return [
        Check("names", sorted(ours), sorted(case.outputs), "integer"),
        *(
            Check(name, ours[name], reference, "statistic", tolerance=_ROUNDING)
            for name, reference in case.outputs.items()
        ),
    ]


FAMILIES: tuple[Family, ...] = (Family(lambda case: case.json.get("family") == "checkpoint", run_checkpoint),)
