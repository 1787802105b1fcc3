"""From files to batches of detection, on a small World and on hand-written annotations."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imglish.data.detection import (
    DetectionDataset,
    SemanticMaps,
    collate_detection,
    objects_of,
    scored_on,
    trained_on,
    truth_of,
)
from imglish.data.formats.coco import read_instances
from imglish.data.formats.instances import InstancesFile
from imglish.data.formats.panoptic import read_panoptic
from imglish.data.formats.segmentation import encode_mask
from imglish.data.loader import SinglePlan, Source, evaluation_batches, prefetch
from imglish.data.pictures import read_picture
from imglish.data.transforms.copy_paste import CopyPaste
from imglish.data.transforms.detection import (
    ChosenScale,
    DetectionTraining,
    DetectionViews,
    LargeScaleJitter,
)
from imglish.data.world.annotate import annotate
from imglish.data.world.files import WorldFiles, read_scenes
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.metrics.coco_ap import CocoAp
from imglish.metrics.panoptic_quality import PanopticQuality
from imglish.structures.instances import Detections, EncodedMask

AS_STORED = DetectionTraining(scaling=ChosenScale(scales=((64, 64),)), flip=0.0, pictures="model")
JITTER = DetectionTraining(
    scaling=LargeScaleJitter(side=64),
    crop=(64, 64),
    copy_paste=CopyPaste(chance=0.7, least_pixels=20),
    boxes_from_masks=True,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldFiles:
    return write_world(
        WorldConfig(level="full", picture_size=64),
        tmp_path_factory.mktemp("detection") / "world",
        num_train=10,
        num_validation=6,
        workers=1,
    )


def instances(world: WorldFiles, split: str) -> InstancesFile:
    return read_instances(world.instances(split), world.images(split)).strict()


def test_samples_are_the_scenes(world: WorldFiles) -> None:
    records = instances(world, "train").records
    maps = SemanticMaps(folder=world.masks("train"), first=1)
    dataset = DetectionDataset(records=records, transform=AS_STORED, semantic=maps)
    for number, scene in enumerate(read_scenes(world.scenes("train"))):
        sample, truth = dataset.get(number, np.random.default_rng(0)), annotate(scene)
        assert sample.targets is not None and sample.targets.masks is not None
        np.testing.assert_array_equal(sample.targets.masks.numpy(), truth.things_masks)
        np.testing.assert_array_equal(sample.targets.boxes.numpy(), truth.boxes_xyxy)
        assert not sample.targets.crowd.any() and (sample.size, sample.number) == ((64, 64), number)
        np.testing.assert_array_equal(sample.semantic, truth.semantic)
        picture = read_picture(records[number].image.path)
        torch.testing.assert_close(sample.image, picture / 127.5 - 1)


def test_a_batch_is_padded_to_its_largest_picture(world: WorldFiles) -> None:
    transform = DetectionTraining(scaling=ChosenScale(scales=((40, 40), (100, 100))))
    maps = SemanticMaps(folder=world.masks("train"), first=1)
    dataset = DetectionDataset(records=instances(world, "train").records, transform=transform, semantic=maps)
    samples = [dataset.get(number, np.random.default_rng(number)) for number in range(6)]
    batch = collate_detection(samples)
    assert set(batch.sizes) == {(40, 40), (100, 100)} and set(batch.original_sizes) == {(64, 64)}
    assert batch.images.shape == (6, 3, 128, 128) and batch.sample_ids.tolist() == list(range(6))
    assert batch.semantic is not None and batch.semantic.shape == (6, 128, 128)
    for row, (sample, objects) in enumerate(zip(samples, batch.targets, strict=True)):
        side = sample.size[0]
        assert objects.masks is not None and objects.masks.shape[1:] == (128, 128)
        assert not objects.masks[:, side:].any() and objects.masks[:, :side, :side].flatten(1).any(1).all()
        assert (batch.semantic[row, side:] == 255).all() and (batch.semantic[row, :side, :side] != 255).all()
        assert not batch.images[row, :, side:].any() and batch.images[row, :, :side, :side].any()
        assert objects.boxes.max() <= side


def test_batches_resume_exactly_with_any_number_of_workers(world: WorldFiles) -> None:
    dataset = DetectionDataset(records=trained_on(instances(world, "train").records), transform=JITTER)
    plan = SinglePlan(source=Source(dataset=dataset, per_rank=2, seed=3), collate=collate_detection)
    here = [loaded.batch for loaded in prefetch(plan, 0, 4)]
    later = [loaded.batch for loaded in prefetch(plan, 2, 4, num_workers=1)]
    for one, other in zip(here[2:], later, strict=True):
        assert torch.equal(one.images, other.images) and one.sizes == other.sizes
        for mine, theirs in zip(one.targets, other.targets, strict=True):
            assert torch.equal(mine.boxes, theirs.boxes) and torch.equal(mine.labels, theirs.labels)
            assert mine.masks is not None and theirs.masks is not None
            assert torch.equal(mine.masks, theirs.masks)
    assert not torch.equal(here[0].images, here[1].images)


def test_the_truth_scores_perfectly_and_views_come_along(world: WorldFiles) -> None:
    file = instances(world, "validation")
    dataset = DetectionDataset(
        records=scored_on(file.records), scoring=DetectionViews(scales=((80, 80), (48, 48)), flip=True)
    )
    metric = CocoAp([category.name for category in file.categories], ("box", "mask"))
    batches = [loaded.batch for loaded in evaluation_batches(dataset, collate_detection, 1)]
    for batch in batches:
        (truth,) = batch.truths
        assert truth.masks is not None and batch.targets == () and batch.sizes == ((80, 80),)
        assert [(view.inside, view.flipped) for view in batch.views] == [
            ((80, 80), False), ((80, 80), True), ((48, 48), False), ((48, 48), True)
        ]  # fmt: skip
        assert torch.equal(batch.images, batch.views[0].images)
        found = Detections(
            boxes=torch.from_numpy(truth.boxes).float(),
            scores=torch.ones(len(truth)),
            labels=torch.from_numpy(truth.labels),
        )
        metric.update(int(batch.sample_ids), found, truth, truth.masks)
    scores = metric.compute()
    assert scores["box/ap"] == scores["mask/ap"] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="one at a time"):
        collate_detection([dataset.get(number, np.random.default_rng(0)) for number in range(2)])


def test_segments_become_objects_and_score_perfectly(world: WorldFiles) -> None:
    file = read_panoptic(world.panoptic("train"), world.images("train"), world.panoptic_maps("train"))
    train = DetectionDataset(records=file.records, transform=AS_STORED)
    scored = DetectionDataset(records=file.records, scoring=DetectionViews(scales=((64, 64),)))
    metric = PanopticQuality([c.name for c in file.categories], [c.is_thing for c in file.categories])
    for number, record in enumerate(file.records):
        objects = train.get(number, np.random.default_rng(0)).targets
        assert objects is not None and objects.masks is not None
        assert objects.labels.tolist() == [segment.label for segment in record.segments]
        assert objects.boxes.tolist() == [list(segment.box_xyxy) for segment in record.segments]
        assert (objects.masks.sum(0) == 1).all()  # segments cover the picture, none twice
        (truth,) = collate_detection([scored.get(number, np.random.default_rng(0))]).panoptic
        metric.update(truth, truth)
    scores = metric.compute()
    assert scores["panoptic/pq"] == scores["panoptic/sq"] == scores["panoptic/rq_stuff"] == 1.0


def written(
    root: Path, annotations: list[dict[str, object]], size: tuple[int, int] = (40, 50)
) -> InstancesFile:
    """A file of one picture of that (height, width), which is really 40 x 50."""
    Image.new("RGB", (50, 40)).save(root / "a.png")
    document = {
        "images": [{"id": 5, "file_name": "a.png", "height": size[0], "width": size[1]}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 44, "name": "dog"}],
        "annotations": [
            {"id": number, "image_id": 5, "category_id": 44, "area": 4, "iscrowd": 0} | one
            for number, one in enumerate(annotations, start=1)
        ],
    }
    (root / "a.json").write_text(json.dumps(document))
    return read_instances(root / "a.json", root)


SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]


def test_objects_are_chosen_and_clipped_as_by_the_official_loader(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        [
            {"bbox": [2, 2, 10, 10], "segmentation": SQUARE},
            {"bbox": [-5, 30, 20, 30], "segmentation": SQUARE},  # is cut off
            {"bbox": [50, 0, 10, 10], "segmentation": SQUARE},  # outside
            {"bbox": [2, 2, 0, 10], "segmentation": SQUARE},  # of no width
            {"bbox": [2, 2, 0.9, 10], "segmentation": SQUARE},  # thinner than a pixel
            {"bbox": [2, 2, 10, 10], "segmentation": SQUARE, "area": 0},
            {"bbox": [1, 1, 5, 5], "segmentation": {"size": [40, 50], "counts": [0, 2000]}, "iscrowd": 1},
            {"bbox": [2, 2, 10, 10]},  # a box alone
        ],
    )
    record = file.strict().records[0]
    image = read_picture(record.image.path)
    objects = objects_of(record, image, with_outlines=True)
    assert objects.boxes.tolist() == [[2, 2, 12, 12], [0, 30, 15, 40], [1, 1, 6, 6], [2, 2, 12, 12]]
    assert objects.labels.tolist() == [1] * 4
    assert objects.crowd.tolist() == [False, False, True, True]  # no mask can be trained on the last
    assert objects.masks().flatten(1).sum(1).tolist() == [100, 100, 2000, 0]
    assert objects_of(record, image, with_outlines=False).crowd.tolist() == [False, False, True, False]
    truth = truth_of(record, with_masks=True)
    assert len(truth) == 8 and truth.masks is None  # COCO scores every object as it is written
    assert truth.boxes[1].tolist() == [-5, 30, 15, 60]


def test_run_lengths_of_both_kinds_and_polygons_are_scored_alike(tmp_path: Path) -> None:
    mask = np.zeros((40, 50), np.bool_)
    mask[2:12, 2:12] = True
    runs = [sum(1 for _ in run) for _, run in itertools.groupby(mask.T.ravel())]  # the first is outside
    string = encode_mask(mask).decode()
    file = written(
        tmp_path,
        [
            {"bbox": [2, 2, 10, 10], "segmentation": SQUARE},
            {"bbox": [2, 2, 10, 10], "segmentation": {"size": [40, 50], "counts": string}},
            {"bbox": [2, 2, 10, 10], "segmentation": {"size": [40, 50], "counts": runs}},
        ],
    )
    masks = truth_of(file.records[0], with_masks=True).masks
    assert masks is not None and set(masks) == {EncodedMask((40, 50), string.encode())}


@pytest.mark.parametrize(
    ("one", "size", "words"),
    [
        ({"segmentation": SQUARE}, (50, 40), "take the EXIF orientation out of the picture"),
        ({"segmentation": SQUARE}, (50, 50), "is 40 high and 50 wide, but its annotations are of 50 high"),
        (
            {"segmentation": {"size": [40, 50], "counts": [5, 5]}},
            (40, 50),
            "a.png: object 1: run lengths cover 10 pixels",
        ),
        (
            {"segmentation": {"size": [40, 50], "counts": "~~~"}},
            (40, 50),
            "a.png: object 1: run lengths '~~~'",
        ),
    ],
)
def test_bad_samples_are_left_out_and_counted(
    tmp_path: Path, world: WorldFiles, one: dict[str, object], size: tuple[int, int], words: str
) -> None:
    bad = written(tmp_path, [{"bbox": [2, 2, 10, 10]} | one], size).records[0]
    good = instances(world, "train").records[0]
    dataset = DetectionDataset(records=[bad, good], transform=AS_STORED)
    plan = SinglePlan(source=Source(dataset=dataset, per_rank=2, seed=0), collate=collate_detection)
    loaded = plan.batch(0)
    assert len(loaded.batch.targets) == 2 and len(loaded.skipped) == 1 and words in loaded.skipped[0]


def test_pictures_without_objects_and_tiny_ones_are_not_trained_on(world: WorldFiles, tmp_path: Path) -> None:
    empty = written(tmp_path, []).records
    assert len(trained_on(empty)) == 0 and len(trained_on(empty, skip_empty=False)) == 1
    assert len(trained_on(empty, skip_empty=False, least_side=41)) == 0
    sample = DetectionDataset(records=empty, transform=JITTER).get(0, np.random.default_rng(0))
    assert sample.targets is not None and sample.targets.boxes.shape == (0, 4)
    assert sample.targets.masks is not None and sample.targets.masks.shape[0] == 0
    records = instances(world, "train").records
    chosen = pickle.loads(pickle.dumps(trained_on(records)))
    assert chosen[2:4].sizes().tolist() == [[64, 64]] * 2
    assert list(chosen) == list(records) and list(chosen[2:4]) == list(records[2:4])
    assert [r.image.image_id for r in scored_on(records)] == sorted(records.image_ids().tolist())


def test_pictures_may_share_a_batch_that_have_one_shape(world: WorldFiles, tmp_path: Path) -> None:
    lying = written(tmp_path, []).records
    dataset = DetectionDataset(records=lying, transform=AS_STORED)
    assert dataset.groups().tolist() == [0]
    stood = written(tmp_path, [], size=(50, 40)).records[0]
    assert DetectionDataset(records=[stood, lying[0]], transform=AS_STORED).groups().tolist() == [1, 0]
    file = read_panoptic(world.panoptic("train"), world.images("train"), world.panoptic_maps("train"))
    assert (
        DetectionDataset(records=file.records, transform=AS_STORED).groups().tolist() == [1] * 10
    )  # squares go with standing ones


def test_five_hundred_objects_fit_in_one_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 30, (500, 2)).tolist()
    annotations: list[dict[str, object]] = [
        {"bbox": [x, y, 9, 9], "segmentation": [[x, y, x + 9, y, x + 9, y + 9, x, y + 9]]} for x, y in corners
    ]
    dataset = DetectionDataset(
        records=written(tmp_path, annotations).records,
        transform=DetectionTraining(scaling=ChosenScale(scales=((200, 160),))),
    )
    objects = dataset.get(0, np.random.default_rng(0)).targets
    assert objects is not None and objects.masks is not None and objects.masks.shape == (500, 160, 200)
    areas = objects.masks.flatten(1).sum(1).float()
    assert (areas / 36**2 - 1).abs().max() < 0.03  # 9 pixels four times as large


def test_a_data_set_either_trains_or_scores() -> None:
    with pytest.raises(ValueError, match="either a transform"):
        DetectionDataset(records=[])
