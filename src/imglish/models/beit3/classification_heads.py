"""BEiT-3 that judges statements about two pictures, or names what a picture shows.

Section 3.1 (NLVR2) and section 3.2 (ImageNet) of the paper; the heads are those of the released code (parity
FACTS, sections 2 and 3). Shapes: B batch, N tokens, T text tokens, C width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder, PictureFeatures
from imglish.nn.init import init_linear

_SHRINK = 0.001  # factor on new classification heads in the released code


def _init_shrunk(head: nn.Module, config: Beit3Config) -> None:
    """Start a head with logits near zero, but in small models, which start too slowly then."""
    if config.init == "scaled":
        init_linear(head, std=config.width**-0.5)
        return
    init_linear(head, cut=1.0)
    for child in head.modules():
        if isinstance(child, nn.Linear):
            child.weight.data.mul_(_SHRINK)


class StatementHead(nn.Module):
    """Two-layer classifier over two fused sequences: norm, linear, norm, GELU, linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(4 * width)
        self.dense = nn.Linear(4 * width, 2 * width)
        self.norm = nn.LayerNorm(2 * width)
        self.output = nn.Linear(2 * width, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 4 C) to logits (B, 2)."""
        y: Tensor = self.output(F.gelu(self.norm(self.dense(self.input_norm(x)))))
        return y


class Beit3ForNlvr2(nn.Module):
    """Fusion encoder: is a statement about two pictures true?

    Each picture is fused with the statement on its own; the head sees both (section 3.1).
    """

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.encoder = Beit3Encoder(config)
        self.head = StatementHead(config.width)
        _init_shrunk(self.head, config)

    def forward(
        self, left: Tensor, right: Tensor, token_ids: Tensor, padding: Tensor | None = None
    ) -> Tensor:
        """Judge statements.

        Args:
            left: Left pictures (B, 3, H, W) in [-1, 1].
            right: Right pictures, the same.
            token_ids: Statements, int64 (B, T).
            padding: bool (B, T), True where padded.

        Returns:
            Logits (B, 2): column 0 false, column 1 true.
        """
        encoded = self.encoder(
            torch.cat([left, right]),
            token_ids.repeat(2, 1),
            padding=None if padding is None else padding.repeat(2, 1),
        )
        fused = torch.cat([encoded.vision[:, 0], encoded.text[:, 0]], dim=-1)
        logits: Tensor = self.head(torch.cat(fused.chunk(2), dim=-1))
        return logits


class Beit3ForImageClassification(nn.Module):
    """Vision encoder: a class for a picture, from the mean of its patches.

    The head normalises, so the released models have ``config.output_norm`` False. Text experts are part of
    the encoder, hence of the weights, but no picture reaches them: they get no gradient.
    """

    def __init__(self, config: Beit3Config, *, num_classes: int) -> None:
        super().__init__()
        self.encoder = Beit3Encoder(config)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, num_classes)
        _init_shrunk(self.head, config)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to class logits (B, num_classes).

        The range of the pictures is that of the weights: the released ImageNet models want ImageNet's mean
        and deviation, not [-1, 1] (parity FACTS, section 7).
        """
        return self._judge(self.encoder(images).vision)

    def classify(self, pictures: PictureFeatures) -> Tensor:
        """`forward` with pictures that were encoded before."""
        return self._judge(pictures.encoded)

    def _judge(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(tokens[:, 1:].mean(dim=1)))
        return logits
