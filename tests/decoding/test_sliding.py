"""Class maps strip by strip equal the ones made at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.decoding import sliding
from imglish.decoding.sliding import (
    View,
    Windows,
    class_map,
    class_strips,
    mean_probabilities,
    most_probable_classes,
    score_strips,
)

ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # rows and columns are blended one after the other, not together


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 5, stride=4, padding=2), torch.nn.ReLU(), torch.nn.Conv2d(6, 4, 1)
    ).requires_grad_(False)


def pictures(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def at_once(images: Tensor, windows: Windows | None) -> Tensor:
    """The scores at the picture's size as the official code has them: a sum and a count of all windows."""
    height, width = images.shape[-2:]
    if windows is None:
        return enlarged(network()(images), (height, width))
    total, count = torch.zeros(len(images), 4, height, width), torch.zeros(height, width)
    (tall, wide), (down, right) = windows.size, windows.stride
    for i in range(max(height - tall + down - 1, 0) // down + 1):
        for j in range(max(width - wide + right - 1, 0) // right + 1):
            bottom, end = min(i * down + tall, height), min(j * right + wide, width)
            rows, columns = slice(max(bottom - tall, 0), bottom), slice(max(end - wide, 0), end)
            window = images[:, :, rows, columns]
            total[:, :, rows, columns] += enlarged(network()(window), (window.shape[2], window.shape[3]))
            count[rows, columns] += 1
    return total / count


def joined(strips: Iterator[sliding.Strip]) -> Tensor:
    parts, top = [], 0
    for strip in strips:
        assert strip.top == top
        top += strip.values.shape[2]
        parts.append(strip.values)
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize("picture", [(64, 96), (45, 70), (32, 48), (20, 100), (65, 33)])
@pytest.mark.parametrize(
    "windows", [None, Windows((32, 48), (20, 32)), Windows((32, 48), (32, 48)), Windows((16, 16), (5, 7))]
)
def test_windows_are_averaged_where_they_overlap(picture: tuple[int, int], windows: Windows | None) -> None:
    images = pictures(*picture)
    found = joined(score_strips(network(), View(images), size=picture, windows=windows))
    torch.testing.assert_close(found, at_once(images, windows), **ROUNDING)


@pytest.mark.parametrize("size", [(64, 96), (50, 61), (130, 200), (7, 9), (1, 1), (200, 30)])
@pytest.mark.parametrize("windows", [None, Windows((32, 48), (20, 32))])
@pytest.mark.parametrize("most", [1, 5_000, 2**26])
def test_scores_are_resized_after_that(
    size: tuple[int, int], windows: Windows | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliding, "_MOST_NUMBERS", most)
    images = pictures(64, 96)
    found = joined(score_strips(network(), View(images), size=size, windows=windows))
    torch.testing.assert_close(found, enlarged(at_once(images, windows), size), **ROUNDING)


def test_a_strip_holds_no_more_rows_than_a_window_and_no_row_waits_for_the_end() -> None:
    asked = 0
    model = network()

    def predict(images: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        scores: Tensor = model(images)
        return scores

    windows = Windows((16, 48), (16, 48))
    strips = score_strips(predict, View(pictures(160, 96)), size=(160, 96), windows=windows)
    for count, strip in enumerate(strips, start=1):
        assert strip.values.shape[2] == 16 and asked == 2 * count


@pytest.mark.parametrize("windows", [None, Windows((32, 48), (20, 32))])
def test_padding_is_cut_off_before_the_resize(windows: Windows | None) -> None:
    images = pictures(64, 96)
    found = joined(score_strips(network(), View(images, inside=(50, 80)), size=(40, 120), windows=windows))
    torch.testing.assert_close(
        found, enlarged(at_once(images, windows)[:, :, :50, :80], (40, 120)), **ROUNDING
    )


@pytest.mark.parametrize("windows", [None, Windows((32, 48), (20, 32))])
def test_probabilities_of_scales_and_mirror_images_are_averaged(windows: Windows | None) -> None:
    size, parts, views = (45, 70), [], []
    for height, width in ((64, 96), (48, 72), (32, 32)):
        images = pictures(height, width)
        views += [View(images), View(images.flip(3), flipped=True)]
        parts.append(enlarged(at_once(images, windows), size).softmax(dim=1))
        parts.append(enlarged(at_once(images.flip(3), windows), size).softmax(dim=1).flip(3))
    found = mean_probabilities(network(), iter(views), size=size, windows=windows)
    torch.testing.assert_close(found, torch.stack(parts).mean(dim=0), **ROUNDING)


def test_classes_are_those_of_the_largest_scores() -> None:
    images, windows = pictures(64, 96), Windows((32, 48), (20, 32))
    found = class_map(network(), View(images), size=(64, 96), windows=windows)
    scores = joined(score_strips(network(), View(images), size=(64, 96), windows=windows))
    assert torch.equal(found, scores.argmax(dim=1)) and found.unique().numel() > 1
    strips = list(class_strips(network(), View(images), size=(64, 96), windows=windows))
    assert len(strips) > 1 and torch.equal(torch.cat([s.values for s in strips], dim=1), found)


def test_half_precision_adds_up_in_single() -> None:
    view, windows = View(pictures(64, 96)), Windows((32, 48), (20, 32))
    half, single = (
        joined(score_strips(predict, view, size=(64, 96), windows=windows))
        for predict in (lambda x: network()(x).bfloat16(), lambda x: network()(x).bfloat16().float())
    )
    assert half.dtype == torch.float32 and torch.equal(half, single)


@pytest.mark.parametrize(
    ("size", "stride", "message"),
    [((0, 4), (1, 1), "at least 1"), ((4, 4), (0, 1), "at least 1"), ((4, 4), (5, 4), "leave gaps")],
)
def test_windows_that_make_no_sense_are_refused(
    size: tuple[int, int], stride: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Windows(size, stride)


def test_no_view_is_refused() -> None:
    with pytest.raises(ValueError, match="no view"):
        mean_probabilities(network(), [], size=(4, 4))


@pytest.mark.parametrize("windows", [None, Windows((32, 48), (20, 32))])
@pytest.mark.parametrize("most", [1, 5_000, 2**24])
@pytest.mark.parametrize("size", [(200, 310), (45, 70)])
def test_the_most_probable_classes_are_the_same_however_they_are_held(
    windows: Windows | None, most: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliding, "_MOST_NUMBERS", most)
    views = [
        View(pictures(64, 96), inside=(60, 90)),
        View(pictures(64, 96).flip(3), flipped=True),
        View(pictures(48, 72)),
    ]
    expected = mean_probabilities(network(), views, size=size, windows=windows).argmax(dim=1)
    if size == (200, 310):  # larger than all views together

        def refuse(*_: object, **__: object) -> Tensor:
            raise AssertionError("a map of all classes was made")

        monkeypatch.setattr(sliding, "mean_probabilities", refuse)
    found = most_probable_classes(network(), views, size=size, windows=windows)
    assert torch.equal(found, expected) and found.unique().numel() > 1


def test_no_view_has_no_classes() -> None:
    with pytest.raises(ValueError, match="no view"):
        most_probable_classes(network(), [], size=(4, 4))


def test_rows_of_many_numbers_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of windows, too: 512 rows of a wide picture and 150 classes would fill a gigabyte."""
    windows = Windows((16, 48), (12, 48))
    view = View(pictures(64, 96))
    expected = joined(score_strips(network(), view, size=(64, 96), windows=windows))
    monkeypatch.setattr(sliding, "_MOST_NUMBERS", 2 * 4 * 96 * 5)  # five rows
    strips = list(score_strips(network(), view, size=(64, 96), windows=windows))
    assert max(strip.values.shape[2] for strip in strips) == 5
    assert torch.equal(joined(iter(strips)), expected)
