"""Class maps in colour and objects, laid over their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imglish.inference.palettes import class_colors
from imglish.structures.instances import PanopticMap

_MARGIN = 6  # pixels around a legend's entries
_SHARE = 28  # an entry is this part of the picture's height, within
_LEAST, _MOST = 12, 40  # these pixels
_LEGIBLE = 256  # pixels of the shorter side from which on names of objects can be read
_STRIP = 256  # rows that are painted at once: a telephone's picture would take gigabytes
_LUMA = np.array([77, 150, 29], dtype=np.uint16)  # shares of red, green and blue in brightness, of 256
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def draw_classes(
    image: NDArray[np.uint8],
    classes: NDArray[np.int64],
    names: Sequence[str],
    *,
    opacity: float = 0.6,
    legend: bool = True,
) -> Image.Image:
    """Lay the colours of classes over a picture.

    The picture is seen in grey beneath, so that the colours are those of the legend.

    Args:
        image: uint8 (H, W, 3).
        classes: Class ids (H, W); what is no id, such as 255 for ignored, keeps the picture's
            own colours.
        names: Of all classes.
        opacity: Of the colours, in [0, 1].
        legend: True adds the names of the classes that are there, the largest first, at the right.

    Returns:
        An RGB picture, wider by the legend.

    Raises:
        ValueError: The map has another size than the picture, or the opacity is outside [0, 1].
    """
    if image.shape != (*classes.shape, 3):
        raise ValueError(f"a class map of {classes.shape} for a picture of {image.shape}; sizes must agree")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1]; got {opacity}")
    if not names:  # no segment was found
        return Image.fromarray(image)
    colors = class_colors(names)
    known = (classes >= 0) & (classes < len(names))
    drawn, share = image.copy(), round(256 * opacity)
    for top in range(0, len(drawn), _STRIP):
        rows = slice(top, top + _STRIP)
        paint = colors[np.where(known[rows], classes[rows], 0)].astype(np.uint16)
        grey = (image[rows].astype(np.uint16) @ _LUMA)[..., None] >> 8
        mixed = (grey * (256 - share) + paint * share + 128) >> 8
        drawn[rows] = np.where(known[rows][..., None], mixed, drawn[rows])
    picture = Image.fromarray(drawn)
    present = present_classes(classes, len(names))
    return (
        _with_legend(picture, [(names[i], tuple(colors[i].tolist())) for i in present]) if legend else picture
    )


def draw_segments(
    image: NDArray[np.uint8], segments: PanopticMap, names: Sequence[str], *, opacity: float = 0.6
) -> Image.Image:
    """Lay the colours of classes over a picture, with a white line where one segment ends.

    Args:
        image: uint8 (H, W, 3).
        segments: Of the picture.
        names: Of all classes.
        opacity: Of the colours, in [0, 1].

    Returns:
        An RGB picture; what belongs to no segment keeps its own colours.

    Raises:
        ValueError: The map has another size than the picture, or the opacity is outside [0, 1].
    """
    order = np.argsort(segments.segment_ids)
    known = segments.segment_ids[order]
    places = np.searchsorted(known, segments.ids).clip(max=max(len(known) - 1, 0))
    classes = np.full(segments.ids.shape, -1, np.int64)
    if len(known):
        classes = np.where(known[places] == segments.ids, segments.labels[order][places], -1)
    drawn = np.array(draw_classes(image, classes, names, opacity=opacity, legend=False))
    border = np.zeros(classes.shape, np.bool_)
    border[:, 1:] |= segments.ids[:, 1:] != segments.ids[:, :-1]
    border[1:] |= segments.ids[1:] != segments.ids[:-1]
    drawn[border] = _WHITE
    return Image.fromarray(drawn)


def draw_objects(
    image: NDArray[np.uint8],
    boxes: Sequence[tuple[float, float, float, float]],
    labels: Sequence[int],
    names: Sequence[str],
    *,
    scores: Sequence[float] = (),
    masks: Iterable[NDArray[np.bool_]] = (),
    opacity: float = 0.5,
    zoom: int | None = None,
) -> Image.Image:
    """Draw the boxes of objects with their names, and masks in the colours of their classes beneath.

    Args:
        image: uint8 (H, W, 3).
        boxes: (left, top, right, bottom) in pixels, the first on top of the others.
        labels: Class of each.
        names: Of all classes.
        scores: Of each, written as a percentage behind its name; none where there are none.
        masks: Of each, bool (H, W), looked at one after the other; none where there are none.
        opacity: Of the masks, in [0, 1].
        zoom: Factor by which the picture is enlarged; None enlarges small ones until names can be read.

    Returns:
        An RGB picture, so many times as large.

    Raises:
        ValueError: A mask has another size than the picture, the opacity is outside [0, 1], or the zoom is
            under 1.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1]; got {opacity}")
    zoom = max(1, _LEGIBLE // min(image.shape[:2])) if zoom is None else zoom
    if zoom < 1:
        raise ValueError(f"zoom must be at least 1; got {zoom}")
    colors, drawn, share = class_colors(names), image.copy(), round(256 * opacity)
    free = np.ones(image.shape[:2], np.bool_)  # of masks that lie on top
    for label, mask in zip(labels, masks, strict=False):
        if mask.shape != free.shape:
            raise ValueError(f"a mask of {mask.shape} for a picture of {image.shape}; sizes must agree")
        mixed = image[mask & free].astype(np.uint16) * (256 - share) + colors[label].astype(np.uint16) * share
        drawn[mask & free] = (mixed + 128) >> 8
        free &= ~mask
    picture = Image.fromarray(drawn)
    picture = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(min(max(picture.height // _SHARE, _LEAST), _MOST))
    line = max(1, round(min(picture.size) / 250))
    for place in reversed(range(len(boxes))):
        color = tuple(colors[labels[place]].tolist())
        words = names[labels[place]] + (f" {scores[place]:.0%}" if scores else "")
        left, top, right, bottom = (zoom * side for side in boxes[place])
        frame = (left, top, max(left, right - 1), max(top, bottom - 1))
        pen.rectangle(frame, outline=color, width=line)
        _write_name(pen, frame, color, words, font, picture.width)
    return picture


def _write_name(
    pen: ImageDraw.ImageDraw,
    frame: tuple[float, float, float, float],
    color: tuple[int, ...],
    words: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    most: int,
) -> None:
    """A name above a frame, or within where there is no place above, in a picture ``most`` pixels wide."""
    _, _, width, height = pen.textbbox((0, 0), words, font=font)
    left = max(0, min(frame[0], most - width - 4))
    top = frame[1] - height - 2
    top = frame[1] if top < 0 else top
    pen.rectangle((left, top, left + width + 3, top + height + 1), fill=color)
    is_bright = int(np.array(color[:3]) @ _LUMA) > 128 << 8
    pen.text((left + 2, top), words, fill=_BLACK if is_bright else _WHITE, font=font)


def present_classes(classes: NDArray[np.int64], num_classes: int) -> list[int]:
    """Ids of the classes in a map, those with the most pixels first; what is no id is left out."""
    inside = classes[(classes >= 0) & (classes < num_classes)]
    counts = np.bincount(inside, minlength=num_classes)
    return [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]


def _with_legend(picture: Image.Image, entries: Sequence[tuple[str, tuple[int, ...]]]) -> Image.Image:
    """The picture with a swatch and a name for each entry beside it, in columns as high as it is."""
    side = min(max(picture.height // _SHARE, _LEAST), _MOST)
    font = ImageFont.load_default(side)
    widest = max((font.getlength(name) for name, _ in entries), default=0.0)
    column, row = int(side + widest + 3 * _MARGIN), side + _MARGIN
    per_column = max(1, (picture.height - _MARGIN) // row)
    columns = -(-len(entries) // per_column)
    height = max(picture.height, row + _MARGIN)
    whole = Image.new("RGB", (picture.width + columns * column, height), _WHITE)
    whole.paste(picture)
    pen = ImageDraw.Draw(whole)
    for number, (name, color) in enumerate(entries):
        left = picture.width + number // per_column * column + _MARGIN
        top = _MARGIN + number % per_column * row
        pen.rectangle((left, top, left + side, top + side), fill=color, outline=_BLACK)
        pen.text((left + side + _MARGIN, top + side / 2), name, fill=_BLACK, font=font, anchor="lm")
    return whole
