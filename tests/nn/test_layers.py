from __future__ import annotations

import pytest
import torch
from torch import nn

from imglish.nn.drop_path import DropPath, drop_path_rates
from imglish.nn.init import init_linear, rescale_output
from imglish.nn.patch_embedding import PatchEmbedding


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    y = DropPath(0.25).train()(torch.ones(4000, 3))
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (y.amin(1) == y.amax(1)).all()
    assert y.mean().item() == pytest.approx(1.0, abs=0.03)  # 4000 draws: deviation of the mean is 0.009


def test_drop_path_is_the_identity_in_evaluation() -> None:
    x = torch.randn(4, 3)
    assert DropPath(0.5).eval()(x) is x


def test_rates_grow_linearly_from_zero() -> None:
    assert drop_path_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0.0]


def test_patches_are_read_row_by_row() -> None:
    embedding = PatchEmbedding(patch_size=4, width=1)
    nn.init.constant_(embedding.proj.weight, 1 / 48)  # type: ignore[arg-type]
    nn.init.zeros_(embedding.proj.bias)  # type: ignore[arg-type]
    image = torch.arange(6.0).view(2, 3).repeat_interleave(4, 0).repeat_interleave(4, 1).expand(1, 3, 8, 12)
    torch.testing.assert_close(embedding(image)[0, :, 0], torch.arange(6.0))


@pytest.mark.parametrize("patch_size", [4, 8, 16])
def test_the_convolutional_stem_has_the_same_grid(patch_size: int) -> None:
    embedding = PatchEmbedding(patch_size=patch_size, width=32, stem="convolutional")
    assert embedding(torch.rand(2, 3, 32, 64)).shape == (2, 32 * 64 // patch_size**2, 32)


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="30x32.*16"):
        PatchEmbedding(patch_size=16, width=8)(torch.rand(1, 3, 30, 32))
    with pytest.raises(ValueError, match="14"):
        PatchEmbedding(patch_size=14, width=8, stem="convolutional")


def test_weights_are_cut_at_one_deviation() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(400, 400)
    init_linear(linear, cut=1.0)
    assert linear.weight.abs().max() <= 0.02 and linear.bias.abs().max() == 0
    # The standard deviation that parity FACTS, section 2, measured in the released models.
    assert linear.weight.std().item() == pytest.approx(0.0108, abs=1e-4)


def test_outputs_are_divided_by_the_root_of_twice_the_layer() -> None:
    linear = nn.Linear(4, 4)
    before = linear.weight.detach().clone()
    rescale_output(linear, 8)
    torch.testing.assert_close(linear.weight.detach(), before / 4)
