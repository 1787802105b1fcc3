"""The Multiway Transformer (BEiT-3, section 2.1, figure 2).

Released base and large and the paper's giant are settings of one config; see `Beit3Config`.
Shapes: B batch, N tokens (vision first, then text), C width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.embeddings import TextEmbedding, VisionEmbedding
from imglish.nn.attention import KeyValue, MultiwayAttention, Route
from imglish.nn.drop_path import DropPath, drop_path_rates
from imglish.nn.feed_forward import FeedForward
from imglish.nn.init import rescale_output, truncated_normal_
from imglish.nn.multiway import Multiway, MultiwayWithFusion, Shared
from imglish.ops.attention import key_mask, merge_masks
from imglish.structures.tokens import TokenLayout


class EncoderOutput(NamedTuple):
    """Encoded tokens (B, N, C) and what they are."""

    tokens: Tensor
    layout: TokenLayout

    @property
    def vision(self) -> Tensor:
        """Vision tokens (B, 1 + patches, C), class token first."""
        return self.tokens[:, : self.layout.num_vision]

    @property
    def text(self) -> Tensor:
        """Text tokens (B, T, C)."""
        return self.tokens[:, self.layout.num_vision :]


class PictureFeatures(NamedTuple):
    """Everything that is to be known of pictures that were encoded without a text.

    Args:
        tokens: (B, 1 + patches, C) before the first block and after each, class token first, not normalised.
        encoded: The last of them through the output norm, where there is one.
        memory: Each block's keys and values, at which words may look.
    """

    tokens: tuple[Tensor, ...]
    encoded: Tensor
    memory: tuple[KeyValue, ...]

    def select(self, rows: slice) -> PictureFeatures:
        """Those of some of the pictures."""
        return PictureFeatures(
            tuple(tokens[rows] for tokens in self.tokens),
            self.encoded[rows],
            tuple(KeyValue(seen.keys[rows], seen.values[rows]) for seen in self.memory),
        )

    @staticmethod
    def join(several: Sequence[PictureFeatures]) -> PictureFeatures:
        """Those of all pictures of ``several``, of one size, in their order."""
        return PictureFeatures(
            tuple(torch.cat(tokens) for tokens in zip(*(each.tokens for each in several), strict=True)),
            torch.cat([each.encoded for each in several]),
            tuple(
                KeyValue(torch.cat([seen.keys for seen in block]), torch.cat([seen.values for seen in block]))
                for block in zip(*(each.memory for each in several), strict=True)
            ),
        )


class Block(nn.Module):
    """Attention over all tokens, then the feed-forward expert of each token's modality."""

    def __init__(self, config: Beit3Config, *, fusion_expert: bool, drop_path: float) -> None:
        super().__init__()
        route: Route = Multiway if config.split_attention else Shared
        experts = MultiwayWithFusion if fusion_expert else Multiway
        self.norm1 = route(lambda: nn.LayerNorm(config.width, eps=1e-5))
        self.attention = MultiwayAttention(
            width=config.width, num_heads=config.num_heads, route=route, inner_norm=config.sub_norm
        )
        self.norm2 = route(lambda: nn.LayerNorm(config.width, eps=1e-5))
        self.feed_forward = experts(
            lambda: FeedForward(config.width, config.feed_forward_width, sub_norm=config.sub_norm)
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, layout: TokenLayout, mask: Tensor | None = None) -> Tensor:
        """Refine tokens (B, N, C); ``mask`` is True where a key may be seen (see `ops.attention`)."""
        x = x + self.drop_path(self.attention(self.norm1(x, layout), layout, mask))
        x = x + self.drop_path(self.feed_forward(self.norm2(x, layout), layout))
        return x

    def extend(
        self,
        x: Tensor,
        layout: TokenLayout,
        past: KeyValue | None,
        mask: Tensor | None,
        shared: KeyValue | None = None,
    ) -> tuple[Tensor, KeyValue]:
        """Refine new tokens that also look at remembered ones; see `MultiwayAttention.extend`."""
        y, seen = self.attention.extend(self.norm1(x, layout), layout, past, mask, shared)
        x = x + self.drop_path(y)
        x = x + self.drop_path(self.feed_forward(self.norm2(x, layout), layout))
        return x, seen


