"""Class maps of large pictures: whole or by sliding windows, at several scales, strip by strip.

Scores of all classes at full size would fill gigabytes, so they exist for a few rows at a time only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Predict = Callable[[Tensor], Tensor]  # from pictures (B, 3, h, w) to scores (B, classes, ...) at any stride
Size = tuple[int, int]

_MOST_NUMBERS = 2**24  # scores that a strip may hold: 64 MB


@dataclass(frozen=True, slots=True)
class Windows:
    """How a picture is cut into overlapping windows.

    Args:
        size: (height, width) of a window; where the picture is smaller, so is the window.
        stride: Rows and columns between two windows. The last ones are moved back into the picture.
    """

    size: Size
    stride: Size

    def __post_init__(self) -> None:
        if min(*self.size, *self.stride) < 1:
            raise ValueError(f"windows of {self.size} every {self.stride}: all must be at least 1")
        if self.stride[0] > self.size[0] or self.stride[1] > self.size[1]:
            raise ValueError(f"windows of {self.size} every {self.stride} leave gaps")


class View(NamedTuple):
    """One way to show a picture to the network.

    Args:
        images: (B, 3, h, w), resized and padded.
        flipped: True where they were flipped horizontally; what is found is flipped back.
        inside: (height, width) without the padding at the bottom and the right; None: nothing is padded.
    """

    images: Tensor
    flipped: bool = False
    inside: Size | None = None


class Strip(NamedTuple):
    """Some whole rows.

    Args:
        top: Number of the first one.
        values: Scores (B, classes, rows, W), or classes int64 (B, rows, W).
    """

    top: int
    values: Tensor


def score_strips(
    predict: Predict, view: View, *, size: Size, windows: Windows | None = None
) -> Iterator[Strip]:
    """Scores of a picture at ``size`` (height, width), from top to bottom.

    Scores are enlarged to the window, averaged where windows overlap, freed of the padding, and resized.

    Args:
        predict: The network.
        view: What it is shown.
        size: Of the scores.
        windows: How the picture is cut; None shows it whole.
    """
    rows, inside = _rows_of(predict, view, windows), _inside(view)
    if inside != size:
        rows = _resized(rows, size, height=inside[0])
    top = 0
    for values in rows:
        yield Strip(top, values.flip(-1) if view.flipped else values)
        top += values.shape[-2]


def class_strips(
    predict: Predict, view: View, *, size: Size, windows: Windows | None = None
) -> Iterator[Strip]:
    """Classes with the largest score, int64 (B, rows, W), from top to bottom; arguments of `score_strips`."""
    for top, scores in score_strips(predict, view, size=size, windows=windows):
        yield Strip(top, scores.argmax(dim=1))


def class_map(predict: Predict, view: View, *, size: Size, windows: Windows | None = None) -> Tensor:
    """The same as one map int64 (B, *size)."""
    return torch.cat([s.values for s in class_strips(predict, view, size=size, windows=windows)], dim=1)


def mean_probabilities(
    predict: Predict, views: Iterable[View], *, size: Size, windows: Windows | None = None
) -> Tensor:
    """Probabilities of classes, averaged over views, such as several scales and their mirror images.

    The softmax of each view's scores is taken at ``size``, also of Mask2Former's, which are no logits: so
    the official evaluation does it. They add up in place; one map of all classes is held.

    Args:
        predict: The network.
        views: Made one after the other, as they are asked for.
        size: (height, width) of the probabilities.
        windows: How the pictures are cut; None shows them whole.

    Returns:
        float32 (B, classes, *size).

    Raises:
        ValueError: There is no view.
    """
    total: Tensor | None = None
    count = 0
    for view in views:
        count += 1
        for top, scores in score_strips(predict, view, size=size, windows=windows):
            if total is None:
                total = scores.new_zeros(*scores.shape[:2], *size)
            total[:, :, top : top + scores.shape[2]] += scores.softmax(dim=1)
    if total is None:
        raise ValueError("no view of the picture was given")
    return total.div_(count)


def most_probable_classes(
    predict: Predict, views: Sequence[View], *, size: Size, windows: Windows | None = None
) -> Tensor:
    """Classes with the largest of `mean_probabilities`, in less memory where the views are small.

    If all views together have fewer pixels than the map, their scores are held at the views' own sizes, and
    enlarged a strip at a time. The probabilities are the same.

    Args:
        predict: The network.
        views: Of the same pictures.
        size: (height, width) of the map.
        windows: How the pictures are cut; None shows them whole.

    Returns:
        int64 (B, *size).

    Raises:
        ValueError: There is no view.
    """
    if not views or sum(math.prod(_inside(view)) for view in views) >= math.prod(size):
        return mean_probabilities(predict, views, size=size, windows=windows).argmax(dim=1)
    held = [torch.cat(list(_rows_of(predict, view, windows)), dim=2) for view in views]
    strips = [_resized(iter([scores]), size) for scores in held]  # all of the same rows
    found: list[Tensor] = []
    while sum(rows.shape[1] for rows in found) < size[0]:
        total: Tensor | None = None
        for view, enlarged in zip(views, strips, strict=True):
            scores = next(enlarged)
            shares = (scores.flip(-1) if view.flipped else scores).softmax(dim=1)
            total = shares if total is None else total.add_(shares)
        assert total is not None
        found.append(total.div_(len(views)).argmax(dim=1))
    return torch.cat(found, dim=1)


def _inside(view: View) -> Size:
    """(height, width) of a view without its padding."""
    return view.inside or (view.images.shape[-2], view.images.shape[-1])


def _rows_of(predict: Predict, view: View, windows: Windows | None) -> Iterator[Tensor]:
    """Scores at the size of a view without its padding, (B, classes, rows, w), flipped where the view is."""
    height, width = view.images.shape[-2:]
    if windows is None:
        rows = _resized(iter([predict(view.images).float()]), (height, width))
    else:
        rows = _slide(predict, view.images, windows)
    inside = _inside(view)
    return rows if inside == (height, width) else _cut(rows, inside)


def _slide(predict: Predict, images: Tensor, windows: Windows) -> Iterator[Tensor]:
    """Rows that no later window will touch, (B, classes, rows, W); windows go row by row."""
    height, width = images.shape[-2:]
    tall, wide = min(windows.size[0], height), min(windows.size[1], width)
    tops, lefts = _starts(height, tall, windows.stride[0]), _starts(width, wide, windows.stride[1])
    in_row, in_column = (
        _cover(count, starts, size, images.device)
        for count, starts, size in ((height, tops, tall), (width, lefts, wide))
    )
    total: Tensor | None = None  # the rows from the current window's top on
    for index, top in enumerate(tops):
        for left in lefts:
            window = images[:, :, top : top + tall, left : left + wide]
            scores = predict(window).float()
            scores = F.interpolate(scores, size=(tall, wide), mode="bilinear", align_corners=False)
            if total is None:
                total = scores.new_zeros(*scores.shape[:2], tall, width)
            total[..., left : left + wide] += scores
        assert total is not None
        done = (tops[index + 1] if index + 1 < len(tops) else height) - top
        most = max(1, _MOST_NUMBERS // (total.shape[0] * total.shape[1] * width))
        for first in range(0, done, most):
            rows = slice(first, min(first + most, done))
            yield total[:, :, rows] / (in_row[top + rows.start : top + rows.stop, None] * in_column)
        for first in range(0, tall - done, done):  # as many rows at a time as cannot overlap, without a copy
            rows = slice(first, min(first + done, tall - done))
            total[:, :, rows] = total[:, :, done + rows.start : done + rows.stop]
        total[:, :, tall - done :] = 0


def _starts(length: int, size: int, stride: int) -> list[int]:
    count = max(length - size + stride - 1, 0) // stride + 1
    return [min(index * stride, length - size) for index in range(count)]


def _cover(length: int, starts: list[int], size: int, device: torch.device) -> Tensor:
    """How many windows lie over each row or column, float32 (length,)."""
    covered = torch.zeros(length, device=device)
    for start in starts:
        covered[start : start + size] += 1
    return covered


def _cut(strips: Iterator[Tensor], inside: Size) -> Iterator[Tensor]:
    """The rows and columns within (height, width) ``inside``."""
    left = inside[0]
    for strip in strips:
        if left > 0:
            yield strip[:, :, :left, : inside[1]]
        left -= strip.shape[2]


def _resized(strips: Iterator[Tensor], size: Size, *, height: int | None = None) -> Iterator[Tensor]:
    """Resize a map that comes in strips, bilinearly and without aligned corners, as `interpolate` does.

    Args:
        strips: (B, classes, rows, w), from top to bottom.
        size: (height, width) of the result.
        height: Rows of all strips together; those of the first where it is the only one.
    """
    kept = next(strips)
    height = height or kept.shape[2]
    place = (torch.arange(size[0], device=kept.device) + 0.5) * (height / size[0]) - 0.5
    place = place.clamp(0, height - 1)
    above = place.floor().long()
    share, below = (place - above)[:, None].to(kept.dtype), (above + 1).clamp(max=height - 1)
    needed = below.tolist()
    most = max(1, _MOST_NUMBERS // (kept.shape[0] * kept.shape[1] * size[1]))
    first = done = 0  # number of the first row kept, rows of the result that are out
    while done < size[0]:
        ready = done
        while ready < size[0] and ready - done < most and needed[ready] < first + kept.shape[2]:
            ready += 1
        if ready == done:
            start = min(int(above[done]) - first, kept.shape[2])
            first += start
            kept = torch.cat([kept[:, :, start:], next(strips)], dim=2)
            continue
        rows = slice(done, ready)
        mixed = torch.lerp(kept[:, :, above[rows] - first], kept[:, :, below[rows] - first], share[rows])
        yield F.interpolate(mixed, size=(ready - done, size[1]), mode="bilinear", align_corners=False)
        done = ready
