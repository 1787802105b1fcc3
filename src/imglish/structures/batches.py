"""One frozen dataclass for each kind of batch a task reads.

Pictures are float32 (B, 3, H, W) in [-1, 1] (mean 0.5 and deviation 0.5 of [0, 1]), as BEiT-3 and
VQ-KD expect. ``padding`` is True where padded. Text targets are -100 where there is nothing to predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from imglish.structures.batch import Batch
from imglish.structures.instances import Instances, PanopticMap, ScoredTruth

IGNORE = -100  # the target value that cross entropy leaves out


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageBatch(Batch):
    """Pictures alone: images (B, 3, H, W), sample_ids int64 (B,)."""

    images: Tensor
    sample_ids: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedImages(Batch):
    """Pictures with hidden patches: images (B, 3, H, W), corruption bool (B, N), True where hidden.

    tokens int64 (B, N) are the visual tokens, where they were stored; None has them found on the fly.
    """

    images: Tensor
    corruption: Tensor
    tokens: Tensor | None = None


class Bucket(NamedTuple):
    """Rows of a batch, one after the other, whose texts are padded to the longest of them only.

    Args:
        rows: How many.
        length: Tokens of the longest.
        tokens: Of all of them, padding left out.
    """

    rows: int
    length: int
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedText(Batch):
    """Text with hidden tokens.

    token_ids int64 (B, T) as the model sees them; padding bool (B, T); targets int64 (B, T), IGNORE
    where nothing is to be predicted. buckets say how the rows, in their order, are encoded; without any they
    are encoded all at once.
    """

    token_ids: Tensor
    padding: Tensor
    targets: Tensor
    buckets: tuple[Bucket, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedPairs(Batch):
    """Image-text pairs with hidden patches and hidden tokens; fields as in MaskedImages, MaskedText.

    answers int64 (B,) is the token that answers the text where the text is a question, else IGNORE; None
    where no text is one.
    """

    images: Tensor
    corruption: Tensor
    token_ids: Tensor
    padding: Tensor
    targets: Tensor
    answers: Tensor | None = None
    tokens: Tensor | None = None
    buckets: tuple[Bucket, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedBatch(Batch):
    """The three streams of masked data modelling in one batch (paper, section 2.2)."""

    images: MaskedImages
    texts: MaskedText
    pairs: MaskedPairs


def buckets_of(texts: MaskedText | MaskedPairs) -> tuple[Bucket, ...]:
    """The buckets of a stream, which hold all of its rows; none where the stream is empty."""
    if texts.buckets or len(texts.token_ids) == 0:
        return texts.buckets
    rows, length = texts.token_ids.shape
    return (Bucket(rows, length, rows * length - int(texts.padding.sum())),)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTextBatch(Batch):
    """Matching pairs: images (B, 3, H, W), token_ids and padding (B, T).

    image_ids int64 (B,) says which picture each row is (several texts may share one).
    """

    images: Tensor
    token_ids: Tensor
    padding: Tensor
    image_ids: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class VqaBatch(Batch):
    """Questions about pictures.

    images (B, 3, H, W); token_ids and padding (B, T); answers float (B, num_answers), soft scores in
    [0, 1]; question_types int64 (B,), -1 where the data names none; sample_ids int64 (B,).
    """

    images: Tensor
    token_ids: Tensor
    padding: Tensor
    answers: Tensor
    question_types: Tensor
    sample_ids: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionBatch(Batch):
    """Masked captions: images (B, 3, H, W); token_ids, padding, targets (B, T); image_ids int64 (B,)."""

    images: Tensor
    token_ids: Tensor
    padding: Tensor
    targets: Tensor
    image_ids: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureView(Batch):
    """One way to show pictures to be scored.

    images (B, 3, h, w), resized and padded; inside is (height, width) without the padding at the bottom and
    the right; flipped is True where what lies within was flipped from left to right.
    """

    images: Tensor
    inside: tuple[int, int]
    flipped: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationBatch(Batch):
    """Pictures with class maps.

    images (B, 3, H, W); masks int64 (B, H, W), 255 = ignore; sample_ids int64 (B,). views are what is shown
    of pictures to be scored, the first of them images, and the masks are of the pictures' own size then;
    without any the pictures are shown as they are.
    """

    images: Tensor
    masks: Tensor
    sample_ids: Tensor
    views: tuple[PictureView, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionBatch(Batch):
    """Pictures with objects.

    images float32 (B, 3, H, W) in the range that the weights want, each at the top left of zeros, H and W
    multiples of 32; sizes are (height, width) of each picture without that padding, original_sizes those of
    the pictures as they are stored; sample_ids int64 (B,). targets are the objects to train on, one for each
    picture, in the pixels of images. semantic int64 (B, H, W) are class maps for a semantic branch, 255 =
    ignore and so is the padding, None where nobody asked for them.

    Pictures to be scored have no targets but truths, in the pixels of the stored pictures (panoptic where the
    data is cut into segments), and views are what is shown of them, the first of them images; without any the
    pictures are shown as they are.
    """

    images: Tensor
    sizes: tuple[tuple[int, int], ...]
    original_sizes: tuple[tuple[int, int], ...]
    sample_ids: Tensor
    targets: tuple[Instances, ...] = ()
    semantic: Tensor | None = None
    truths: tuple[ScoredTruth, ...] = ()
    panoptic: tuple[PanopticMap, ...] = ()
    views: tuple[PictureView, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Nlvr2Batch(Batch):
    """Statements about two pictures.

    left and right (B, 3, H, W); token_ids and padding (B, T); labels int64 (B,), 1 where the statement is
    true, else 0; statement_ids int64 (B,), equal for the pairs of one statement; sample_ids int64 (B,).
    """

    left: Tensor
    right: Tensor
    token_ids: Tensor
    padding: Tensor
    labels: Tensor
    statement_ids: Tensor
    sample_ids: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassificationBatch(Batch):
    """Pictures with classes.

    images (B, 3, H, W) in the range that the weights want; labels int64 (B,); sample_ids int64 (B,);
    soft_labels float (B, num_classes), shares of the classes where pictures are mixed (mixup, cutmix), else
    None.
    """

    images: Tensor
    labels: Tensor
    sample_ids: Tensor
    soft_labels: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class JointBatch(Batch):
    """The batch of one of several tasks that learn in turn.

    Args:
        part: The task's name.
        batch: As that task reads it.
    """

    part: str
    batch: Batch
