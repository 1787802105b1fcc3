"""Where a model looks: attention as numbers and as pictures, over patches and from words to patches.

Fast attention never forms its weights. Here the input of each block's attention is taken by a hook while the
model runs as always, and the weights are computed once more from the attention's own projections. Nothing
stays on the modules.

Shapes: L blocks, h heads, W words; maps are (rows, columns) of patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from imglish.errors import CheckpointError, ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.pictures import Picture
from imglish.inference.visualize_drawing import Tile, lines_of, sheet, spotlight
from imglish.inference.visualize_seen import ShownPicture, Sight, see, sight_of
from imglish.models.beit3 import attention_weights as beit3
from imglish.models.beit3.encoder import Beit3Encoder, Block
from imglish.models.beit3.heads import Beit3ForCaptioning
from imglish.models.joint import JointModel
from imglish.models.vit import attention_weights as vit
from imglish.models.vit.block import Attention
from imglish.models.vit.model import ViT
from imglish.nn.attention import MultiwayAttention
from imglish.structures.tokens import TokenLayout
from imglish.text.tokenizer import TextTokenizer

Maps = NDArray[np.float32]
Query = Literal["class", "mean"] | tuple[int, int]

_APART = ("retrieval", "contrastive", "class_names")  # kinds that encode pictures and texts each alone
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # sentencepiece's sign for a space, which begins a word


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionMaps:
    """Where a query looks in a picture.

    Args:
        weights: float32 (L, h, rows, columns): the share of the query's attention that goes to each patch.
            What is missing to a sum of 1 goes to the class token (and to padding).
        rollout: float32 (rows, columns): attention followed through all blocks, see `attention_maps`.
        query: What looks.
        seen: The picture as the model was shown it.
    """

    weights: Maps
    rollout: Maps
    query: Query
    seen: ShownPicture

    def draw(self, *, heads: bool = False, tile: int = 160) -> Image.Image:
        """A sheet of the picture, the rollout and each block's mean over heads, as lit pictures.

        Patches that are not looked at are dark; that with the map's largest weight, which is written below,
        is as bright as in the picture.

        Args:
            heads: True adds a row for each block with all of its heads.
            tile: Height of a picture on the sheet in pixels.
        """
        patch = self.query if isinstance(self.query, tuple) else None
        first = [Tile(spotlight(self.seen.pixels, None, patch=patch, grid=self.rollout.shape), "picture")]
        first.append(self._tile(self.rollout, "rollout"))
        means = self.weights.mean(axis=1)
        tiles = first + [self._tile(mean, f"block {block}") for block, mean in enumerate(means)]
        rows = lines_of(tiles, 7)
        if heads:
            for block, maps in enumerate(self.weights):
                rows.append([self._tile(one, f"block {block}, head {head}") for head, one in enumerate(maps)])
        return sheet(rows, height=tile, aspect=self.seen.aspect)

    def _tile(self, weights: Maps, name: str) -> Tile:
        return Tile(spotlight(self.seen.pixels, weights), f"{name}\nup to {weights.max():.1%}")


@dataclass(frozen=True, kw_only=True, slots=True)
class WordAttention:
    """Which patches each word of a text looks at.

    Args:
        words: W words of the text, as its tokenizer cuts them, punctuation apart.
        weights: float32 (L, h, W, rows, columns): the share of the word's attention that goes to each patch;
            of a word of several pieces the mean.
        rollout: float32 (W, rows, columns): the same followed through all blocks, see `attention_maps`.
        seen: The picture as the model was shown it.
    """

    words: tuple[str, ...]
    weights: Maps
    rollout: Maps
    seen: ShownPicture

    def shares(self) -> NDArray[np.float32]:
        """The part of each word's attention that goes to the picture, float32 (W,), mean of blocks, heads."""
        return np.asarray(self.weights.sum(axis=(3, 4)).mean(axis=(0, 1)), dtype=np.float32)

    def draw(self, *, tile: int = 160) -> Image.Image:
        """A sheet of the picture and how each word lights it, the mean over blocks and heads.

        Patches that are not looked at are dark, and one scale holds for all words. Below stands which part
        of the word's attention goes to the picture.

        Args:
            tile: Height of a picture on the sheet in pixels.
        """
        tiles = [Tile(spotlight(self.seen.pixels, None), "picture")]
        means = self.weights.mean(axis=(0, 1))
        for word, mean, share in zip(self.words, means, self.shares(), strict=True):
            lit = spotlight(self.seen.pixels, mean, most=float(means.max()))
            tiles.append(Tile(lit, f"{word}\n{share:.0%} on picture"))
        return sheet(lines_of(tiles, 7), height=tile, aspect=self.seen.aspect)


