from __future__ import annotations

import pickle

import torch

from imglish.structures.batches import DetectionBatch
from imglish.structures.instances import Instances


def _instances() -> Instances:
    return Instances(
        boxes=torch.tensor([[0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 3.0, 2.0]]),
        labels=torch.tensor([2, 0]),
        crowd=torch.tensor([False, True]),
        masks=torch.ones(2, 32, 32, dtype=torch.bool),
    )


def test_a_batch_moves_whole_with_its_objects() -> None:
    batch = DetectionBatch(
        images=torch.zeros(1, 3, 32, 32),
        sizes=((20, 30),),
        original_sizes=((40, 60),),
        sample_ids=torch.tensor([7]),
        targets=(_instances(),),
    )
    moved = pickle.loads(pickle.dumps(batch)).to("meta")
    (objects,) = moved.targets
    assert {moved.images.device.type, objects.boxes.device.type, objects.labels.device.type} == {"meta"}
    assert objects.masks is not None and objects.masks.is_meta and objects.crowd.is_meta
    assert (moved.sizes, moved.semantic, moved.truths) == (((20, 30),), None, ())


def test_taking_some_objects_keeps_their_fields_together() -> None:
    objects = _instances()
    last = objects.take(objects.crowd)
    assert len(last) == 1 and last.labels.tolist() == [0] and last.masks is not None
    assert objects.take(torch.tensor([1, 0])).boxes.tolist() == objects.boxes.flip(0).tolist()
