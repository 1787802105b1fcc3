"""``imglish shards``: every layout that is packed, what is refused, and pretraining on what comes out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import webdataset
from PIL import Image

from imglish.cli.main import main
from imglish.data import shard_sources
from imglish.data.shards import ShardSet
from imglish.errors import ConfigError, DataFormatError
from imglish.recipes import sources
from imglish.recipes.data_config import ShardsData


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five pictures with captions of two lines, and a file that is no picture."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for number in range(5):
        path = folder / ("sub" if number > 2 else ".") / f"{number}.png"
        Image.new("RGB", (40 + number, 20), (number, 2, 3)).save(path)
        path.with_suffix(".txt").write_text(f"picture {number}\n\nanother line\n")
    (folder / "bad.jpg").write_text("no picture")
    (folder / "bad.txt").write_text("its text")
    return folder


def pack(*arguments: object) -> int:
    return main(["shards", *map(str, arguments)])


def read(folder: Path) -> list[dict[str, bytes | str]]:
    shards = ShardSet(sorted(folder.glob("*.tar")))
    return [shards[index] for index in range(len(shards))]


def test_a_folder_of_pairs_is_packed_counted_and_read(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert pack(pictures, "--out", out, "--shard-size", 2) == 0
    assert "5 pairs in 3 tars\n1 samples were refused" in capsys.readouterr().out
    samples = read(out)
    assert [sample["__key__"] for sample in samples] == [f"{number:09d}" for number in range(5)]
    assert samples[4]["txt"] == b"picture 4\nanother line"
    assert samples[4]["png"] == (pictures / "sub" / "4.png").read_bytes()
    refused = [json.loads(line) for line in (out / "refused.jsonl").read_text().splitlines()]
    assert (
        len(refused) == 1
        and refused[0]["sample"].endswith("bad.jpg")
        and "no picture" in refused[0]["reason"]
    )
    described = json.loads((out / "shards.json").read_text())
    assert (described["num_samples"], described["num_shards"], described["num_refused"]) == (5, 3, 1)
    names = [str(path) for path in sorted(out.glob("*.tar"))]
    found = [each["png"] for each in webdataset.WebDataset(names, shardshuffle=False)]
    assert found == [sample["png"] for sample in samples]


def test_the_same_input_gives_the_same_bytes_and_a_full_folder_is_refused(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        assert pack(pictures, "--out", tmp_path / name) == 0
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two and "pairs-000000.tar.idx" in one
    assert pack(pictures, "--out", tmp_path / "one") == 1
    assert "is not empty" in capsys.readouterr().err
    assert one == {p.name: p.read_bytes() for p in (tmp_path / "one").iterdir()}


def test_pictures_are_made_smaller_only_when_asked(pictures: Path, tmp_path: Path) -> None:
    assert pack(pictures, "--out", tmp_path / "out", "--kind", "images", "--max-side", 42) == 0
    source = sources.pictures_alone(ShardsData(images=(str(tmp_path / "out"),)), "train")
    shapes = [tuple(source.sample(number)[0].shape) for number in range(len(source))]
    assert shapes == [(3, 20, 40), (3, 20, 41), (3, 20, 42), (3, 20, 42), (3, 19, 42)]


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.jsonl", lines({"image": "0.png", "text": ["a", "b"]}, {"image": "none.png", "text": "c"}, 3)),
        ("t.csv", "image,text\n0.png,a\n1.png,\nnone.png,c\n"),
        ("t.tsv", "text\timage\na\t0.png\nb\tnone.png\nc\n"),
        ("cc.tsv", "a\t0.png\nb\thttp://example.org/1.png\nonly one field\n"),
        (
            "lines.jsonl",
            lines({"image": "0.png", "text": "a"}, {"image": 1, "text": "b"}, {"text": "\ud800"}),
        ),
    ],
)
def test_tables_are_packed_and_each_bad_line_is_listed(
    name: str, text: str, pictures: Path, tmp_path: Path
) -> None:
    (pictures / name).write_text(text)
    assert pack(pictures / name, "--out", tmp_path / "out") == 0
    (sample,) = read(tmp_path / "out")
    assert sample["png"] == (pictures / "0.png").read_bytes()
    assert str(sample["txt"]) in (str(b"a"), str(b"a\nb"))
    refused = (tmp_path / "out" / "refused.jsonl").read_text().splitlines()
    assert len(refused) == 2 and all(f"{name}: line" in line for line in refused)


def test_coco_captions_are_packed(pictures: Path, tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.png", "height": 20, "width": 40 + n} for n in range(2)]
    said = [{"id": n, "image_id": n // 2, "caption": f"caption {n}"} for n in range(4)]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": said}))
    assert pack(tmp_path / "coco.json", "--images", pictures, "--out", tmp_path / "out") == 0
    assert [sample["txt"] for sample in read(tmp_path / "out")] == [
        b"caption 0\ncaption 1",
        b"caption 2\ncaption 3",
    ]


def test_texts_of_several_sources_are_packed_in_order(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.txt").write_text("a document\nof two lines")
    (tmp_path / "lines.txt").write_text("one\n\ntwo\n")
    assert pack(tmp_path / "lines.txt", tmp_path / "folder", "--kind", "texts", "--out", tmp_path / "o") == 0
    assert [sample["txt"] for sample in read(tmp_path / "o")] == [b"one", b"two", b"a document of two lines"]


def refused(folder: Path) -> dict[str, str]:
    """Why each place was refused, by the end of its name."""
    rows = map(json.loads, (folder / "refused.jsonl").read_text().splitlines())
    return {row["sample"].rpartition("/")[2]: row["reason"] for row in rows}


def test_lines_of_any_system_and_bad_ones_among_them(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_sources, "_LONGEST_LINE", 1 << 20)
    text = b"\xef\xbb\xbfone\r\n\r\n  two \r\ncaf\xe9\n" + b"x" * (5 << 19) + b"\na\0b\nthe last"
    (tmp_path / "c.txt").write_bytes(text)
    assert pack(tmp_path / "c.txt", "--kind", "texts", "--out", tmp_path / "o") == 0
    assert [sample["txt"] for sample in read(tmp_path / "o")] == [b"one", b"two", b"the last"]
    assert refused(tmp_path / "o") == {
        "c.txt: line 4": "is not UTF-8 text (invalid continuation byte at byte 3)",
        "c.txt: line 5": "is longer than 1 MiB",
        "c.txt: line 6": "has null bytes, which UTF-8 text has not, but UTF-16",
    }
    rows = b'\xef\xbb\xbf{"image": "0.png", "text": "one"}\r\n\xff\r\n{"image": "1.png", "text": ["a\\nb"]}'
    (pictures / "t.jsonl").write_bytes(rows)
    assert pack(pictures / "t.jsonl", "--out", tmp_path / "p") == 0
    assert [sample["txt"] for sample in read(tmp_path / "p")] == [b"one", b"a b"]
    assert list(refused(tmp_path / "p")) == ["t.jsonl: line 2"]


def test_links_and_names_of_any_kind_in_a_folder(pictures: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (4, 4)).save(other / "\u56f3 \xfc.png")
    (other / "\u56f3 \xfc.txt").write_bytes("\ufeffzwei\u2028Zeilen\r\nund mehr\r".encode())
    (pictures / "linked").symlink_to(other)
    (pictures / "loop").symlink_to(pictures)
    (pictures / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (pictures / "nowhere.txt").write_text("a text")
    (pictures / "alone.png").write_bytes((pictures / "0.png").read_bytes())
    undecodable = bytes(pictures) + b"/\xff"
    Path(os.fsdecode(undecodable + b".png")).write_bytes((pictures / "0.png").read_bytes())
    Path(os.fsdecode(undecodable + b".txt")).write_text("no UTF-8 in its name")
    assert pack(pictures, "--out", tmp_path / "o") == 0
    assert [sample["txt"] for sample in read(tmp_path / "o")][3:] == [
        b"no UTF-8 in its name", b"zwei Zeilen\nund mehr", b"picture 3\nanother line",
        b"picture 4\nanother line",
    ]  # fmt: skip
    reasons = refused(tmp_path / "o")
    assert set(reasons) == {"bad.jpg", "nowhere.png", "alone.png"}
    assert reasons["alone.png"] == "there is no alone.txt with its texts"


def test_a_coco_file_whose_pictures_are_partly_missing(pictures: Path, tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.png"} for n in (0, 7, 1)]
    said = [{"id": n, "image_id": n, "caption": f"caption {n}"} for n in (0, 7)]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": said}))
    assert pack(tmp_path / "coco.json", "--images", pictures, "--out", tmp_path / "out") == 0
    assert [sample["txt"] for sample in read(tmp_path / "out")] == [b"caption 0"]
    reasons = refused(tmp_path / "out")
    assert "no such picture" in reasons["coco.json: image 7"]
    assert reasons["coco.json: image 1"] == "has no text"
    assert pack(tmp_path / "coco.json", "--kind", "texts", "--out", tmp_path / "texts") == 0
    assert [sample["txt"] for sample in read(tmp_path / "texts")] == [b"caption 0", b"caption 7"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "urls.tsv",
            "a\thttp://x.org/1.jpg\nb\thttp://x.org/2.jpg\n",
            "line 1: names an address, http://x.org",
        ),
        ("head.csv", "image,text\n", "has no samples to pack as pairs"),
        ("semi.csv", "image;text\n0.png;a\n", "has the columns 'image;text', and no 'image'"),
        ("open.csv", 'image,text\n0.png,a\n0.png,"' + "y" * 140_000 + "\n0.png,b\n", "a quote may be open"),
        ("bad.json", '{"images": [{"id": 1}], "annotations": []}', "has no key 'file_name'"),
    ],
)
def test_a_file_of_no_use_is_one_line(
    name: str, text: str, words: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / name).write_text(text)
    before = sorted(tmp_path.iterdir())
    assert pack(pictures / name, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err.strip()
    assert words in error and "\n" not in error
    assert sorted(tmp_path.iterdir()) == before


def test_several_processes_pack_the_same_bytes(pictures: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        assert pack(pictures, "--out", tmp_path / f"{workers}", "--num-workers", workers) == 0
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("0", "2"))
    assert one == two


@pytest.mark.parametrize("source", ["gone.jsonl", "empty", "none.txt", "all-bad.jsonl"])
def test_what_can_not_be_packed_is_one_line_and_leaves_nothing(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.txt").write_text("pairs are not in a text file")
    (tmp_path / "all-bad.jsonl").write_text(lines({"image": "x.png", "text": "a"}))
    before = sorted(tmp_path.iterdir())
    assert pack(tmp_path / source, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err.strip()
    assert source in error and "\n" not in error
    assert sorted(tmp_path.iterdir()) == before


def test_streams_mix_packed_data_sets_by_weight(pictures: Path, tmp_path: Path) -> None:
    for name, words in (("a", "one\ntwo\n"), ("b", "three\n")):
        (tmp_path / f"{name}.txt").write_text(words)
        assert pack(tmp_path / f"{name}.txt", "--kind", "texts", "--out", tmp_path / name) == 0
    assert pack(pictures, "--out", tmp_path / "pairs") == 0
    data = ShardsData(
        texts=(str(tmp_path / "a"), str(tmp_path / "b")),
        text_weights=(1, 3),
        pairs=(str(tmp_path / "pairs" / "*.tar"),),
        validation_texts=(str(tmp_path / "b"),),
    )
    texts = sources.texts(data, "train")
    assert sorted(texts.text(n) for n in range(len(texts))) == ["one", *["three"] * 6, "two"]
    assert sources.texts(data, "validation").text(0) == "three"
    assert sources.pictures(data, "train").sample(0)[1] == ("picture 0", "another line")
    assert sources.unpaired_pictures(data, "train").sample(0)[1] == ()
    with pytest.raises(ConfigError, match=r"data\.validation_pairs names no shards"):
        sources.pictures(data, "validation")
    both = ShardsData(texts=(str(tmp_path / "[ab]" / "*.tar"),))
    with pytest.raises(DataFormatError, match="have one name"):
        sources.texts(both, "train")
    with pytest.raises(ValueError, match="text_weights has 1 numbers for 2"):
        ShardsData(texts=("a", "b"), text_weights=(1,))
