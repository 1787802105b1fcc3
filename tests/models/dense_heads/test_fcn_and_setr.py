from __future__ import annotations

import pytest
import torch
from torch import nn

from imglish.models.dense_heads.fcn import FcnHead
from imglish.models.dense_heads.setr_pup import SetrPupHead
from imglish.structures.pyramid import FeaturePyramid


def pyramid() -> FeaturePyramid:
    g = torch.Generator().manual_seed(1)
    return FeaturePyramid({s: torch.randn(2, 6, 64 // s, 96 // s, generator=g) for s in (4, 8, 16, 32)})


def learns(module: nn.Module) -> None:
    logits = module(pyramid())
    (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("stride", [4, 16])
@pytest.mark.parametrize("concat_input", [False, True])
def test_fcn_reads_its_own_level_only(stride: int, concat_input: bool) -> None:
    torch.manual_seed(0)
    head = FcnHead(
        in_width=6, num_classes=5, stride=stride, width=8, num_convs=2, concat_input=concat_input
    ).eval()
    given = pyramid()
    logits = head(given)
    assert logits.shape == (2, 5, 64 // stride, 96 // stride)
    others = FeaturePyramid({s: x if s == stride else x * 0 for s, x in given.maps.items()})
    assert torch.equal(head(others), logits)
    learns(head)


def test_with_its_input_joined_fcn_sees_it_besides_the_convolutions() -> None:
    torch.manual_seed(0)
    head = FcnHead(in_width=6, num_classes=5, width=8, concat_input=True).eval()
    for parameter in head.convs.parameters():
        nn.init.zeros_(parameter)
    given = pyramid()
    assert not torch.equal(head(given), head(FeaturePyramid({s: -x for s, x in given.maps.items()})))


def test_without_convolutions_the_level_itself_is_classified() -> None:
    head = FcnHead(in_width=6, num_classes=5, width=6, num_convs=0).eval()
    assert torch.equal(head(pyramid()), head.classifier(pyramid()[16]))
    with pytest.raises(ValueError, match="width 8 must be that of the level, 6"):
        FcnHead(in_width=6, num_classes=5, width=8, num_convs=0)


@pytest.mark.parametrize("num_doublings", [1, 4])
def test_setr_doubles_the_vits_level_step_by_step(num_doublings: int) -> None:
    torch.manual_seed(0)
    head = SetrPupHead(in_width=6, num_classes=5, width=8, num_doublings=num_doublings).eval()
    given = pyramid()
    logits = head(given)
    assert logits.shape == (2, 5, 4 << num_doublings, 6 << num_doublings)
    assert torch.equal(head(FeaturePyramid({16: given[16]})), logits)
    # The norm over channels makes the head blind to a level's scale and to what all channels share.
    torch.testing.assert_close(head(FeaturePyramid({16: 3 * given[16] + 5})), logits, rtol=1e-3, atol=1e-4)
    learns(head)
