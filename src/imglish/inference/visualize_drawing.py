"""Sheets of small pictures with words below, lit by weights; Pillow and NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_DARKEST = 0.1  # brightness of what nobody looks at
_GAMMA = 0.6  # small weights are seen, too
_GAP, _FONT = 8, 13  # pixels between tiles, and of the height of letters
_LINE = 16  # pixels from one line of words to the next
_INK, _PAPER, _FRAME = (40, 40, 40), (255, 255, 255), (0, 229, 255)


class Tile(NamedTuple):
    """One small picture of a sheet.

    Args:
        picture: uint8 (H, W, 3).
        words: Below it, in lines; too long ones are cut.
        smooth: True where the picture is a photograph, which is enlarged smoothly; False for maps.
    """

    picture: NDArray[np.uint8]
    words: str
    smooth: bool = False


def spotlight(
    pixels: NDArray[np.uint8],
    weights: NDArray[np.float32] | None,
    *,
    most: float | None = None,
    patch: tuple[int, int] | None = None,
    grid: tuple[int, ...] | None = None,
    side: int = 320,
) -> NDArray[np.uint8]:
    """Light a picture by weights of its patches: 0 is dark, the largest as bright as the picture.

    Args:
        pixels: uint8 (H, W, 3).
        weights: float32 (rows, columns), at least 0; None leaves the picture as it is.
        most: The weight that is fully lit; None is the largest one there.
        patch: (row, column) of a patch to be framed.
        grid: (rows, columns) of the patches, where a patch is framed and there are no weights.
        side: Pixels of the shorter side of what is drawn.

    Returns:
        uint8 (H', W', 3), the picture, larger or smaller.
    """
    height, width = pixels.shape[:2]
    zoom = side / min(height, width)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    drawn = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    if weights is not None:
        grid = weights.shape
        full = max(float(weights.max()) if most is None else most, float(np.finfo(np.float32).tiny))
        level = np.clip(weights / full, 0, 1).astype(np.float32)
        light = np.asarray(Image.fromarray(level).resize(size, Image.Resampling.NEAREST))
        drawn = np.rint(drawn * (_DARKEST + (1 - _DARKEST) * light[..., None] ** _GAMMA)).astype(np.uint8)
    if patch is None or grid is None:
        return drawn
    image = Image.fromarray(drawn)
    step = size[1] / grid[0], size[0] / grid[1]
    top, left = patch[0] * step[0], patch[1] * step[1]
    box = (left, top, left + step[1] - 1, top + step[0] - 1)
    ImageDraw.Draw(image).rectangle(box, outline=_FRAME, width=max(2, side // 80))
    return np.asarray(image)


def lines_of(tiles: Sequence[Tile], columns: int) -> list[list[Tile]]:
    """Cut tiles into lines of at most so many, as even as can be."""
    lines = max(1, -(-len(tiles) // columns))
    each = max(1, -(-len(tiles) // lines))
    return [list(tiles[first : first + each]) for first in range(0, len(tiles), each)]


def sheet(rows: Sequence[Sequence[Tile]], *, height: int, aspect: float = 1.0) -> Image.Image:
    """Lay tiles out in rows on white, all of one size.

    Args:
        rows: Of tiles; rows may differ in length.
        height: Of a tile in pixels.
        aspect: Width over height of a tile; beyond 1:4 and 4:1 it is cut to that.

    Returns:
        An RGB picture.
    """
    width = round(height * min(max(aspect, 0.25), 4.0))
    font = ImageFont.load_default(_FONT)
    lines = [max((len(tile.words.splitlines()) for tile in row), default=0) for row in rows]
    heights = [height + (4 + _LINE * count if count else 0) for count in lines]
    columns = max((len(row) for row in rows), default=1)
    whole = Image.new("RGB", (columns * (width + _GAP) + _GAP, sum(heights) + _GAP * (len(rows) + 1)), _PAPER)
    pen, top = ImageDraw.Draw(whole), _GAP
    for row, tall in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            left = _GAP + column * (width + _GAP)
            enlarged = tile.picture.shape[0] < height and not tile.smooth
            how = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
            whole.paste(Image.fromarray(tile.picture).resize((width, height), how), (left, top))
            for number, line in enumerate(tile.words.splitlines()):
                place = (left, top + height + 3 + number * _LINE)
                pen.text(place, _cut(line, font, width), fill=_INK, font=font)
        top += tall + _GAP
    return whole


def _cut(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The beginning of a line that is no wider than some pixels."""
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "\N{HORIZONTAL ELLIPSIS}") > width:
        line = line[:-1]
    return line + "\N{HORIZONTAL ELLIPSIS}"
