"""Pretrained ViTs that become the start of one with other settings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.errors import CheckpointError
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit.positions import resize_positions, resize_relative_positions
from imglish.models.vit.transfer import fit_state
from imglish.models.weight_map import check_state

OLD, NEW = (4, 4), (6, 6)  # grids of patches
PLAIN = ViTConfig(image_size=(64, 64), width=16, depth=2, num_heads=2, layer_scale=0.1)


def pretrained(config: ViTConfig) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {name: torch.randn(w.shape, generator=draw) * 0.2 for name, w in ViT(config).state_dict().items()}


def fitted(old: ViTConfig, new: ViTConfig) -> dict[str, Tensor]:
    ours = fit_state(pretrained(old), new, where="file")
    check_state(ours, ViT(new).state_dict(), where="file")
    return ours


def test_a_shared_table_is_resized_for_each_block() -> None:
    old = replace(PLAIN, absolute_positions=False, relative_positions="shared")
    new = replace(old, image_size=(96, 96), relative_positions="per_block")
    ours, table = fitted(old, new), pretrained(old)["relative_positions.table"]
    for block in range(2):
        found = ours[f"blocks.{block}.attention.relative_positions.table"]
        assert torch.equal(found, resize_relative_positions(table, OLD, NEW))


def test_without_class_token_its_rows_are_lost_and_windows_have_tables_of_their_own() -> None:
    old = replace(PLAIN, absolute_positions=False, relative_positions="per_block")
    new = replace(old, image_size=(96, 96), class_token=False, output_norm=False, windows=(4, 0))
    ours, before = fitted(old, new), pretrained(old)
    tables = [f"blocks.{block}.attention.relative_positions.table" for block in range(2)]
    assert torch.equal(ours[tables[0]], before[tables[0]][:-3])
    assert torch.equal(
        ours[tables[1]], resize_relative_positions(before[tables[1]][:-3], OLD, NEW, class_token=False)
    )
    assert not {"class_token", "norm.weight", "norm.bias"} & ours.keys()
    with pytest.raises(CheckpointError, match=r"file: blocks.0.*table has no rows of the class token"):
        fit_state(ours, replace(old, image_size=(96, 96)), where="file")


@pytest.mark.parametrize("class_position", [True, False])
def test_absolute_positions_are_resized_bicubic(class_position: bool) -> None:
    new = replace(PLAIN, image_size=(96, 96), class_token=False, class_position=class_position)
    before = pretrained(PLAIN)["positions"]
    expected = resize_positions(before, OLD, NEW)[:, 0 if class_position else 1 :]
    assert torch.equal(fitted(PLAIN, new)["positions"], expected)
    without = {"positions": before[:, 1:]}
    if class_position:
        with pytest.raises(CheckpointError, match="file: positions has no row of the class token"):
            fit_state(without, new, where="file")
    else:
        assert torch.equal(fit_state(without, new, where="file")["positions"], expected)


def test_kernels_of_other_patches_are_resized_bilinear() -> None:
    old = replace(PLAIN, image_size=(56, 56), patch_size=14)  # the grid stays, as DINOv2's of 37 x 37
    ours, before = fitted(old, PLAIN), pretrained(old)
    kernel = before["patches.proj.weight"]
    expected = F.interpolate(kernel, size=(16, 16), mode="bilinear", align_corners=False)
    assert torch.equal(ours["patches.proj.weight"], expected)
    assert torch.equal(ours["positions"], before["positions"])


@torch.no_grad()
def test_missing_factors_change_nothing() -> None:
    bare = replace(PLAIN, layer_scale=0.0)
    before, after = ViT(bare).eval(), ViT(replace(bare, layer_scale=1e-6)).eval()
    before.load_state_dict(pretrained(bare))
    after.load_state_dict(fitted(bare, after.config))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(after(images), before(images))  # times one is exact


@pytest.mark.parametrize(
    "name", ["positions", "blocks.0.attention.relative_positions.table"], ids=["absolute", "relative"]
)
def test_a_grid_that_is_not_square_is_refused(name: str) -> None:
    config = replace(PLAIN, relative_positions="per_block")
    tensor = torch.zeros(1, 13, 16) if name == "positions" else torch.zeros(5 * 7 + 3, 2)
    with pytest.raises(CheckpointError, match=f"^file: {name} has .* rows, which are no square grid's"):
        fit_state({name: tensor}, config, where="file")
