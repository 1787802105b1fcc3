"""Samples that cannot be used are refused by name, left out and listed; odd but good pictures are read."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from imglish.data.captioning import Caption, CaptionDataset
from imglish.data.formats.json_entries import load_json
from imglish.data.formats.mask_folder import MaskRecord, read_mask_folder
from imglish.data.formats.mask_labels import numbered
from imglish.data.formats.table import read_caption_table
from imglish.data.formats.vqa import Answer, AnsweredQuestion, VqaRecord
from imglish.data.loader import SinglePlan, Source, evaluation_batches, prefetch
from imglish.data.pictures import decode_picture, read_picture
from imglish.data.segmentation import SegmentationDataset
from imglish.data.transforms.image import ImageTransform
from imglish.data.vocabulary import AnswerVocabulary, load_vocabulary
from imglish.data.vqa import VqaDataset
from imglish.errors import ConfigError, DataFormatError, ImglishError
from imglish.text.tokenizer import TextTokenizer
from imglish.text.training import train_tokenizer

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Numbers:
    """The numbers below ``length``, some of them damaged."""

    length: int
    damaged: frozenset[int] = frozenset()
    message: str = "sample {} is damaged"

    def __len__(self) -> int:
        return self.length

    def get(self, index: int, rng: np.random.Generator) -> int:
        if index in self.damaged:
            raise DataFormatError(self.message.format(index))
        return index


def as_tensor(samples: Sequence[int]) -> Tensor:
    return torch.tensor(samples)


def scored(dataset: Numbers, batch_size: int, world_size: int = 1) -> tuple[list[int], list[str]]:
    """All samples that are scored, and all that are named as left out."""
    found: list[int] = []
    skipped: list[str] = []
    for rank in range(world_size):
        for loaded in evaluation_batches(dataset, as_tensor, batch_size, rank=rank, world_size=world_size):
            assert 0 < len(loaded.batch) <= batch_size
            found += loaded.batch.tolist()
            skipped += loaded.skipped
    return found, skipped


@pytest.mark.parametrize(
    ("dataset", "per_rank", "error", "message"),
    [
        (Numbers(0), 4, DataFormatError, "the data set is empty"),
        (Numbers(9), 0, ConfigError, "a batch has 0 samples on each rank; expected at least 1"),
    ],
)
def test_a_source_without_samples_says_what_is_missing(
    dataset: Numbers, per_rank: int, error: type[ImglishError], message: str
) -> None:
    with pytest.raises(error, match=message):
        Source(dataset=dataset, per_rank=per_rank, seed=0)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damage_without_end_is_the_same_one_line_from_a_worker(num_workers: int) -> None:
    dataset = Numbers(6, frozenset(range(6)))
    plan = SinglePlan(source=Source(dataset=dataset, per_rank=2, seed=0), collate=as_tensor)
    with pytest.raises(DataFormatError, match=r"^6 samples in a row are damaged; the last: [^\n]*$"):
        next(iter(prefetch(plan, 0, 4, num_workers)))


def test_workers_hand_over_the_same_batches_and_the_same_list_of_damage() -> None:
    source = Source(dataset=Numbers(10, frozenset({3, 4})), per_rank=5, seed=0)
    plan = SinglePlan(source=source, collate=as_tensor)
    here, there = (list(prefetch(plan, 0, 4, workers)) for workers in (0, 1))
    assert [loaded.batch.tolist() for loaded in here] == [loaded.batch.tolist() for loaded in there]
    assert [loaded.skipped for loaded in here] == [loaded.skipped for loaded in there]
    assert {line for loaded in here for line in loaded.skipped} == {
        "sample 3 is damaged",
        "sample 4 is damaged",
    }


def test_damage_is_listed_as_one_line_that_any_file_can_hold(tmp_path: Path) -> None:
    dataset = Numbers(4, frozenset({1}), "bad\udcff.png: sample {}\n is damaged")
    plan = SinglePlan(source=Source(dataset=dataset, per_rank=4, seed=0), collate=as_tensor)
    (line,) = plan.batch(0).skipped
    assert line == r"bad\udcff.png: sample 1 is damaged"
    (tmp_path / "skipped.log").write_text(line, encoding="utf-8")


@pytest.mark.parametrize("damaged", [{0}, {9}, {5, 6, 7, 8, 9}, {0, 1, 2, 3, 4}, {1, 3, 5, 7, 9}])
@pytest.mark.parametrize("batch_size", [1, 5, 20])
def test_scoring_loses_no_good_sample_and_no_line_about_a_damaged_one(
    damaged: set[int], batch_size: int
) -> None:
    found, skipped = scored(Numbers(10, frozenset(damaged)), batch_size)
    assert found == sorted(set(range(10)) - damaged)
    assert skipped == [f"sample {index} is damaged" for index in sorted(damaged)]


def test_ranks_share_the_samples_to_score_and_the_damage() -> None:
    found, skipped = scored(Numbers(11, frozenset({4, 10})), batch_size=2, world_size=3)
    assert sorted(found) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert sorted(skipped) == ["sample 10 is damaged", "sample 4 is damaged"]
    assert scored(Numbers(1), batch_size=2, world_size=3) == ([0], [])


def test_what_is_left_out_of_the_scores_is_counted_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="imglish"):
        scored(Numbers(10), batch_size=4)
        assert not caplog.records
        scored(Numbers(10, frozenset({2, 7})), batch_size=4)
    (record,) = caplog.records
    assert record.getMessage() == "2 of 10 samples are left out of the scores; the first: sample 2 is damaged"


def test_scores_of_nothing_are_refused() -> None:
    with pytest.raises(DataFormatError, match=r"all 3 samples to score are damaged; the first: sample 0"):
        scored(Numbers(3, frozenset({0, 1, 2})), batch_size=2)


# Masks


def segmentation(
    folder: Path,
    mask: np.ndarray,
    picture: tuple[int, int] = (4, 6),
    size: tuple[int, int] | None = None,
    zero_is_unlabelled: bool = True,
) -> SegmentationDataset:
    """One picture with its mask; three classes."""
    Image.new("RGB", picture[::-1]).save(folder / "a.png")
    Image.fromarray(mask).save(folder / "a_mask.png")
    return SegmentationDataset(
        records=[MaskRecord(folder / "a.png", folder / "a_mask.png")],
        labels=numbered(("a", "b", "c"), first=int(zero_is_unlabelled)),
        size=size,
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_of_a_mask_become_classes(tmp_path: Path, dtype: type) -> None:
    mask = np.full((4, 6), 1, dtype)
    mask[0, :3] = 0, 3, 255
    sample = segmentation(tmp_path, mask).get(0, RNG)
    assert sample.mask[0].tolist() == [255, 2, 255, 0, 0, 0]
    plain = segmentation(tmp_path, np.minimum(mask, 2), zero_is_unlabelled=False).get(0, RNG)
    assert plain.mask[0].tolist() == [0, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("value", "zero_is_unlabelled", "expected"),
    [(4, True, "1 to 3"), (254, True, "1 to 3"), (3, False, "0 to 2"), (256, True, "1 to 3")],
)
def test_a_value_that_is_no_class_is_refused_by_name(
    tmp_path: Path, value: int, zero_is_unlabelled: bool, expected: str
) -> None:
    mask = np.full((4, 6), 1, np.uint16)
    mask[3, 5] = value
    dataset = segmentation(tmp_path, mask, zero_is_unlabelled=zero_is_unlabelled)
    with pytest.raises(DataFormatError, match=rf"a_mask\.png: has the value {value}; expected {expected}"):
        dataset.get(0, RNG)


def test_a_mask_of_another_size_than_its_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataFormatError, match=r"a_mask\.png: is 6 high and 4 wide, but its picture is 4 high"
    ):
        segmentation(tmp_path, np.ones((6, 4), np.uint8)).get(0, RNG)


def test_a_picture_of_another_size_than_the_others_is_refused(tmp_path: Path) -> None:
    mask = np.ones((4, 6), np.uint8)
    assert segmentation(tmp_path, mask, size=(4, 6)).get(0, RNG).image.shape == (3, 4, 6)
    with pytest.raises(DataFormatError, match=r"a\.png: is 4 high and 6 wide; expected 8 high and 8 wide"):
        segmentation(tmp_path, mask, size=(8, 8)).get(0, RNG)


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("images/a.png", "images/a.jpg", "masks/a.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    with pytest.raises(DataFormatError, match=r"a\.png: has the name of a\.jpg but for its ending"):
        read_mask_folder(tmp_path / "images", tmp_path / "masks")


# Questions and captions


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    path = tmp_path_factory.mktemp("text") / "tiny.spm"
    return train_tokenizer(["a red star over a blue house"] * 4, path, vocab_size=30)


def question(path: Path, *answers: str) -> VqaRecord:
    annotation = None
    if answers:
        people = tuple(Answer(answer, "yes") for answer in answers)
        annotation = AnsweredQuestion("what", "other", answers[0], people)
    return VqaRecord(7, 1, path, "what is red?", annotation)


def questions(text: TextTokenizer, record: VqaRecord, *, needs_answer: bool = True) -> VqaDataset:
    return VqaDataset(
        records=[record],
        transform=ImageTransform(size=(8, 8)),
        tokenizer=text,
        vocabulary=AnswerVocabulary(("star", "house")),
        question_types=("what",),
        max_tokens=16,
        needs_answer=needs_answer,
    )


def test_a_question_outside_the_vocabulary_is_left_out_of_training_and_scored_zero(
    tmp_path: Path, text: TextTokenizer
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    record = question(tmp_path / "a.png", "moon", "moon", "ring")
    with pytest.raises(DataFormatError, match=r"question 7 .*none of its answers, such as 'moon'"):
        questions(text, record).get(0, RNG)
    assert not questions(text, record, needs_answer=False).get(0, RNG).answers.any()
    partly = question(tmp_path / "a.png", "moon", "star")
    assert questions(text, partly).get(0, RNG).answers.tolist() == pytest.approx([0.3, 0])


def test_a_question_without_answers_or_with_a_damaged_picture_is_refused(
    tmp_path: Path, text: TextTokenizer
) -> None:
    (tmp_path / "a.png").write_text("a text")
    with pytest.raises(DataFormatError, match="question 7 has no answers; expected an annotated split"):
        questions(text, question(tmp_path / "a.png")).get(0, RNG)
    with pytest.raises(DataFormatError, match=r"a\.png: is no picture"):
        questions(text, question(tmp_path / "a.png", "star")).get(0, RNG)


def test_a_caption_of_a_damaged_picture_is_refused(tmp_path: Path, text: TextTokenizer) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    dataset = CaptionDataset(
        captions=[Caption(tmp_path / "a.png", 1, "a star")],
        transform=ImageTransform(size=(8, 8)),
        tokenizer=text,
        max_tokens=16,
        mask_share=0.5,
    )
    with pytest.raises(DataFormatError, match=r"a\.png: is empty; expected a picture"):
        dataset.get(0, RNG)


# Files of text


def test_a_vocabulary_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.txt"
    path.write_bytes(b'{"answer": "caf\xe9", "label": 0}\n')
    with pytest.raises(DataFormatError, match=r"answers\.txt: not UTF-8 text"):
        load_vocabulary(path)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"key": "\\ud83d"}', lambda entry: entry.text("key")),
        ('{"key": 1' + "0" * 400 + "}", lambda entry: entry.number("key")),
        ('{"key": 1' + "0" * 5000 + "}", lambda entry: entry.integer("key")),
        ('{"key": NaN}', lambda entry: entry.number("key")),
        ("[" * 100_000, lambda entry: entry.text("key")),
    ],
    ids=["half a character", "no float", "thousands of digits", "not a number", "nested"],
)
def test_json_that_python_can_not_use_is_refused(
    tmp_path: Path, written: str, read: Callable[[object], object]
) -> None:
    path = tmp_path / "a.json"
    path.write_text(written)
    with pytest.raises(DataFormatError, match=r"a\.json: [^\n]*expected a file of tests"):
        read(load_json(path, "a file of tests"))


def test_a_whole_character_beyond_the_basic_plane_is_text(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"key": "\N{GRINNING FACE}"}))  # as an escaped surrogate pair
    assert load_json(path, "a file of tests").text("key") == "\N{GRINNING FACE}"


TABLE_LINE = {"image": "a.png", "text": "a star"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"image": "a.png", "text": "a \\ud83d star"}', "'text' is no Unicode text"),
        ('{"image": "a.png", "text": 1' + "0" * 5000 + "}", "not usable json"),
        ("[" * 100_000, "not usable json"),
        ('{"image": "' + "a" * 300 + '.png", "text": "a star"}', "File name too long"),
        ('{"image": "a\\u0000.png", "text": "a star"}', "does not exist"),
    ],
    ids=["half a character", "thousands of digits", "nested", "long name", "zero byte"],
)
def test_a_line_of_a_table_that_can_not_be_used_is_listed_and_the_others_stay(
    tmp_path: Path, line: str, problem: str
) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join([json.dumps(TABLE_LINE), line, json.dumps(TABLE_LINE)]))
    read = read_caption_table(path)
    assert [sentence.text for record in read.samples for sentence in record.sentences] == ["a star"] * 2
    assert [wrong.line for wrong in read.problems] == [2]
    assert problem in read.problems[0].message and "\n" not in read.problems[0].message


@pytest.mark.parametrize("text", ["one\u2028two", "one\x85two", "one\x0btwo"])
def test_a_text_may_hold_any_sign_that_some_take_for_the_end_of_a_line(tmp_path: Path, text: str) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    (tmp_path / "own.jsonl").write_text(
        json.dumps(TABLE_LINE | {"text": text}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (tmp_path / "own.csv").write_text(f"image,text\na.png,{text}\n", encoding="utf-8")
    for name in ("own.jsonl", "own.csv"):
        (record,) = read_caption_table(tmp_path / name).strict()
        assert [sentence.text for sentence in record.sentences] == [text]


def test_a_quoted_field_of_a_table_may_go_over_lines_and_must_end(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    path = tmp_path / "own.csv"
    path.write_text('image,text\na.png,"a star\nover a house"\na.png,a moon\n')
    (record,) = read_caption_table(path).strict()
    assert [sentence.text for sentence in record.sentences] == ["a star\nover a house", "a moon"]
    path.write_text('image,text\na.png,a moon\na.png,"a star\n' + "a.png,a moon\n" * 20_000)
    read = read_caption_table(path)
    assert len(read.samples) == 1
    assert [wrong.message.partition(" (")[0] for wrong in read.problems] == [
        "not readable as ','-separated fields"
    ]


# Odd pictures


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    upright = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned clockwise by a quarter
    path = tmp_path / "a.png"
    upright.rotate(90, expand=True).save(path, exif=exif)
    expected = torch.from_numpy(np.asarray(upright).transpose(2, 0, 1).copy())
    assert torch.equal(read_picture(path), expected)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(kind: str) -> None:
    pixels = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    picture = decode_picture(encoded(pixels, kind), "deep")
    assert picture.shape == (3, 1, 5)
    assert picture[0].tolist() == picture[2].tolist() == [[0, 0, 1, 128, 255]]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_brightness_of_unknown_range_is_refused(dtype: type) -> None:
    with pytest.raises(DataFormatError, match=r"deep\.tif: has 32 bits a channel"):
        decode_picture(encoded(np.ones((2, 2), dtype), "TIFF"), "deep.tif")


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_a_picture_of_a_pixel_or_a_line_can_be_resized(size: tuple[int, int]) -> None:
    picture = decode_picture(encoded(np.full((*size, 3), 200, np.uint8), "PNG"), "a.png")
    resized = ImageTransform(size=(8, 8))(picture, RNG)
    assert resized.shape == (3, 8, 8) and resized.unique().tolist() == [200]
