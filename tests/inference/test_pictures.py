"""Pictures of every kind open to the same pixels, and what is no picture is refused in one line."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from imglish.data.pictures import decode_picture
from imglish.data.transforms.imagenet import IMAGENET_MEAN, IMAGENET_STD
from imglish.errors import DataFormatError
from imglish.inference.pictures import Picture, list_pictures, open_picture, prepare
from tests.inference.tiny_weights import pixels, png

IMAGE = pixels(20, 30)


def kinds_of(image: np.ndarray, folder: Path) -> dict[str, Picture]:
    """One picture in every kind that is taken."""
    path = folder / "picture.png"
    Image.fromarray(image).save(path)
    return {
        "path": path,
        "str": str(path),
        "bytes": path.read_bytes(),
        "pillow": Image.fromarray(image),
        "lazy": Image.open(path),
        "array": image,
        "backwards": np.ascontiguousarray(image[:, ::-1])[:, ::-1],
        "tensor": torch.from_numpy(image).permute(2, 0, 1),
    }


def encoded(form: str) -> bytes:
    """`IMAGE` as a file of that form."""
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, form)
    return buffer.getvalue()


def refusal(picture: object, **options: int) -> str:
    with pytest.raises(DataFormatError) as caught:
        open_picture(picture, "this one", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_kind_opens_to_the_same_pixels(tmp_path: Path) -> None:
    for kind, picture in kinds_of(IMAGE, tmp_path).items():
        opened = open_picture(picture)
        assert opened.dtype == torch.uint8, kind
        np.testing.assert_array_equal(opened.permute(1, 2, 0).numpy(), IMAGE, err_msg=kind)


def test_what_is_given_is_left_as_it_was() -> None:
    array = IMAGE.copy()
    array.flags.writeable = False
    open_picture(array).add_(1)
    np.testing.assert_array_equal(array, IMAGE)


def test_grey_arrays_get_three_channels() -> None:
    opened = open_picture(IMAGE[..., 0])
    np.testing.assert_array_equal(opened.numpy(), np.stack([IMAGE[..., 0]] * 3))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_gives_the_pixels_of_training(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30))
    else:
        image = Image.fromarray(IMAGE).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    expected = decode_picture(buffer.getvalue(), "picture")
    assert len(expected.unique()) > 1
    assert torch.equal(open_picture(image), expected)
    assert torch.equal(open_picture(buffer.getvalue()), expected)


def test_of_sixteen_bits_the_upper_eight_are_kept() -> None:
    grey = IMAGE[..., 0]
    deep = Image.fromarray((grey.astype(np.uint16) << 8) + 255)
    assert deep.mode == "I;16"
    np.testing.assert_array_equal(open_picture(png(deep)).numpy(), np.stack([grey] * 3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(IMAGE).save(path, exif=exif)
    expected = decode_picture(path.read_bytes(), "picture")
    assert expected.shape == ((3, 20, 30) if orientation < 5 else (3, 30, 20))
    for picture in (path, path.read_bytes(), Image.open(path)):
        assert torch.equal(open_picture(picture), expected)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("side", "message"),
    [
        (11_000, "is 11000 high and 11000 wide; expected at most 100,000,000 pixels"),
        (30_000, "has more pixels than Pillow decodes; expected at most 100,000,000"),
    ],
)
def test_huge_files_are_refused_before_they_are_decoded(side: int, message: str, tmp_path: Path) -> None:
    # The header promises many pixels, and there are few: decoding would say something else.
    data = png(Image.new("L", (300, 300)))
    header = data[12:16] + side.to_bytes(4, "big") * 2 + data[24:29]
    (tmp_path / "huge.png").write_bytes(
        data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
    )
    assert message in refusal(tmp_path / "huge.png")
    assert message in refusal((tmp_path / "huge.png").read_bytes())
    assert message in refusal(tmp_path / "huge.png", max_pixels=100_000_000)
    assert "does not decode" in refusal(tmp_path / "huge.png", max_pixels=10**8 * 2) or side == 30_000


def test_the_limit_of_pixels_holds_for_every_kind(tmp_path: Path) -> None:
    kinds = kinds_of(IMAGE, tmp_path)
    for kind, picture in kinds.items():
        assert open_picture(picture, max_pixels=600).shape == (3, 20, 30), kind
        assert "is 20 high and 30 wide; expected at most 599 pixels" in refusal(picture, max_pixels=599), kind


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jpg", b"", "empty.jpg: is empty; expected a picture: get it again"),
        ("words.jpg", b"these are words\n" * 50, "words.jpg: is no picture that can be decoded"),
        ("page.png", b"<!DOCTYPE html><html></html>", "page.png: is no picture that can be decoded"),
        ("cut.png", png(Image.fromarray(IMAGE))[:300], "cut.png: does not decode"),
        ("cut.jpg", encoded("JPEG")[:400], "cut.jpg: does not decode"),
        ("cut.tif", encoded("TIFF")[:400], "cut.tif: "),
        ("cut.webp", encoded("WEBP")[:100], "cut.webp: "),
        ("header.gif", b"GIF89a", "header.gif: is no picture that can be decoded"),
    ],
)
def test_a_file_that_is_no_whole_picture_is_one_line(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    for picture in (tmp_path / name, str(tmp_path / name)):
        assert message in refusal(picture)
    refusal(content)


def test_a_folder_is_one_line(tmp_path: Path) -> None:
    assert f"{tmp_path}: does not decode (Is a directory)" in refusal(tmp_path)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1)])
def test_a_pixel_and_a_line_of_them_are_pictures(shape: tuple[int, int]) -> None:
    opened = open_picture(png(Image.fromarray(pixels(4, 4)[:1, :1].repeat(shape[0], 0).repeat(shape[1], 1))))
    assert opened.shape == (3, *shape)
    for options in ({}, {"imagenet": True, "crop_share": 0.875}, {"crop_share": 1.0}):
        prepared = prepare(opened, (16, 16), **options)  # type: ignore[arg-type]
        assert prepared.shape == (3, 16, 16) and prepared.isfinite().all()
        torch.testing.assert_close(prepared, prepared[:, :1, :1].expand(3, 16, 16))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ("http://example.org/a.png", "is an address; expected a file"),
        (Path("https://example.org/a.png"), "is an address; expected a file"),
        ("file:///a.png", "is an address; expected a file"),
        ("", "does not decode (Is a directory)"),
        ("no/such.png", "no/such.png: no such file"),
        (b"", "this one: is empty"),
        (b"no picture", "this one: is no picture that can be decoded"),
        ("a\0b", "holds a zero byte"),
        (7, "this one: is of type int; expected a path, bytes"),
        (np.zeros((2, 2, 3), np.float32), "is an array of float32 (2, 2, 3); expected uint8"),
        (np.zeros((3, 4, 5), np.uint8), "is an array of uint8 (3, 4, 5); expected uint8 (H, W, 3)"),
        (np.zeros((2, 4, 4, 3), np.uint8), "give a batch as list(batch)"),
        (np.zeros((0, 4, 3), np.uint8), "is 0 high and 4 wide"),
        (np.zeros((4, 4), np.uint16), "is an array of uint16 (4, 4); expected uint8"),
        (np.zeros((4, 4, 4), np.uint8), "is an array of uint8 (4, 4, 4); expected uint8"),
        (torch.full((3, 4, 4), float("nan")), "is a tensor of torch.float32 (3, 4, 4); expected torch.uint8"),
        (bytearray(b"GIF"), "this one: is of type bytearray"),
        (torch.zeros(3, 4, 4), "is a tensor of torch.float32 (3, 4, 4); expected torch.uint8 (3, H, W)"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), "expected torch.uint8 (3, H, W)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "give a batch as list(batch)"),
        (Image.new("F", (4, 4)), "this one: has 32 bits a channel"),
    ],
)
def test_what_cannot_be_used_is_one_line(picture: object, message: str) -> None:
    assert message in refusal(picture)


def test_a_damaged_picture_of_pillow_is_one_line(tmp_path: Path) -> None:
    data = png(Image.fromarray(IMAGE))
    cut = Image.open(io.BytesIO(data[: len(data) // 2]))
    assert "this one: does not decode" in refusal(cut)


def test_one_picture_is_told_from_several(tmp_path: Path) -> None:
    for kind, picture in kinds_of(IMAGE, tmp_path).items():
        listed, single = list_pictures(picture)
        assert single and len(listed) == 1, kind
    assert list_pictures([IMAGE, "a"]) == ([IMAGE, "a"], False)
    assert list_pictures(()) == ([], False)
    assert list_pictures(None)[1] is True  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(20, 30), (1, 1), (7, 200)])
def test_preparation_is_that_of_the_official_evaluation(size: tuple[int, int]) -> None:
    image = Image.fromarray(pixels(*size))
    opened = open_picture(image)
    squash = transforms.Compose(
        [
            transforms.Resize((16, 24), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    torch.testing.assert_close(prepare(opened, (16, 24)), squash(image))
    crop = transforms.Compose(
        [
            transforms.Resize(16, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    small = prepare(opened, (16, 16), crop_share=224 / 256)
    margin = transforms.Compose(
        [
            transforms.Resize(18, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    if max(size) < 16 * min(size):
        torch.testing.assert_close(small, margin(image))
        torch.testing.assert_close(prepare(opened, (16, 16), imagenet=True, crop_share=1.0), crop(image))
    assert prepare(opened, (16, 24), imagenet=True, crop_share=1.0).shape == (3, 16, 24)


def test_a_line_of_pixels_is_cropped_to_nearly_its_middle_without_a_huge_resize() -> None:
    line = torch.zeros(3, 1, 10_000_001, dtype=torch.uint8)
    line[:, :, 4_999_900:5_000_101] = 200
    middle = prepare(line, (64, 64), imagenet=True, crop_share=1.0)
    expected = prepare(torch.full((3, 4, 4), 200, dtype=torch.uint8), (64, 64), imagenet=True)
    torch.testing.assert_close(middle, expected)
