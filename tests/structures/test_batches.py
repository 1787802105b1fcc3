from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from types import NoneType
from typing import get_args, get_type_hints

import pytest
import torch
from torch import Tensor

from imglish.structures import batches
from imglish.structures.batch import Batch
from imglish.structures.batches import IGNORE, Bucket, ImageBatch, MaskedBatch, MaskedText

KINDS = [
    kind
    for kind in vars(batches).values()
    if isinstance(kind, type) and issubclass(kind, Batch) and kind is not Batch
]
# Fields that are no tensor, or none by themselves.
PLAIN: dict[str, object] = {
    "buckets": (),
    "inside": (2, 3),
    "flipped": True,
    "views": (),
    "sizes": ((2, 3),),
    "original_sizes": ((4, 6),),
    "targets": (),
    "truths": (),
    "panoptic": (),
    "part": "vqa",
}
# Tensors of the meta device have no values, but they have a device of their own on every machine.
ELSEWHERE = "meta"


def filled(kind: type[Batch], *, whole: bool = True) -> Batch:
    """A batch of that kind, fields of several types; ``whole`` False leaves out what may be left out."""
    types = (torch.float32, torch.int64, torch.bool)
    values: dict[str, object] = {}
    for number, (name, hint) in enumerate(get_type_hints(kind).items()):
        optional = NoneType in get_args(hint)
        if name in PLAIN and hint is not Tensor:
            values[name] = PLAIN[name]
            continue
        if isinstance(hint, type) and issubclass(hint, Batch):
            values[name] = filled(hint, whole=whole)
        elif whole or not optional:
            assert hint is Tensor or optional, f"{name} is no tensor and no batch"
            values[name] = torch.ones(2, number + 1, dtype=types[number % 3])
    return kind(**values)


def tensors(batch: Batch) -> dict[str, Tensor]:
    """All tensors of a batch and of the batches in it, by name; nothing for what is left out."""
    found: dict[str, Tensor] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Batch):
            found |= {f"{field.name}.{name}": tensor for name, tensor in tensors(value).items()}
        elif isinstance(value, Tensor):
            found[field.name] = value
    return found


def test_batches_in_a_batch_are_reached() -> None:
    assert MaskedBatch in KINDS
    assert {"images.corruption", "texts.padding", "pairs.targets"} < tensors(filled(MaskedBatch)).keys()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_a_batch_moves(kind: type[Batch], whole: bool) -> None:
    batch = filled(kind, whole=whole)
    before = tensors(batch)
    moved = batch.to(ELSEWHERE)
    assert type(moved) is kind
    after = tensors(moved)
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        assert tensor.device.type == ELSEWHERE, name
        assert tensor.shape == before[name].shape and tensor.dtype == before[name].dtype, name


def test_a_batch_that_moves_keeps_what_is_no_tensor() -> None:
    buckets = (Bucket(rows=2, length=3, tokens=5),)
    texts = MaskedText(
        token_ids=torch.ones(2, 3), padding=torch.ones(2, 3), targets=torch.ones(2, 3), buckets=buckets
    )
    assert texts.to(ELSEWHERE).buckets == buckets


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_that_was_moved_stays_where_it_is(kind: type[Batch]) -> None:
    batch = filled(kind)
    before = tensors(batch)
    batch.to(torch.device(ELSEWHERE), non_blocking=True)
    assert all(tensor.device.type == "cpu" for tensor in tensors(batch).values())
    assert all(tensor is before[name] for name, tensor in tensors(batch).items())


def test_moving_to_where_it_is_keeps_the_values() -> None:
    batch = ImageBatch(images=torch.rand(2, 3, 4, 4), sample_ids=torch.tensor([5, 6]))
    same = batch.to("cpu")
    assert same.images is batch.images and same.sample_ids is batch.sample_ids


def test_a_batch_does_not_change() -> None:
    batch = ImageBatch(images=torch.zeros(1, 3, 4, 4), sample_ids=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(FrozenInstanceError):
        batch.images = torch.ones(1, 3, 4, 4)  # type: ignore[misc]


def test_what_is_ignored_is_what_cross_entropy_ignores() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 9.0]])
    both = torch.nn.functional.cross_entropy(logits, torch.tensor([0, IGNORE]))
    torch.testing.assert_close(both, torch.nn.functional.cross_entropy(logits[:1], torch.tensor([0])))
