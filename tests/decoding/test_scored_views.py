from __future__ import annotations

import torch
from torch import Tensor

from imglish.decoding.scored_views import batch_class_map
from imglish.decoding.sliding import Windows
from imglish.structures.batches import PictureView, SegmentationBatch


def predict(images: Tensor) -> Tensor:
    """Class 1 where red is bright, class 2 where blue is: a network of one look."""
    return torch.stack([torch.full_like(images[:, 0], 0.5), images[:, 0], images[:, 2]], dim=1)


def view(image: Tensor, inside: tuple[int, int], *, flipped: bool = False) -> PictureView:
    """``image`` (3, h, w) in a frame of 9s, which are all of class 1."""
    framed = torch.full((1, 3, image.shape[1] + 3, image.shape[2] + 5), 9.0)
    framed[0, :, : image.shape[1], : image.shape[2]] = image.flip(-1) if flipped else image
    return PictureView(images=framed, inside=inside, flipped=flipped)


def batch(*views: PictureView, size: tuple[int, int]) -> SegmentationBatch:
    masks = torch.zeros(1, *size, dtype=torch.int64)
    return SegmentationBatch(images=views[0].images, masks=masks, sample_ids=torch.tensor([0]), views=views)


def test_one_view_is_cut_and_resized_to_the_mask() -> None:
    image = torch.zeros(3, 4, 6)
    image[0, :, 3:] = 1.0
    found = batch_class_map(predict, batch(view(image, (4, 6)), size=(8, 12)))
    assert found.shape == (1, 8, 12)
    assert (found[0, :, :5] == 0).all() and (found[0, :, 7:] == 1).all()


def test_views_are_averaged_as_probabilities_after_they_are_flipped_back() -> None:
    image, other = torch.zeros(3, 4, 6), torch.zeros(3, 4, 6)
    image[0, :, :2] = 3.0  # class 1 at the left, surely
    other[2, :, :3] = 1.0  # class 2 in the left half, hardly
    found = batch_class_map(
        predict, batch(view(image, (4, 6)), view(other, (4, 6), flipped=True), size=(4, 6))
    )
    expected = (predict(image[None]).softmax(dim=1) + predict(other[None]).softmax(dim=1)).argmax(dim=1)
    assert torch.equal(found, expected) and expected[0, 0].tolist() == [1, 1, 2, 0, 0, 0]


def test_windows_cut_every_view() -> None:
    sizes: list[tuple[int, ...]] = []

    def looking(images: Tensor) -> Tensor:
        sizes.append(tuple(images.shape[-2:]))
        return predict(images)

    views = (view(torch.zeros(3, 8, 8), (8, 8)), view(torch.zeros(3, 8, 8), (8, 8), flipped=True))
    batch_class_map(looking, batch(*views, size=(8, 8)), Windows((4, 4), (4, 4)))
    assert set(sizes) == {(4, 4)} and len(sizes) == 2 * 3 * 4


def test_a_batch_without_views_shows_its_pictures() -> None:
    images = torch.zeros(2, 3, 4, 4)
    images[1, 2] = 1.0
    plain = SegmentationBatch(
        images=images, masks=torch.zeros(2, 4, 4, dtype=torch.int64), sample_ids=torch.arange(2)
    )
    assert batch_class_map(predict, plain).flatten(1).unique(dim=1).tolist() == [[0], [2]]


def test_views_move_with_their_batch() -> None:
    moved = batch(view(torch.zeros(3, 4, 4), (4, 4)), size=(4, 4)).to("meta")
    assert moved.views[0].images.is_meta and moved.views[0].inside == (4, 4)
