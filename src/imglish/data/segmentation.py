"""Pictures with class maps as training samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from imglish.data.collate import stack_images
from imglish.data.formats.mask_folder import MaskRecord
from imglish.data.formats.mask_labels import MaskLabels
from imglish.data.mask_classes import read_labels
from imglish.data.pictures import read_picture
from imglish.data.transforms.segmentation import ScoredView, ScoringViews
from imglish.errors import DataFormatError
from imglish.structures.batches import PictureView, SegmentationBatch

SegmentationTransform = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]


class SegmentationSample(NamedTuple):
    """Picture (3, H, W), class ids int64 (H, W) with 255 ignored, number of the sample.

    The picture is uint8, or float32 in the range that the model wants where a transform has put it there.
    ``views`` are what is shown of a picture to be scored, the first of them ``image``; the mask has the size
    of the picture itself then.
    """

    image: Tensor
    mask: Tensor
    number: int
    views: tuple[ScoredView, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationDataset:
    """Pictures with masks.

    Args:
        records: Files.
        labels: What the values of the masks mean; others are refused.
        transform: Changes picture and mask together; None leaves them.
        scoring: Makes the views of pictures to be scored, instead of ``transform``; None makes none.
        size: (height, width) in pixels that all pictures must have; None takes them as they are.
    """

    records: Sequence[MaskRecord]
    labels: MaskLabels
    transform: SegmentationTransform | None = None
    scoring: ScoringViews | None = None
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def get(self, index: int, rng: np.random.Generator) -> SegmentationSample:
        """Sample ``index``.

        Raises:
            DataFormatError: A file is damaged, a size differs, or a value of the mask is no class.
        """
        record = self.records[index]
        image = read_picture(record.path)
        height, width = image.shape[-2:]
        if self.size is not None and self.size != (height, width):
            raise DataFormatError(
                f"{record.path}: is {height} high and {width} wide; expected {self.size[0]} high and "
                f"{self.size[1]} wide as the others: resize it with its mask, leave both out, or have "
                "task.pictures.kind cropped, which takes pictures of any size"
            )
        mask = torch.from_numpy(read_labels(record, self.labels, (height, width)))
        if self.scoring is not None:
            views = self.scoring(image)
            return SegmentationSample(views[0].image, mask, index, views)
        if self.transform is not None:
            image, mask = self.transform(image, mask, rng)
        return SegmentationSample(image, mask, index)


def collate_segmentation(samples: Sequence[SegmentationSample]) -> SegmentationBatch:
    """Stack pictures and masks of one size; pictures in uint8 are put to [-1, 1].

    Raises:
        ValueError: Several samples have views, which may be of any size.
    """
    images = [sample.image for sample in samples]
    if len(samples) > 1 and any(sample.views for sample in samples):
        raise ValueError(f"{len(samples)} samples have views of any size; score pictures one at a time")
    return SegmentationBatch(
        images=stack_images(images) if images[0].dtype == torch.uint8 else torch.stack(images),
        masks=torch.stack([sample.mask for sample in samples]),
        sample_ids=torch.tensor([sample.number for sample in samples]),
        views=tuple(
            PictureView(images=view.image[None], inside=view.size, flipped=view.flipped)
            for sample in samples
            for view in sample.views
        ),
    )
