from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imglish.data.pictures import decode_picture, read_mask, read_picture, read_segment_ids
from imglish.data.transforms.upright import open_image
from imglish.errors import DataFormatError

JPEG_STEP = 12  # grey levels that JPEG at quality 95 may be off on a smooth ramp


def ramp(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 4, columns * 4, rows * 2 + columns * 2], axis=-1).astype(np.uint8)


def encode(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_png_gives_its_very_pixels_channels_first() -> None:
    pixels = ramp(5, 9)
    tensor = decode_picture(encode(pixels, "PNG"), "tiny.png")
    assert tensor.dtype == torch.uint8 and tensor.is_contiguous()
    np.testing.assert_array_equal(tensor.numpy(), pixels.transpose(2, 0, 1))


def test_a_jpeg_file_gives_nearly_its_pixels(tmp_path: Path) -> None:
    pixels = ramp(16, 24)
    path = tmp_path / "tiny.jpg"
    path.write_bytes(encode(pixels, "JPEG", quality=95, subsampling=0))
    tensor = read_picture(path)
    assert tensor.shape == (3, 16, 24)
    assert np.abs(tensor.numpy().transpose(1, 2, 0).astype(int) - pixels).max() <= JPEG_STEP


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(np.full((6, 7, 3), 255, np.uint8)).convert(mode)
    image.save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    assert torch.equal(decode_picture(buffer.getvalue(), "x"), torch.full((3, 6, 7), 255, dtype=torch.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_picture_that_was_cut_short_is_refused_by_name(kind: str, share: float) -> None:
    data = encode(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8), kind)
    with pytest.raises(DataFormatError, match=r"^cut\.png: "):
        decode_picture(data[: int(share * len(data))], "cut.png")


def test_no_damage_to_a_png_crashes_or_raises_anything_else() -> None:
    rng = np.random.default_rng(0)
    data = encode(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8), "PNG")
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            damaged[place] = int(rng.integers(256))
        try:
            decode_picture(bytes(damaged), "damaged.png")
        except DataFormatError as error:
            refused += 1
            assert "damaged.png" in str(error) and "\n" not in str(error)
    assert refused > 100


@pytest.mark.parametrize(("data", "words"), [(b"", "is empty"), (b"<html>not found</html>", "is no picture")])
def test_what_is_no_picture_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(DataFormatError, match=words):
        decode_picture(data, "page.jpg")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"gone\.png: no such file"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(DataFormatError, match="cannot be read"):
        read_picture(tmp_path)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_mask_gives_its_class_ids(tmp_path: Path, mode: str) -> None:
    ids = (np.arange(30, dtype=np.uint8) % 19).reshape(5, 6)
    image = Image.fromarray(ids)
    if mode == "P":
        image = Image.new("P", (6, 5))
        image.putdata(ids.ravel().tolist())
        image.putpalette([7 * i % 256 for i in range(768)])
    path = tmp_path / "mask.png"
    image.save(path)
    mask = read_mask(path, (5, 6))
    assert mask.dtype == torch.uint8
    np.testing.assert_array_equal(mask.numpy(), ids)


def test_a_mask_of_sixteen_bits_may_begin_with_the_upper_ones(tmp_path: Path) -> None:
    """A TIFF in the order of bytes that Macs and programs of geography write."""
    ids = np.array([[0, 300, 65535]])
    entries = [(256, 3), (257, 1), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 6)]
    packed = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    head, pixels = b"MM" + struct.pack(">HI", 42, 14), ids.astype(">u2").tobytes()
    (tmp_path / "mask.tif").write_bytes(head + pixels + struct.pack(">H", 9) + packed + bytes(4))
    assert Image.open(tmp_path / "mask.tif").mode == "I;16B"
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif", (1, 3)).numpy(), ids)


def test_a_mask_of_floating_point_numbers_and_a_folder_are_told(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 3), np.float32)).save(tmp_path / "mask.tif")
    with pytest.raises(
        DataFormatError, match=r"mask\.tif: has floating-point numbers; expected class ids of 8"
    ):
        read_mask(tmp_path / "mask.tif", (2, 3))
    with pytest.raises(DataFormatError, match=r"expected a picture: name the pictures in it"):
        open_image(tmp_path, str(tmp_path))


def test_a_mask_of_sixteen_bits_keeps_large_ids(tmp_path: Path) -> None:
    ids = np.array([[0, 255], [256, 3000]], dtype=np.uint16)
    Image.fromarray(ids).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", (2, 2)).numpy(), ids.astype(np.int32))


def test_a_mask_of_another_size_than_its_picture_is_refused_with_both_sizes(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(DataFormatError, match=r"is 5 high and 6 wide, but its picture is 6 high and 7 wide"):
        read_mask(tmp_path / "mask.png", (6, 7))
    with pytest.raises(DataFormatError, match=r"the same size: take the EXIF orientation out of the picture"):
        read_mask(tmp_path / "mask.png", (6, 5))


def test_a_coloured_mask_is_refused(tmp_path: Path) -> None:
    Image.fromarray(ramp(4, 4)).save(tmp_path / "mask.png")
    with pytest.raises(DataFormatError, match="expected one channel"):
        read_mask(tmp_path / "mask.png", (4, 4))


def test_segment_ids_are_put_together_from_three_bytes(tmp_path: Path) -> None:
    pixels = np.array([[[7, 0, 0], [0, 1, 0]], [[0, 0, 1], [255, 255, 255]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "map.png")
    ids = read_segment_ids(tmp_path / "map.png", (2, 2))
    assert ids.tolist() == [[7, 256], [65536, 2**24 - 1]]
    with pytest.raises(DataFormatError, match="is 2 high"):
        read_segment_ids(tmp_path / "map.png", (2, 3))
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    with pytest.raises(DataFormatError, match="bytes of segment ids"):
        read_segment_ids(tmp_path / "grey.png", (2, 2))
