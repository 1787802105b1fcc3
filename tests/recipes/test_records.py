"""Every layout gives the same kind of records; files in the published layouts are made on the fly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.errors import ConfigError, DataFormatError
from imglish.recipes import records
from imglish.recipes.data_config import (
    ClassFolderData,
    FolderData,
    KarpathyData,
    Nlvr2Data,
    NocapsData,
    TableData,
    VqaV2Data,
    WorldStreamData,
)
from tests.recipes.published_files import write_karpathy, write_nocaps


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"readers only look whether it exists")
    return path


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def vqa_files(root: Path, name: str, image_ids: range, *, answered: bool = True, pictures: str = "") -> None:
    asked = [{"question_id": 10 * i, "image_id": i, "question": f"what is {i}?"} for i in image_ids]
    questions = {"data_subtype": name, "questions": asked}
    write(root / "vqa" / f"v2_OpenEnded_mscoco_{name}_questions.json", questions)
    subtype = pictures or name
    for i in image_ids:
        picture(root / subtype / f"COCO_{subtype}_{i:012d}.jpg")
    if answered:
        annotations = [
            {
                "question_id": entry["question_id"],
                "image_id": entry["image_id"],
                "question_type": "what is",
                "answer_type": "other",
                "multiple_choice_answer": "cat",
                "answers": [{"answer": "cat", "answer_confidence": "yes", "answer_id": 1}],
            }
            for entry in asked
        ]
        write(root / "vqa" / f"v2_mscoco_{name}_annotations.json", {"annotations": annotations})


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    vqa_files(tmp_path, "train2014", range(1, 5))
    vqa_files(tmp_path, "val2014", range(5, 15))
    vqa_files(tmp_path, "test-dev2015", range(20, 23), answered=False, pictures="test2015")
    return tmp_path


def test_vqa_v2_trains_on_both_splits_but_for_some_pictures(coco: Path) -> None:
    data = VqaV2Data(root=coco)
    train = {record.image_id for record in records.questions(data, "train")}
    validation = {record.image_id for record in records.questions(data, "validation")}
    assert train | validation == set(range(1, 15)) and not train & validation
    assert validation and validation < set(range(5, 15))
    other = {record.image_id for record in records.questions(VqaV2Data(root=coco, seed=1), "validation")}
    assert other != validation
    test = records.questions(data, "test")
    assert len(test) == 3 and all(record.annotation is None for record in test)
    assert test[0].path == coco / "test2015" / "COCO_test2015_000000000020.jpg"


def test_visual_genome_adds_questions_whose_answer_counts_fully(coco: Path) -> None:
    genome = coco / "vg" / "question_answers.json"
    questions = [{"qa_id": 7, "image_id": 3, "question": "who?", "answer": "A Man."}]
    write(genome, [{"id": 3, "qas": questions}, {"id": 4, "qas": []}])
    picture(coco / "vg" / "images" / "3.jpg")
    plain = records.questions(VqaV2Data(root=coco), "train")
    more = records.questions(VqaV2Data(root=coco, visual_genome=genome), "train")
    (added,) = more[len(plain) :]
    assert added.annotation is not None and added.path.name == "3.jpg"
    assert [answer.text for answer in added.annotation.answers] == ["a man"] * 10


def test_test_questions_are_those_of_test_dev_or_all(coco: Path) -> None:
    vqa_files(coco, "test2015", range(20, 25), answered=False)
    assert len(records.questions(VqaV2Data(root=coco), "test")) == 3
    assert len(records.questions(VqaV2Data(root=coco, test="test2015"), "test")) == 5


def test_answers_become_classes_in_the_published_order(coco: Path) -> None:
    """Those of the files, train2014 first; neither validation questions nor Visual Genome matter."""
    for name, answers in (("train2014", "cdab"), ("val2014", "zyxabcdefg")):
        path = coco / "vqa" / f"v2_mscoco_{name}_annotations.json"
        document = json.loads(path.read_text())
        for entry, answer in zip(document["annotations"], answers, strict=True):
            entry["multiple_choice_answer"] = answer
        write(path, document)
    for data in (VqaV2Data(root=coco), VqaV2Data(root=coco, seed=5, visual_genome=coco / "vg.json")):
        assert "".join(records.common_answers(data)) == "cdabzyxabcdefg"
    # No picture is looked for: official weights are scored without those of train2014.
    for path in (coco / "train2014").iterdir():
        path.unlink()
    assert len(records.common_answers(VqaV2Data(root=coco))) == 14


def test_visual_genome_without_any_picture_is_refused(coco: Path) -> None:
    genome = coco / "vg" / "question_answers.json"
    write(genome, [{"id": 3, "qas": []}])
    (coco / "vg" / "images").mkdir()
    with pytest.raises(DataFormatError, match="none of its pictures"):
        records.questions(VqaV2Data(root=coco, visual_genome=genome), "train")


def test_karpathy_training_takes_restval_too(tmp_path: Path) -> None:
    images = [
        {
            "filepath": "val2014",
            "filename": f"{split}.jpg",
            "split": split,
            "cocoid": number,
            "sentences": [{"raw": split, "sentid": number}],
        }
        for number, split in enumerate(("train", "restval", "val", "test"))
    ]
    write(tmp_path / "dataset_coco.json", {"images": images})
    for split in ("train", "restval", "val", "test"):
        picture(tmp_path / "val2014" / f"{split}.jpg")
    data = KarpathyData(root=tmp_path)
    assert [record.image_id for record in records.captioned(data, "train")] == [0, 1]
    assert [record.image_id for record in records.captioned(data, "validation")] == [2]
    assert [record.image_id for record in records.captioned(data, "test")] == [3]


def test_nocaps_is_trained_on_coco(tmp_path: Path) -> None:
    write_nocaps(tmp_path / "nocaps", num_pictures=4)
    write_karpathy(tmp_path / "coco", "dataset_coco.json", ("train", "restval", "val"), folders=True)
    data = NocapsData(root=tmp_path / "nocaps", coco=tmp_path / "coco")
    assert [record.image_id for record in records.captioned(data, "train")] == [1000, 1001]
    validation, test = (records.captioned(data, split) for split in ("validation", "test"))
    assert [r.image_id for r in validation] == [r.image_id for r in test] == [0, 1, 2, 3]
    assert {record.path.parent.name for record in validation} == {"val"}
    assert {record.path.parent.name for record in test} == {"test"}
    assert all(record.sentences for record in validation) and not any(r.sentences for r in test)


def test_pictures_can_be_held_out_of_training(tmp_path: Path) -> None:
    for name, count in (("a", 4), ("b", 1), ("c", 2)):
        for number in range(count):
            picture(tmp_path / "train" / name / f"{number}.jpg")
    data = ClassFolderData(root=tmp_path, held_out=2)
    classes = records.classes_of(data, "validation")
    train, validation = (records.labelled(data, split, classes) for split in ("train", "validation"))
    assert train.classes == validation.classes == ("a", "b", "c")
    shown = [f"{record.path.parent.name}/{record.path.name}" for record in train.records]
    assert shown == ["a/0.jpg", "a/1.jpg", "b/0.jpg", "c/0.jpg"]
    shown = [f"{record.path.parent.name}/{record.path.name}" for record in validation.records]
    assert shown == ["a/2.jpg", "a/3.jpg", "c/1.jpg"]
    alone = ClassFolderData(root=tmp_path / "alone", held_out=1)
    picture(tmp_path / "alone" / "train" / "a" / "0.jpg")
    with pytest.raises(DataFormatError, match="no class has a second picture"):
        records.labelled(alone, "validation", ("a",))


def test_classes_are_those_of_training_where_it_is_there(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "dog" / "a.jpg")
    data = ClassFolderData(root=tmp_path)
    assert records.classes_of(data, "validation") == ("dog",)
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "dog").mkdir()
    assert records.classes_of(data, "validation") == ("cat", "dog")
    assert [record.label for record in records.labelled(data, "validation", ("cat", "dog")).records] == [1]


def test_classes_of_folders_get_names_and_those_of_tables_have_them(tmp_path: Path) -> None:
    listed = tmp_path / "classes.txt"
    listed.write_text("n01440764 the fish\n")
    folders = ClassFolderData(root=tmp_path)
    assert records.names_of(folders, ("n01440764",)) == ("tench",)
    assert records.names_of(ClassFolderData(class_names=listed), ("n01440764",)) == ("the fish",)
    assert records.names_of(TableData(), ("n01440764", "a_b")) == ("n01440764", "a_b")


@pytest.mark.parametrize(("annotations", "images"), [(".", "images/dev"), ("nlvr/nlvr2/data", "dev")])
def test_nlvr2_in_the_published_layout_and_that_of_the_released_code(
    annotations: str, images: str, tmp_path: Path
) -> None:
    line = {"identifier": "dev-1-0-0", "sentence": "two dogs", "label": "True"}
    (tmp_path / annotations).mkdir(parents=True, exist_ok=True)
    (tmp_path / annotations / "dev.json").write_text(json.dumps(line) + "\n")
    for side in (0, 1):
        picture(tmp_path / images / f"dev-1-0-img{side}.png")
    (record,) = records.statements(Nlvr2Data(root=tmp_path), "validation")
    assert record.label is True and record.left.name == "dev-1-0-img0.png"


def test_class_folders_keep_the_classes_of_training(tmp_path: Path) -> None:
    for name in ("n02", "n01"):
        picture(tmp_path / "train" / name / "x.jpg")
    picture(tmp_path / "val" / "n02" / "y.jpg")
    train = records.labelled(ClassFolderData(root=tmp_path), "train")
    validation = records.labelled(ClassFolderData(root=tmp_path), "validation", train.classes)
    assert train.classes == ("n01", "n02") and [each.label for each in validation.records] == [1]


def test_tables_serve_every_task(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")

    def table(name: str, row: dict[str, object]) -> TableData:
        (tmp_path / name).write_text(json.dumps(row | {"image": "a.png"}))
        return TableData(train=tmp_path / name, validation=tmp_path / name)

    asked = table("q.jsonl", {"question": "what?", "answer": "a"})
    assert records.questions(asked, "train")[0].question == "what?"
    said = table("c.jsonl", {"text": "a picture"})
    assert records.captioned(said, "train")[0].sentences[0].text == "a picture"
    stated = table("s.jsonl", {"image2": "a.png", "text": "same", "label": True})
    assert records.statements(stated, "validation")[0].label is True
    assert records.labelled(table("l.jsonl", {"label": "cat"}), "train").classes == ("cat",)
    with pytest.raises(ConfigError, match=r"data\.test names no table"):
        records.questions(asked, "test")


def test_a_world_has_records_of_every_kind(tmp_path: Path) -> None:
    write_world(WorldConfig(), tmp_path / "w", num_train=6, num_validation=4, num_compositional=2, workers=1)
    data = FolderData(root=tmp_path / "w")
    for split, count in (("train", 6), ("validation", 4), ("test", 2)):
        assert len({record.image_id for record in records.questions(data, split)}) == count
        assert len(records.captioned(data, split)) == count
        assert records.statements(data, split)
    assert records.world_of(data) is not None and records.world_of(WorldStreamData()) is None


def test_a_world_without_a_compositional_split_has_no_test_split(tmp_path: Path) -> None:
    write_world(WorldConfig(), tmp_path / "w", num_train=2, num_validation=2, workers=1)
    data = FolderData(root=tmp_path / "w")
    for read in (records.questions, records.captioned, records.statements, records.labelled):
        with pytest.raises(ConfigError, match="no compositional split; it has train, validation"):
            read(data, "test")


def test_data_of_another_kind_is_refused_with_those_that_fit() -> None:
    with pytest.raises(ConfigError, match="karpathy has no questions; expected folder, vqav2 or table"):
        records.questions(KarpathyData(), "train")
    with pytest.raises(ConfigError, match="world_stream has no labelled pictures"):
        records.labelled(WorldStreamData(), "train")
