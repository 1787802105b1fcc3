from __future__ import annotations

import torch
from torch import nn

from imglish.nn.multiway import Multiway, MultiwayWithFusion, Shared
from imglish.structures.tokens import TokenLayout


def make() -> nn.Module:
    return nn.Linear(8, 8)


def test_experts_see_only_their_own_tokens() -> None:
    multiway = Multiway(make)
    x = torch.randn(2, 5, 8)
    y = multiway(x, TokenLayout(num_vision=3, num_text=2))
    torch.testing.assert_close(y[:, :3], multiway.vision(x[:, :3]))
    torch.testing.assert_close(y[:, 3:], multiway.text(x[:, 3:]))


def test_one_modality_goes_to_one_expert() -> None:
    multiway = Multiway(make)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(multiway(x, TokenLayout(5, 0)), multiway.vision(x))
    torch.testing.assert_close(multiway(x, TokenLayout(0, 5)), multiway.text(x))


def test_the_fusion_expert_takes_fused_sequences_whole() -> None:
    multiway = MultiwayWithFusion(make)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(multiway(x, TokenLayout(3, 2)), multiway.fusion(x))
    torch.testing.assert_close(multiway(x, TokenLayout(5, 0)), multiway.vision(x))


def test_a_shared_expert_ignores_the_layout() -> None:
    shared = Shared(make)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(shared(x, TokenLayout(3, 2)), shared(x, TokenLayout(0, 5)))
