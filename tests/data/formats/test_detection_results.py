from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO

from imglish.data.formats.detection_results import PictureResult, write_detections, write_panoptic
from imglish.data.formats.instances import Category
from imglish.data.formats.segmentation import encode_mask
from imglish.data.pictures import read_segment_ids
from imglish.structures.instances import Detections, EncodedMask, PanopticMap

CATEGORIES = (Category(3, "cat", True), Category(44, "sky", False))


def test_cocos_own_tools_load_written_detections(tmp_path: Path) -> None:
    mask = np.zeros((10, 12), np.bool_)
    mask[2:5, 3:9] = True
    found = PictureResult(
        9,
        Detections(
            boxes=torch.tensor([[3.0, 2.0, 9.0, 5.0]]), scores=torch.tensor([0.5]), labels=torch.tensor([1])
        ),
        (EncodedMask((10, 12), encode_mask(mask)),),
    )
    path = tmp_path / "results.json"
    assert write_detections(path, [found, found._replace(image_id=2)], CATEGORIES) == 2
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": key, "height": 10, "width": 12} for key in (2, 9)],
            "categories": [{"id": 44}],
            "annotations": [],
        }
        truth.createIndex()
        loaded = truth.loadRes(str(path))
    assert [one["image_id"] for one in loaded.dataset["annotations"]] == [9, 2]
    one = loaded.dataset["annotations"][0]
    assert (one["category_id"], one["bbox"], one["score"]) == (44, [3, 2, 6, 3], 0.5)
    np.testing.assert_array_equal(loaded.annToMask(one).astype(bool), mask)


def test_written_segments_are_read_back(tmp_path: Path) -> None:
    ids = np.array([[0, 7, 7], [70000, 70000, 7]], np.int32)
    segments = PanopticMap(
        ids=ids,
        segment_ids=np.array([7, 70000]),
        labels=np.array([1, 0]),
        crowd=np.zeros(2, np.bool_),
    )
    path, maps = tmp_path / "panoptic.json", tmp_path / "panoptic"
    assert write_panoptic(path, maps, [(12, "000000000012", segments)], CATEGORIES) == 1
    np.testing.assert_array_equal(read_segment_ids(maps / "000000000012.png", (2, 3)), ids)
    assert Image.open(maps / "000000000012.png").mode == "RGB"
    (annotation,) = json.loads(path.read_text())["annotations"]
    assert annotation == {
        "image_id": 12,
        "file_name": "000000000012.png",
        "segments_info": [{"id": 7, "category_id": 44}, {"id": 70000, "category_id": 3}],
    }
