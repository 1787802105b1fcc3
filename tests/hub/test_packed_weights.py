"""Weights in a byte a number come back within half a step of each row."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from imglish.hub.packed_weights import pack_weights, unpack_weights


def test_numbers_are_off_by_half_a_step_of_their_row_at_most(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = {
        "filter": torch.randn(40, 8, 3, 3) * torch.logspace(-6, 2, 40)[:, None, None, None],
        "matrix": torch.zeros(64, 32),
        "bias": torch.randn(40),
        "small": torch.randn(31, 33),  # 1023 numbers
        "large": torch.randn(32, 32),
        "counts": torch.arange(3),
    }
    save_file(pack_weights(weights), tmp_path / "packed.safetensors")
    packed = load_file(tmp_path / "packed.safetensors")
    assert packed["filter"].dtype == torch.int8 and packed["bias"].dtype == torch.half
    assert packed["small"].dtype == torch.half and packed["large"].dtype == torch.int8
    assert all((packed[f"{name}.scale_of_rows"] > 0).all() for name in ("filter", "matrix"))  # also of zeros
    found = unpack_weights(packed)
    assert found.keys() == weights.keys()
    rows = weights["filter"].flatten(1)
    most = rows.abs().amax(dim=1) / 127 * 0.5001  # but for the rounding of float32
    assert ((found["filter"].flatten(1) - rows).abs().amax(dim=1) <= most).all()
    assert torch.equal(found["matrix"], weights["matrix"]) and torch.equal(found["counts"], weights["counts"])
    torch.testing.assert_close(found["bias"].float(), weights["bias"], rtol=1e-3, atol=1e-4)


def test_what_is_not_packed_stays_and_what_is_no_number_is_refused() -> None:
    weights = {"matrix": torch.randn(4, 4), "numbers": torch.ones(64, 64, dtype=torch.int8)}
    for name, weight in unpack_weights(weights).items():
        assert weight is weights[name]
    with pytest.raises(ValueError, match="matrix holds what is no number"):
        pack_weights({"matrix": torch.full((64, 64), torch.inf)})