class Beit3Encoder(nn.Module):
    """Encode a picture, a text, or both in one sequence."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.config = config
        self.vision_embedding = VisionEmbedding(config)
        self.text_embedding = TextEmbedding(config)
        rates = drop_path_rates(config.drop_path, config.depth)
        first_fusion = config.depth - config.num_fusion_layers
        self.blocks = nn.ModuleList(
            Block(config, fusion_expert=layer >= first_fusion, drop_path=rate)
            for layer, rate in enumerate(rates)
        )
        route: Route = Multiway if config.split_attention else Shared
        self.norm = route(lambda: nn.LayerNorm(config.width, eps=1e-5)) if config.output_norm else None
        self._init_weights()

    def forward(
        self,
        images: Tensor | None = None,
        token_ids: Tensor | None = None,
        *,
        padding: Tensor | None = None,
        corruption: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> EncoderOutput:
        """Encode pictures (B, 3, H, W), texts (B, T), or pairs of both.

        Args:
            images: Pictures in [-1, 1].
            token_ids: Text ids int64.
            padding: bool (B, T), True where the text is padded.
            corruption: bool (B, patches), True where a patch is replaced by the mask token.
            attention_mask: bool (N, N), True where the column's token may be seen by the row's.
        """
        x, layout, padding = self.embed(images, token_ids, padding=padding, corruption=corruption)
        mask = merge_masks(key_mask(padding) if padding is not None else None, attention_mask)
        for block in self.blocks:
            x = block(x, layout, mask)
        return EncoderOutput(self.normalise(x, layout), layout)

    def embed(
        self,
        images: Tensor | None,
        token_ids: Tensor | None,
        *,
        padding: Tensor | None = None,
        corruption: Tensor | None = None,
    ) -> tuple[Tensor, TokenLayout, Tensor | None]:
        """Tokens (B, N, C) before the first block, their layout, and padding (B, N) of all of them."""
        if images is None and token_ids is None:
            raise ValueError("give images, token_ids, or both")
        vision = None if images is None else self.vision_embedding(images, corruption)
        text = None if token_ids is None else self.text_embedding(token_ids)
        layout = TokenLayout(
            num_vision=0 if vision is None else vision.shape[1],
            num_text=0 if text is None else text.shape[1],
        )
        x = torch.cat([part for part in (vision, text) if part is not None], dim=1)
        if padding is None or text is None:
            return x, layout, None
        # The official embedding zeroes padded tokens; their queries still run, nobody looks at them.
        padding = nn.functional.pad(padding.bool(), (layout.num_vision, 0))
        return x.masked_fill(padding[..., None], 0.0), layout, padding

    def look(self, images: Tensor) -> PictureFeatures:
        """Encode pictures (B, 3, H, W) that see no text, and keep what several heads may want of them.

        ``encoded`` is what calling the encoder with the pictures alone gives.
        """
        x = self.vision_embedding(images)
        layout = TokenLayout(num_vision=x.shape[1], num_text=0)
        tokens, memory = [x], []
        for block in self.blocks:
            assert isinstance(block, Block)
            x, seen = block.extend(x, layout, past=None, mask=None)
            tokens.append(x)
            memory.append(seen)
        return PictureFeatures(tuple(tokens), self.normalise(x, layout), tuple(memory))

    def read(
        self,
        token_ids: Tensor,
        pictures: PictureFeatures,
        *,
        padding: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Encode texts that see their pictures, which do not see them.

        Args:
            token_ids: int64 (B, T).
            pictures: Of B pictures.
            padding: bool (B, T), True where the text is padded.
            attention_mask: bool (T, T), True where the column's word may be seen by the row's.

        Returns:
            Normalised text tokens (B, T, C).
        """
        x = self.text_embedding(token_ids)
        mask = attention_mask
        if padding is not None:
            x = x.masked_fill(padding.bool()[..., None], 0.0)
            mask = merge_masks(key_mask(padding.bool()), attention_mask)
        layout = TokenLayout(num_vision=0, num_text=x.shape[1], of_pair=True)
        text, _ = self.extend(x, layout, past=None, mask=mask, shared=pictures.memory)
        return text

    def normalise(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """Apply the output norm where the config has one."""
        if self.norm is None:
            return x
        normal: Tensor = self.norm(x, layout)
        return normal

    def extend(
        self,
        x: Tensor,
        layout: TokenLayout,
        past: Sequence[KeyValue] | None,
        mask: Tensor | None,
        shared: Sequence[KeyValue] | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """Encode new embedded tokens (B, N, C) that look at remembered ones (cached generation).

        Returns:
            Normalised new tokens (B, N, C), and each block's keys and values of all tokens so far, those of
            ``shared`` left out.
        """
        seen = []
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            own, common = (None if each is None else each[layer] for each in (past, shared))
            x, memory = block.extend(x, layout, own, mask, common)
            seen.append(memory)
        return self.normalise(x, layout), seen

    def no_weight_decay(self) -> set[str]:
        """Parameters beyond norms and biases that are not decayed (FACTS: released fine-tuning code)."""
        return {"vision_embedding.class_token", "vision_embedding.positions.weight"}

    def _init_weights(self) -> None:
        rule, width = self.config.init, self.config.width
        std = width**-0.5 if rule == "scaled" else 0.02
        for module in self.modules():
            if isinstance(module, nn.Linear):
                truncated_normal_(module.weight, std=std, cut=1.0 if rule == "released" else 2.0)
                nn.init.zeros_(module.bias)
        if rule == "released":  # position tables stay N(0, 1), class and mask token zero
            nn.init.normal_(self.text_embedding.words.weight, std=width**-0.5)
            return
        tables = (self.text_embedding.words, self.text_embedding.positions, self.vision_embedding.positions)
        for table in tables:
            truncated_normal_(table.weight, std=std)
        truncated_normal_(self.vision_embedding.class_token, std=std)
        truncated_normal_(self.vision_embedding.mask_token, std=std)
        for layer, block in enumerate(self.blocks, start=1):
            for name, module in block.named_modules():
                if isinstance(module, nn.Linear) and _is_output(name):
                    rescale_output(module, layer)


def _is_output(name: str) -> bool:
    """True for the last linear of attention and of each feed-forward expert."""
    return name.startswith("attention.output") or name.endswith("fc2")