@torch.no_grad()
def attention_maps(run: LoadedRun, picture: Picture, *, query: Query | None = None) -> AttentionMaps:
    """Where the class token, or another query, looks in a picture.

    The rollout (arXiv 2005.00928) follows attention down to the patches: each block's mean over heads, half
    of it and half of the identity for the residual branch, is multiplied with those of the blocks below.

    Args:
        run: What `load_model` returned: of a BEiT-3 or ViT, also one inside a segmenter or detector.
        picture: Of any kind that `Predictor` takes.
        query: ``class`` for the class token, ``mean`` for the mean over all patches, or the (row, column) of
            a patch. None is the class token where there is one, else the mean.

    Raises:
        ConfigError: There is no such query, or attention can not be shown: it looks within windows, or it
            is timm's.
        DataFormatError: The picture cannot be used.
    """
    sight, seen = sight_of(run.model), see(run, picture)
    attentions = _attentions(sight)
    grid = sight.grid(seen.images)
    rows, columns = (max(1, -(-side // sight.patch_size)) for side in seen.size)
    num_prefix = 1 if isinstance(sight.vit, Beit3Encoder) else int(getattr(sight.vit, "num_prefix", 0))
    query = _check_query(query, num_prefix, (rows, columns))
    reader = _Reader(lambda x: _looks(x, query, num_prefix, grid))
    with _watching(attentions, reader.read):
        sight.encode(seen.images)

    def maps(vectors: Tensor) -> Maps:
        patches = vectors[..., num_prefix:].unflatten(-1, grid)[..., :rows, :columns]
        return np.ascontiguousarray(patches.float().cpu().numpy())

    return AttentionMaps(
        weights=maps(torch.stack(reader.rows)[:, :, 0]),
        rollout=maps(reader.rollout()[0]),
        query=query,
        seen=seen,
    )


@torch.no_grad()
def word_attention(run: LoadedRun, picture: Picture, text: str) -> WordAttention:
    """Which patches each word of a text looks at.

    In a fusion encoder (pretrained, for questions or for statements) words look at the whole pair. In a model
    of many tasks (world) they look at a picture that was encoded without them. A captioner is shown each
    word as it writes it: a mask token in the word's place, which sees the picture and the words before; what
    is told of a word is where that mask token looks.

    Args:
        run: What `load_model` returned: of a BEiT-3 that fuses, of either published form.
        picture: Of any kind that `Predictor` takes.
        text: A question, statement or caption; words beyond the longest text of training are cut.

    Raises:
        ConfigError: The model encodes pictures and texts apart or reads none, or the text has no word.
        CheckpointError: The model came without its text tokenizer.
        DataFormatError: The picture cannot be used.
    """
    sight = sight_of(run.model)
    if run.kind in _APART or sight.backbone is not None or not isinstance(sight.vit, Beit3Encoder):
        raise ConfigError(
            f"no word looks at patches in a model of {run.kind}; give a BEiT-3 that fuses pictures and "
            "texts, such as world or world_encoder, or one of vqa, nlvr2 or captioning"
        )
    if run.text is None:
        if run.kind == "image_classification":
            raise ConfigError("a classifier reads no text; give a BEiT-3 that fuses pictures and texts")
        raise CheckpointError(
            "these weights came without a text tokenizer: put text.spm or beit3.spm beside them"
        )
    seen, encoder = see(run, picture), sight.vit
    longest = int(run.settings.get("max_text_tokens", encoder.config.max_text_tokens))
    ids = run.text.encode_for_model(text, longest)
    words, owners = _words(run.text.pieces(ids))
    if not words:
        raise ConfigError(f"{text!r} has no word that could look at the picture")
    if isinstance(run.model, Beit3ForCaptioning):
        rows, rollout = _writing(run.model, seen.images, ids, run.text)
    elif isinstance(run.model, JointModel):
        rows, rollout = _reading_after(encoder, seen.images, ids)
    else:
        rows, rollout = _reading(encoder, seen.images, ids)
    grid = sight.grid(seen.images)

    def maps(vectors: Tensor) -> Maps:
        """(..., T, N) to (..., W, rows, columns)."""
        patches = vectors[..., 1 : 1 + grid[0] * grid[1]].unflatten(-1, grid)
        means = [
            patches[..., [place for place, own in owners if own == word], :, :] for word in range(len(words))
        ]
        return np.ascontiguousarray(
            torch.stack([m.mean(dim=-3) for m in means], dim=-3).float().cpu().numpy()
        )

    return WordAttention(words=words, weights=maps(rows), rollout=maps(rollout), seen=seen)


class _Reader:
    """Keeps of each block's weights (1, h, N, N) what is asked for, and their product through all blocks."""

    def __init__(self, choose: Callable[[Tensor], Tensor]) -> None:
        self._choose = choose
        self._product: Tensor | None = None
        self.rows: list[Tensor] = []

    def read(self, weights: Tensor) -> None:
        self.rows.append(self._choose(weights[0]).cpu())
        mean = weights[0].float().mean(dim=0)
        step = (mean + torch.eye(len(mean), device=mean.device)) / 2
        self._product = step if self._product is None else step @ self._product

    def rollout(self) -> Tensor:
        """What is asked for of the product."""
        assert self._product is not None
        return self._choose(self._product).cpu()


def _reading(encoder: Beit3Encoder, images: Tensor, ids: list[int]) -> tuple[Tensor, Tensor]:
    """Weights (L, h, T, N) and rollout (T, N) of all tokens of a text, fused with the picture."""
    reader = _Reader(lambda x: x[..., -len(ids) :, :])
    with _watching(_attentions(sight_of(encoder)), reader.read):
        encoder(images, torch.tensor([ids], device=images.device))
    return torch.stack(reader.rows), reader.rollout()


def _reading_after(encoder: Beit3Encoder, images: Tensor, ids: list[int]) -> tuple[Tensor, Tensor]:
    """The same where the picture is encoded without the text, and the text then looks at it."""
    pictures = encoder.look(images)
    x = encoder.text_embedding(torch.tensor([ids], device=images.device))
    num_vision, layout = pictures.encoded.shape[1], TokenLayout(num_vision=0, num_text=len(ids), of_pair=True)
    alone = TokenLayout(num_vision=num_vision, num_text=0)
    reader = _Reader(lambda x: x[..., num_vision:, :])
    for block, tokens, seen in zip(encoder.blocks, pictures.tokens, pictures.memory, strict=False):
        assert isinstance(block, Block)
        vision, _ = beit3.attention_weights(block.attention, block.norm1(tokens, alone), alone)
        text, _ = beit3.attention_weights(block.attention, block.norm1(x, layout), layout, past=seen)
        reader.read(torch.cat([nn.functional.pad(vision, (0, len(ids))), text], dim=2))
        x, _ = block.extend(x, layout, past=None, mask=None, shared=seen)
    return torch.stack(reader.rows), reader.rollout()


def _writing(
    model: Beit3ForCaptioning, images: Tensor, ids: list[int], text: TextTokenizer
) -> tuple[Tensor, Tensor]:
    """The same of a caption, each word as it is written; the ends of the text have zeros."""
    num_vision = 1 + model.encoder.config.num_patches
    every, rollouts = [], []
    for place in range(1, len(ids) - 1):  # the end of a caption is no word
        shown = torch.tensor([[*ids[:place], text.mask_id]], device=images.device)
        positions = torch.zeros_like(shown, dtype=torch.bool)
        positions[0, -1] = True
        reader = _Reader(lambda x: x[..., -1, :num_vision])
        with _watching(_attentions(sight_of(model)), reader.read):
            model(images, shown, torch.zeros_like(positions), positions)
        every.append(torch.stack(reader.rows))
        rollouts.append(reader.rollout())
    weights, rollout = torch.stack(every, dim=2), torch.stack(rollouts)
    return nn.functional.pad(weights, (0, 0, 1, 1)), nn.functional.pad(rollout, (0, 0, 1, 1))


def _words(pieces: Sequence[str]) -> tuple[tuple[str, ...], list[tuple[int, int]]]:
    """The words that pieces form, and (place of the piece, number of its word); special tokens have none."""
    words: list[str] = []
    owners = []
    for place, piece in enumerate(pieces):
        bare = piece.replace(_SPACE, "")
        if place in (0, len(pieces) - 1) or not bare:  # <s> and </s>, and a space by itself
            continue
        if piece.startswith(_SPACE) or not words or not bare[0].isalnum() or pieces[place - 1] == _SPACE:
            words.append("")
        words[-1] += bare
        owners.append((place, len(words) - 1))
    return tuple(words), owners


def _looks(weights: Tensor, query: Query, num_prefix: int, grid: tuple[int, int]) -> Tensor:
    """The row (..., 1, N) of a query in weights (..., N, N)."""
    if query == "class":
        return weights[..., :1, :]
    if query == "mean":
        return weights[..., num_prefix:, :].mean(dim=-2, keepdim=True)
    place = num_prefix + query[0] * grid[1] + query[1]
    return weights[..., place : place + 1, :]


def _check_query(query: Query | None, num_prefix: int, grid: tuple[int, int]) -> Query:
    if query is None:
        return "class" if num_prefix else "mean"
    if query == "class" and not num_prefix:
        raise ConfigError("this model has no class token; ask for the query mean, or for a patch")
    if query in ("class", "mean"):
        return query
    if (
        not isinstance(query, tuple)
        or len(query) != 2
        or not all(0 <= at < most for at, most in zip(query, grid, strict=True))
    ):
        raise ConfigError(
            f"query is {query!r}; expected class, mean, or (row, column) of one of {grid[0]} x {grid[1]} "
            "patches"
        )
    return query


def _attentions(sight: Sight) -> list[nn.Module]:
    """The attention of each block, from the first to the last.

    Raises:
        ConfigError: It looks within windows, or is of another library.
    """
    if any(sight.windows):
        blocks = [str(block) for block, side in enumerate(sight.windows) if side]
        raise ConfigError(
            f"blocks {', '.join(blocks)} of this model look within windows of {max(sight.windows)} patches, "
            "not at the whole picture; attention is shown of models without windows"
        )
    if not isinstance(sight.vit, Beit3Encoder | ViT):
        raise ConfigError(
            "attention is shown of BEiT-3 and of our ViT; this model's ViT is timm's: convert its weights "
            "(imglish convert) where we have the same model"
        )
    return [block.get_submodule("attention") for block in sight.vit.blocks]


def _weights_of(attention: nn.Module, arguments: tuple[Any, ...]) -> Tensor:
    """Weights (B, h, N, N) of an attention that was called with these arguments."""
    if isinstance(attention, Attention):
        return vit.attention_weights(attention, *arguments)[0]
    assert isinstance(attention, MultiwayAttention)
    return beit3.attention_weights(attention, *arguments)[0]


@contextmanager
def _watching(attentions: Sequence[nn.Module], read: Callable[[Tensor], None]) -> Iterator[None]:
    """Read the weights of each attention that runs inside; afterwards all is as before."""

    def hook(attention: nn.Module, arguments: tuple[Any, ...]) -> None:
        read(_weights_of(attention, arguments))

    handles = [attention.register_forward_pre_hook(hook) for attention in attentions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
