"""What visual tokens mean: the patches of many pictures that share one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from imglish.data.transforms.image import to_model_range
from imglish.data.transforms.resize import resize_bicubic
from imglish.errors import ConfigError
from imglish.inference.batches import positive
from imglish.inference.pictures import Picture, open_picture
from imglish.inference.visualize_drawing import Tile, sheet
from imglish.models.vqkd.model import Vqkd

_AT_ONCE = 32  # pictures
_BARS = (70, 110, 170)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodebookGallery:
    """Patches that share a visual token.

    Args:
        tokens: int64 (K,): the tokens shown, most used first.
        patches: float32 (K, P, s, s, 3), RGB in [0, 1]: patches of each token with their surroundings, those
            nearest to the code first; zeros where a token has fewer.
        found: bool (K, P), True where there is a patch.
        cosines: float32 (K, P): of each patch's features with the code.
        usage: float64 (codebook size,): the share of all patches that each token has.
        patch_pixels: Side of a patch itself, in the middle of ``s`` pixels.
    """

    tokens: NDArray[np.int64]
    patches: NDArray[np.float32]
    found: NDArray[np.bool_]
    cosines: NDArray[np.float32]
    usage: NDArray[np.float64]
    patch_pixels: int

    @property
    def num_used(self) -> int:
        """Tokens that some patch has."""
        return int((self.usage > 0).sum())

    @property
    def perplexity(self) -> float:
        """How many tokens in equal use would be as varied: the exponential of the entropy."""
        used = self.usage[self.usage > 0]
        return float(np.exp(-(used * np.log(used)).sum()))

    def draw(self, *, tile: int = 64) -> Image.Image:
        """A sheet: the usage of all tokens as bars, most used first, then a line of patches for each token.

        Args:
            tile: Height of a patch with its surroundings in pixels.
        """
        rows = []
        for token, patches, found in zip(self.tokens, self.patches, self.found, strict=True):
            tiles = [Tile(_label(f"#{token}\n{self.usage[token]:.2%}", tile), "")]
            tiles += [Tile(self._framed(one), "") for one, there in zip(patches, found, strict=True) if there]
            rows.append(tiles)
        lines = sheet(rows, height=tile)
        bars = _bar_chart(self.usage, lines.width)
        whole = Image.new("RGB", (lines.width, lines.height + bars.height), "white")
        whole.paste(bars, (0, 0))
        whole.paste(lines, (0, bars.height))
        told = f"{self.num_used} of {len(self.usage)} tokens in use, perplexity {self.perplexity:.0f}"
        ImageDraw.Draw(whole).text((8, 4), told, fill=(40, 40, 40), font_size=14)
        return whole

    def _framed(self, patch: NDArray[np.float32]) -> NDArray[np.uint8]:
        """A patch in its surroundings, which are paler, with a frame around the patch itself."""
        side, zoom = patch.shape[0], 4
        edge = (side - self.patch_pixels) // 2
        pale = 0.45 * patch + 0.55
        pale[edge : side - edge, edge : side - edge] = patch[edge : side - edge, edge : side - edge]
        image = Image.fromarray(np.rint(pale * 255).astype(np.uint8))
        image = image.resize((side * zoom, side * zoom), Image.Resampling.BICUBIC)
        box = (edge * zoom, edge * zoom, (side - edge) * zoom - 1, (side - edge) * zoom - 1)
        ImageDraw.Draw(image).rectangle(box, outline=(0, 0, 0), width=2)
        return np.asarray(image)


@torch.no_grad()
def codebook_gallery(
    tokenizer: Vqkd,
    pictures: Sequence[Picture],
    *,
    num_tokens: int = 16,
    num_patches: int = 10,
    surroundings: float = 0.5,
) -> CodebookGallery:
    """Collect the patches of pictures that share a visual token.

    Shown are tokens from the whole range of use: the most used one, and on in even steps down to the least
    used one that at least two patches have. From each picture a token gets the nearest patch only, unless
    there are too few pictures.

    Args:
        tokenizer: A visual tokenizer in evaluation mode.
        pictures: At least one, of any kinds that `Predictor` takes; squashed to the tokenizer's size.
        num_tokens: K, how many tokens to show; fewer where fewer are in use.
        num_patches: P, how many patches of each.
        surroundings: How much of the picture around a patch to show, in sides of a patch to each side.

    Raises:
        ConfigError: There is no picture, a number is not positive, or ``surroundings`` is negative.
        DataFormatError: A picture cannot be used.
    """
    most_tokens, most_patches = positive("num_tokens", num_tokens), positive("num_patches", num_patches)
    if not pictures:
        raise ConfigError("give at least one picture; patches of a hundred or more show what tokens mean")
    if not 0 <= surroundings <= 16:
        raise ConfigError(f"surroundings must lie in [0, 16]; got {surroundings}")
    config, like = tokenizer.config.encoder, tokenizer.quantizer.codebook
    resized = torch.stack([resize_bicubic(open_picture(p), config.image_size, "pillow") for p in pictures])
    ids, cosines = [], []
    for batch in resized.split(_AT_ONCE):
        quantized = tokenizer.quantizer(tokenizer.features(to_model_range(batch).to(like.device, like.dtype)))
        ids.append(quantized.token_ids.cpu())
        cosines.append((quantized.features * like[quantized.token_ids]).sum(dim=-1).float().cpu())
    token_ids, nearness = torch.cat(ids), torch.cat(cosines)  # (pictures, N)
    counts = torch.bincount(token_ids.flatten(), minlength=len(like))
    chosen = _choose(counts, most_tokens)
    margin = round(surroundings * config.patch_size)
    side = config.patch_size + 2 * margin
    patches = np.zeros((len(chosen), most_patches, side, side, 3), np.float32)
    found = np.zeros((len(chosen), most_patches), np.bool_)
    near = np.zeros((len(chosen), most_patches), np.float32)
    columns = config.grid_size[1]
    for row, token in enumerate(chosen):
        for column, (picture, place) in enumerate(_nearest(token_ids == token, nearness, most_patches)):
            corner = divmod(place, columns)
            patches[row, column] = _cut(resized[picture], corner, config.patch_size, margin)
            found[row, column], near[row, column] = True, nearness[picture, place]
    return CodebookGallery(
        tokens=np.asarray(chosen, dtype=np.int64),
        patches=patches,
        found=found,
        cosines=near,
        usage=(counts.double() / counts.sum()).numpy(),
        patch_pixels=config.patch_size,
    )


def _choose(counts: Tensor, num_tokens: int) -> list[int]:
    """Tokens in even steps from the most used to the least used one of at least two patches."""
    order = counts.argsort(descending=True, stable=True)
    shared = int((counts >= 2).sum()) or 1
    steps = np.unique(np.linspace(0, shared - 1, min(num_tokens, shared)).round().astype(int))
    return [int(order[step]) for step in steps]


def _nearest(has: Tensor, nearness: Tensor, num_patches: int) -> list[tuple[int, int]]:
    """(picture, place) of patches that have a token (pictures, N), the nearest first, pictures by turns."""
    listed = has.nonzero().tolist()
    listed.sort(key=lambda at: -float(nearness[at[0], at[1]]))
    turns: dict[int, int] = {}
    ranked = []
    for rank, (picture, place) in enumerate(listed):
        turns[picture] = turns.get(picture, -1) + 1
        ranked.append((turns[picture], rank, picture, place))
    best = sorted(ranked)[:num_patches]
    return [(picture, place) for _, _, picture, place in sorted(best, key=lambda one: one[1])]


def _cut(image: Tensor, corner: tuple[int, int], side: int, margin: int) -> NDArray[np.float32]:
    """A patch of uint8 (3, H, W) with a margin, (s, s, 3) in [0, 1]; beyond the picture its edge goes on."""
    rows, columns = (
        np.clip(np.arange(at * side - margin, (at + 1) * side + margin), 0, length - 1)
        for at, length in zip(corner, image.shape[1:], strict=True)
    )
    pixels = image.permute(1, 2, 0).numpy()[np.ix_(rows, columns)]
    cut: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(255)
    return cut


def _label(words: str, side: int) -> NDArray[np.uint8]:
    """Words on white, uint8 (side, side, 3)."""
    image = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(image).text((2, side // 2), words, fill=(40, 40, 40), font_size=13, anchor="lm")
    return np.asarray(image)


def _bar_chart(usage: NDArray[np.float64], width: int) -> Image.Image:
    """Usage of all tokens, most used first, as high as 40 pixels."""
    chart = Image.new("RGB", (width, 76), "white")
    pen, ranked = ImageDraw.Draw(chart), np.sort(usage)[::-1]
    inner = width - 16
    for column in range(inner):
        value = ranked[column * len(ranked) // inner] / max(ranked[0], np.finfo(np.float64).tiny)
        if value > 0:
            pen.line((8 + column, 70, 8 + column, 70 - round(40 * value)), fill=_BARS)
    pen.line((8, 71, width - 8, 71), fill=(120, 120, 120))
    return chart
