"""Every file of a World is read with the readers of its format and compared with scenes drawn anew."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools.coco import COCO as PycocotoolsCOCO  # noqa: N811

from imglish.data.formats.coco import read_captions, read_instances
from imglish.data.formats.image_folder import read_image_folder
from imglish.data.formats.karpathy import read_karpathy
from imglish.data.formats.mask_folder import read_mask_folder
from imglish.data.formats.nlvr2 import read_nlvr2
from imglish.data.formats.panoptic import read_panoptic
from imglish.data.formats.text_corpus import read_text_corpus
from imglish.data.formats.vqa import read_vqa
from imglish.data.pictures import decode_picture, read_mask, read_picture, read_segment_ids
from imglish.data.shards import ShardSet
from imglish.data.world import writer
from imglish.data.world.annotate import CLASSES, annotate
from imglish.data.world.files import (
    KARPATHY_SPLITS,
    PICTURE_NAME,
    SCENES_PER_SHARD,
    TEXT_SPLITS,
    WorldFiles,
    read_scenes,
    read_world,
)
from imglish.data.world.render import render
from imglish.data.world.scene import HELD_OUT, SHAPES, STUFF, Scene, WorldConfig, draw_scene
from imglish.data.world.texts import text
from imglish.data.world.writer import write_world
from imglish.errors import DataFormatError
from tests.data.world.evaluator import answer, check_caption, judge
from tests.data.world.geometry import covers

CONFIG = WorldConfig(seed=3, level="full")
# Training needs two shards, one of them not full and of odd length.
COUNTS = {"train": SCENES_PER_SHARD + 5, "validation": 40, "compositional": 30}
SPLITS = list(COUNTS)
# Pixel centres that lie on an edge may fall to either side in the slow description.
EDGE_PIXELS = 3


def write(out: Path, **changes: int) -> WorldFiles:
    counts = {f"num_{split}": count for split, count in COUNTS.items()}
    return write_world(CONFIG, out, **(counts | {"workers": 1} | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldFiles:
    return write(tmp_path_factory.mktemp("worlds") / "world")


def scenes_of(split: str) -> list[Scene]:
    return [draw_scene(CONFIG, split, index) for index in range(COUNTS[split])]


def slow_masks(scene: Scene) -> list[np.ndarray]:
    """The visible part of each thing, point by point, far to near."""
    size, masks = scene.picture_size, []
    for thing in scene.things:
        here = np.array([[covers(thing, x + 0.5, y + 0.5) for x in range(size)] for y in range(size)])
        masks = [mask & ~here for mask in masks] + [here]
    return masks


@pytest.mark.parametrize("split", SPLITS)
def test_pictures_are_those_of_the_scenes(world: WorldFiles, split: str) -> None:
    for scene in scenes_of(split)[-20:]:
        picture = read_picture(world.images(split) / f"{scene.index:08d}.png")
        np.testing.assert_array_equal(picture.permute(1, 2, 0).numpy(), render(scene))
    assert len(list(world.images(split).iterdir())) == COUNTS[split]


@pytest.mark.parametrize("split", SPLITS)
def test_scene_graphs_are_read_back_exactly(world: WorldFiles, split: str) -> None:
    assert list(read_scenes(world.scenes(split))) == scenes_of(split)


@pytest.mark.parametrize("split", SPLITS)
def test_instances_are_the_visible_things(world: WorldFiles, split: str) -> None:
    file = read_instances(world.instances(split), world.images(split))
    assert [category.name for category in file.categories] == list(SHAPES)
    assert [record.image.image_id for record in file.records] == list(range(COUNTS[split]))
    for record, scene in zip(file.records, scenes_of(split), strict=True):
        masks = annotate(scene).things_masks
        assert [SHAPES[instance.label] for instance in record.instances] == [t.shape for t in scene.things]
        for instance, expected in zip(record.instances, masks, strict=True):
            assert instance.segmentation is not None
            np.testing.assert_array_equal(instance.segmentation.to_mask(), expected)
            rows, columns = np.nonzero(expected)
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert instance.box_xyxy == box and instance.area == expected.sum()


def test_instance_masks_agree_with_a_slow_description_of_the_scene(world: WorldFiles) -> None:
    file = read_instances(world.instances("validation"), world.images("validation"))
    for record, scene in list(zip(file.records, scenes_of("validation"), strict=True))[:8]:
        for instance, expected in zip(record.instances, slow_masks(scene), strict=True):
            assert instance.segmentation is not None
            assert np.count_nonzero(instance.segmentation.to_mask() != expected) <= EDGE_PIXELS


@pytest.mark.parametrize("split", SPLITS)
def test_captions_are_true_of_their_scenes_in_both_formats(world: WorldFiles, split: str) -> None:
    scenes = scenes_of(split)
    coco = read_captions(world.captions(split), world.images(split))
    karpathy = read_karpathy(world.karpathy, world.images_root, (KARPATHY_SPLITS[split],))
    for scene, record, other in zip(scenes, coco, karpathy, strict=True):
        assert record.image.image_id == other.image_id == scene.index
        assert record.image.path == other.path
        assert record.captions == tuple(sentence.text for sentence in other.sentences)
        assert len(record.captions) == 5
        for caption in record.captions:
            check_caption(scene, caption)


def test_sentence_ids_are_unique_over_all_splits(world: WorldFiles) -> None:
    records = read_karpathy(world.karpathy, world.images_root, ("train", "val", "test"))
    ids = [sentence.sentence_id for record in records for sentence in record.sentences]
    assert ids == list(range(5 * sum(COUNTS.values())))
    document = json.loads(world.karpathy.read_text())["images"]
    assert [image["imgid"] for image in document] == list(range(sum(COUNTS.values())))
    assert document[7]["sentences"][2]["tokens"][-1] == document[7]["sentences"][2]["raw"].split()[-1]


@pytest.mark.parametrize("split", SPLITS)
def test_panoptic_maps_and_segments_cover_the_picture(world: WorldFiles, split: str) -> None:
    file = read_panoptic(world.panoptic(split), world.images(split), world.panoptic_maps(split))
    assert [(c.name, c.is_thing) for c in file.categories] == [(n, n in SHAPES) for n in CLASSES]
    for record, scene in zip(file.records[-25:], scenes_of(split)[-25:], strict=True):
        ids = read_segment_ids(record.map_path, record.image.size).numpy()
        expected = annotate(scene)
        assert set(ids.ravel().tolist()) == {segment.segment_id for segment in record.segments}
        names = [CLASSES[segment.label] for segment in record.segments]
        assert sorted(names) == sorted([r.stuff for r in scene.regions] + [t.shape for t in scene.things])
        for segment in record.segments:
            mask = ids == segment.segment_id
            assert segment.area == mask.sum()
            assert (expected.semantic[mask] == segment.label).all()
            rows, columns = np.nonzero(mask)
            assert segment.box_xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        things = [s for s in record.segments if CLASSES[s.label] in SHAPES]
        for segment, mask in zip(things, expected.things_masks, strict=True):
            np.testing.assert_array_equal(ids == segment.segment_id, mask)


@pytest.mark.parametrize("split", SPLITS)
def test_masks_hold_class_ids_plus_one_of_the_linked_pictures(world: WorldFiles, split: str) -> None:
    records = read_mask_folder(world.mask_images(split), world.masks(split))
    assert len(records) == COUNTS[split]
    for record, scene in list(zip(records, scenes_of(split), strict=True))[-25:]:
        mask = read_mask(record.mask_path, (scene.picture_size, scene.picture_size)).numpy()
        np.testing.assert_array_equal(mask, annotate(scene).semantic + 1)
        assert {CLASSES[value - 1] for value in np.unique(mask)} <= {
            *(thing.shape for thing in scene.things),
            *(region.stuff for region in scene.regions),
        }
        assert record.path.samefile(world.images(split) / record.path.name)


@pytest.mark.parametrize("split", SPLITS)
def test_answers_are_those_of_someone_who_sees_the_scene(world: WorldFiles, split: str) -> None:
    scenes, answer_types = scenes_of(split), {"yes": "yes/no", "no": "yes/no"}
    records = read_vqa(world.questions(split), world.annotations(split), world.images(split), PICTURE_NAME)
    assert Counter(record.image_id for record in records).keys() == set(range(COUNTS[split]))
    for record in records:
        assert record.path.name == f"{record.image_id:08d}.png"
        annotation, truth = record.annotation, answer(scenes[record.image_id], record.question)
        assert annotation is not None and annotation.most_common == truth
        kind = "number" if truth.isdigit() else answer_types.get(truth, "other")
        assert annotation.answer_type == kind
        texts = Counter(given.text for given in annotation.answers)
        assert texts.total() == 10 and texts.most_common(1)[0][0] == truth
        assert all((given.confidence == "yes") == (given.text == truth) for given in annotation.answers)


@pytest.mark.parametrize("split", SPLITS)
def test_statements_are_true_or_false_of_their_pair(world: WorldFiles, split: str) -> None:
    records = read_nlvr2(world.statements(split), world.statement_images(split))
    seen = set()
    for record in records:
        _, pair, *_ = record.identifier.split("-")
        left, right = (draw_scene(CONFIG, split, 2 * int(pair) + side) for side in (0, 1))
        assert judge(left, right, record.sentence) == record.label
        assert record.left.samefile(world.images(split) / f"{left.index:08d}.png")
        assert record.right.samefile(world.images(split) / f"{right.index:08d}.png")
        seen.add(int(pair))
    assert seen == set(range(COUNTS[split] // 2))
    assert len({record.identifier for record in records}) == len(records)


@pytest.mark.parametrize("split", SPLITS)
def test_class_folders_hold_the_scenes_of_a_single_thing(world: WorldFiles, split: str) -> None:
    folder = read_image_folder(world.class_folders(split), classes=tuple(sorted(SHAPES)))
    found = {int(record.path.stem): folder.classes[record.label] for record in folder.records}
    alone = {s.index: s.things[0].shape for s in scenes_of(split) if len(s.things) == 1}
    assert found == alone and alone


@pytest.mark.parametrize("split", SPLITS)
def test_shards_hold_pictures_captions_and_texts(world: WorldFiles, split: str) -> None:
    scenes = scenes_of(split)
    images, pairs = ShardSet(world.shards("images", split)), ShardSet(world.shards("pairs", split))
    assert len(images) == len(pairs) == COUNTS[split]
    captions = read_captions(world.captions(split), world.images(split))
    for index in (0, 7, COUNTS[split] - 1):
        pair, key = pairs[index], f"{index:08d}"
        assert images[index] == {"__key__": key, "png": pair["png"]}
        assert isinstance(pair["png"], bytes) and isinstance(pair["txt"], bytes)
        np.testing.assert_array_equal(
            decode_picture(pair["png"], key).permute(1, 2, 0).numpy(), render(scenes[index])
        )
        assert tuple(pair["txt"].decode().split("\n")) == captions[index].captions
        assert json.loads(pair["json"]) == {"image_id": index} and pair["__key__"] == key
    if split in TEXT_SPLITS:
        texts = ShardSet(world.shards("texts", split))
        assert len(texts) == COUNTS[split]
        assert texts[COUNTS[split] - 1]["txt"] == text(CONFIG, split, COUNTS[split] - 1).encode()


def test_the_corpus_has_the_training_texts(world: WorldFiles) -> None:
    expected = [text(CONFIG, "train", index) for index in range(COUNTS["train"])]
    assert list(read_text_corpus(world.corpus)) == expected


def test_only_the_compositional_split_shows_held_out_combinations(world: WorldFiles) -> None:
    for split in SPLITS:
        for scene in read_scenes(world.scenes(split)):
            shown = {(thing.colour, thing.shape) for thing in scene.things} & HELD_OUT
            assert bool(shown) == (split == "compositional")


def test_coco_tools_load_the_annotations_and_find_them_perfect(world: WorldFiles) -> None:
    path = str(world.instances("validation"))
    for tool in (COCO(path), PycocotoolsCOCO(path)):
        assert len(tool.getImgIds()) == COUNTS["validation"]
        instance = tool.loadAnns(tool.getAnnIds(imgIds=3))[0]
        np.testing.assert_array_equal(
            np.asarray(tool.annToMask(instance)).astype(bool),
            annotate(draw_scene(CONFIG, "validation", 3)).things_masks[0],
        )
    truth = COCO(path)
    found = truth.loadRes([each | {"score": 0.9} for each in truth.loadAnns(truth.getAnnIds())])
    for kind in ("bbox", "segm"):
        evaluation = COCOeval_faster(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1.0)
    assert len(PycocotoolsCOCO(str(world.captions("validation"))).anns) == 5 * COUNTS["validation"]


def hashes(root: Path) -> dict[str, str]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_bytes_depend_neither_on_the_run_nor_on_the_number_of_workers(
    world: WorldFiles, tmp_path: Path
) -> None:
    reports: list[tuple[int, int]] = []
    again = write_world(
        CONFIG,
        tmp_path / "again",
        num_train=COUNTS["train"],
        num_validation=COUNTS["validation"],
        num_compositional=COUNTS["compositional"],
        workers=2,
        progress=lambda written, total: reports.append((written, total)),
    )
    assert hashes(again.root) == hashes(world.root)
    total = sum(COUNTS.values())
    assert reports == [(written, total) for written in (500, 505, 545, 575)]


def test_another_seed_or_level_gives_another_world(tmp_path: Path) -> None:
    scenes = []
    for number, config in enumerate((CONFIG, replace(CONFIG, seed=4), replace(CONFIG, level="easy"))):
        files = write_world(config, tmp_path / str(number), num_train=2, num_validation=2)
        scenes.append(files.scenes("train").read_text())
    assert len(set(scenes)) == 3


def test_a_world_that_is_there_is_returned_at_once(world: WorldFiles) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.root.rglob("*")}
    assert write(world.root) == world == read_world(world.root)
    assert {path: path.stat().st_mtime_ns for path in world.root.rglob("*")} == before


def test_without_a_compositional_split_there_is_none(tmp_path: Path) -> None:
    files = write_world(CONFIG, tmp_path / "world", num_train=3, num_validation=2)
    assert list(files.counts) == ["train", "validation"]
    assert not (tmp_path / "world/images/compositional").exists()
    with pytest.raises(KeyError, match="compositional"):
        files.images("compositional")


def test_another_world_is_replaced_only_on_demand(tmp_path: Path) -> None:
    out = tmp_path / "world"
    write_world(CONFIG, out, num_train=2, num_validation=2)
    with pytest.raises(DataFormatError, match=r"holds another World \(2\+2 scenes, .* asked for 3\+2 scenes"):
        write_world(CONFIG, out, num_train=3, num_validation=2)
    assert read_world(out).counts["train"] == 2
    files = write_world(CONFIG, out, num_train=3, num_validation=2, overwrite=True)
    assert read_world(out) == files and files.counts["train"] == 3


def test_a_damaged_world_is_written_anew_on_demand(tmp_path: Path) -> None:
    files = write_world(CONFIG, tmp_path / "world", num_train=2, num_validation=2)
    files.karpathy.unlink()
    with pytest.raises(DataFormatError, match=r"cannot be used .*dataset_world\.json: is missing"):
        write_world(CONFIG, files.root, num_train=2, num_validation=2)
    write_world(CONFIG, files.root, num_train=2, num_validation=2, overwrite=True)
    assert files.karpathy.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_world_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    for out in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(DataFormatError, match=r"holds no World .*: choose another folder"):
            write_world(CONFIG, out, num_train=2, num_validation=2, overwrite=overwrite)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_an_empty_folder_is_filled_and_the_rest_of_a_killed_run_removed(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / ".world.unfinished/images").mkdir(parents=True)
    write_world(CONFIG, tmp_path / "world", num_train=2, num_validation=2)
    assert os.listdir(tmp_path) == ["world"]


def test_a_link_to_a_folder_elsewhere_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "world").symlink_to(tmp_path / "disk")
    write_world(CONFIG, tmp_path / "world", num_train=2, num_validation=2)
    assert (tmp_path / "world").is_symlink() and read_world(tmp_path / "disk").counts["train"] == 2


def test_nothing_is_left_behind_when_writing_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(writer, "write_shard", disk_full)
    with pytest.raises(OSError, match="no space left"):
        write_world(CONFIG, tmp_path / "world", num_train=2, num_validation=2)
    assert os.listdir(tmp_path) == []


def test_pictures_are_copied_where_links_are_impossible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError("operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    files = write_world(CONFIG, tmp_path / "world", num_train=2, num_validation=2)
    copy, original = (
        folder / "00000001.png" for folder in (files.mask_images("train"), files.images("train"))
    )
    assert copy.read_bytes() == original.read_bytes() and not copy.samefile(original)


@pytest.mark.parametrize(
    "numbers", [{"num_train": 1}, {"num_validation": 0}, {"num_compositional": -1}, {"workers": 0}]
)
def test_impossible_numbers_are_refused(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        write(tmp_path / "world", **numbers)


def test_stuff_and_shapes_keep_the_ids_of_the_masks_in_every_json(world: WorldFiles) -> None:
    panoptic = json.loads(world.panoptic("train").read_text())["categories"]
    assert [category["id"] for category in panoptic] == [c + 1 for c in range(len(CLASSES))]
    instances = json.loads(world.instances("train").read_text())["categories"]
    assert instances == [category for category in panoptic if category["name"] not in STUFF]
