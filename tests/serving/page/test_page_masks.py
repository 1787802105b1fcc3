"""Masks are read in the browser as COCO's own tools read them, and outlined along their pixels."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Error, Page
from pycocotools import mask as coco_masks

import imglish.serving

PAGE = Path(imglish.serving.__file__).parent / "page"
Mask = NDArray[np.uint8]
# pycocotools asks NumPy in a way of its own.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
_IMPORT = "window.masks = await import('data:text/javascript;base64,' + code)"
# Pixels as base64, because a mask of a large picture takes seconds as a list.
_DECODE = """([all, step]) => all.map((mask) => {
  const { width, height, pixels } = masks.decodeMask(mask, step);
  return [height, width, btoa(String.fromCharCode(...pixels))];
})"""
# What a canvas fills of an outline; edges lie between pixels, so that each is filled wholly or not at all.
_FILL = """(all) => all.map((mask) => {
  const [height, width] = mask.size;
  const drawing = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  drawing.fill(new Path2D(masks.maskPath(mask)), "evenodd");
  const { data } = drawing.getImageData(0, 0, width, height);
  const filled = Array.from({ length: width * height }, (_, i) => data[4 * i + 3]);
  return [height, width, btoa(String.fromCharCode(...filled))];
})"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page()
    code = b64encode((PAGE / "masks.js").read_bytes()).decode()
    opened.evaluate(f"async (code) => {{ {_IMPORT} }}", code)
    yield opened
    opened.close()


def masks() -> list[Mask]:
    """Of every kind: noise, blobs with holes, lines, nothing and everything, down to one pixel."""
    draw = np.random.default_rng(0)
    found = [(draw.random(size) < share).astype(np.uint8)
             for size in [(1, 1), (1, 9), (7, 1), (5, 8), (33, 20), (64, 64)]
             for share in (0.0, 0.1, 0.5, 1.0)]  # fmt: skip
    y, x = np.mgrid[:90, :130]
    ring = ((y - 40) ** 2 + (x - 70) ** 2 < 38**2) & ((y - 44) ** 2 + (x - 66) ** 2 > 20**2)
    touching = np.kron(np.eye(3, dtype=np.uint8), np.ones((4, 5), dtype=np.uint8))  # corner to corner
    return [*found, ring.astype(np.uint8), touching]


def encoded(mask: Mask) -> dict[str, Any]:
    found = coco_masks.encode(np.asfortranarray(mask))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def pixels(answers: list[tuple[int, int, str]]) -> list[Mask]:
    return [
        np.frombuffer(b64decode(text), dtype=np.uint8).reshape(height, width)
        for height, width, text in answers
    ]


def test_masks_are_read_as_pycocotools_reads_them(page: Page) -> None:
    given = [encoded(mask) for mask in masks()]
    for rle, found in zip(given, pixels(page.evaluate(_DECODE, [given, 1])), strict=True):
        assert np.array_equal(found, coco_masks.decode(rle))


def test_shares_are_those_of_pycocotools(page: Page) -> None:
    given = [encoded(mask) for mask in masks()]
    shares = page.evaluate("(all) => all.map(masks.maskShare)", given)
    assert shares == pytest.approx([coco_masks.area(rle) / np.prod(rle["size"]) for rle in given])


def test_large_run_lengths_are_read(page: Page) -> None:
    mask = np.zeros((3000, 2500), dtype=np.uint8)
    mask[:, 1200:] = 1
    mask[2999, 2499] = 0  # runs of 3,600,000 and 3,899,999 pixels, and a difference below zero
    assert page.evaluate("(mask) => masks.decodeCounts(mask.counts)", encoded(mask)) == [
        3_600_000,
        3_899_999,
        1,
    ]


@pytest.mark.parametrize("step", [2, 3, 7])
def test_a_coarser_mask_has_every_nth_pixel(page: Page, step: int) -> None:
    answers = page.evaluate(_DECODE, [[encoded(mask) for mask in masks()], step])
    for mask, found in zip(masks(), pixels(answers), strict=True):
        assert np.array_equal(found, mask[::step, ::step])


def test_outlines_hold_the_pixels_of_their_masks_and_no_others(page: Page) -> None:
    answers = page.evaluate(_FILL, [encoded(mask) for mask in masks()])
    for mask, found in zip(masks(), pixels(answers), strict=True):
        assert np.array_equal(found, 255 * mask)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"size": [2, 2], "counts": "5"}, "does not have 2 x 2 pixels"),
        ({"size": [2, 2], "counts": "`"}, "breaks off"),
        ({"size": [2, 2], "counts": "\t"}, "characters that no mask has"),
        ({"size": [2, 2], "counts": "O5"}, "negative run"),
    ],
)
def test_what_is_no_mask_is_refused(page: Page, mask: dict[str, Any], message: str) -> None:
    with pytest.raises(Error, match=message):
        page.evaluate("(mask) => masks.decodeMask(mask)", mask)
