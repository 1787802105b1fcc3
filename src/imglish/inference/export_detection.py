"""Detectors as graphs of standard operators: one picture to so many boxes, non-maximum suppression included.

The rules are those of `decoding` and of the detectors themselves, in forms whose sizes do not depend on what
is found: the best so many are taken where others would be cut off, and rows that hold nothing fill up what is
missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.decoding.boxes import DenseSelection, cell_factors, decode_cells
from imglish.models.detectors.one_stage import OneStageDetector
from imglish.models.detectors.rpn import RpnOutputs
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.models.vit_adapter.padding import pad_images
from imglish.ops.box_coding import decode_boxes
from imglish.ops.precision import at_least_fp32

_NOTHING = -1.0  # score of a row that holds nothing; scores are never below 0
_NUM_FILLERS = 2  # torch's exporter takes it for granted that suppression leaves two boxes


class FoundRegions(nn.Module):
    """A two-stage detector as a graph.

    Args:
        model: With hard suppression everywhere.
    """

    def __init__(self, model: TwoStageDetector) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, min_score: Tensor) -> tuple[Tensor, ...]:
        """Find objects.

        Args:
            image: (1, 3, H, W), without padding.
            min_score: Scores must be above it, ().

        Returns:
            Boxes (N, 4) in pixels of the image, scores (N,) and labels int64 (N,), N always the most that
            are kept, best first; from the first score that is 0 on rows hold nothing. Where there are mask
            heads, masks (N, M, M) as well: probabilities of the cells of each box.
        """
        size = (image.shape[-2], image.shape[-1])
        model, selection = self.model, self.model.config.selection
        scene = model.scene(pad_images(image))
        proposals, real = self._proposals(model.rpn(scene.pyramid), size)
        (found,) = model.heads.candidates(scene, [proposals], [size])
        num_classes = found.scores.shape[1]
        above = (found.scores > min_score) & real[:, None]
        pairs = above.flatten().nonzero()[:, 0]
        rows, labels = pairs // num_classes, pairs % num_classes
        boxes = found.boxes[:, 0][rows] if found.boxes.shape[1] == 1 else found.boxes[rows, labels]
        kept = _keep(
            boxes, found.scores[rows, labels], labels, selection.nms.max_overlap, selection.max_boxes
        )
        masks = model.mask_probabilities(scene, [kept[0]], [kept[2]])
        return kept if masks is None else (*kept, masks[0])

    def _proposals(self, outputs: RpnOutputs, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """As many boxes (R, 4) as are kept at most, and which of them are real, bool (R,)."""
        config = self.model.rpn.config
        thinning = config.testing
        scores, boxes, levels = [], [], []
        for level, anchors in enumerate(outputs.anchors):
            best, places = _best(outputs.objectness[level][0].sigmoid(), thinning.before_nms)
            scores.append(best)
            boxes.append(decode_boxes(anchors[places], outputs.deltas[level][0][places], size=size))
            levels.append(torch.full_like(places, level))
        found, sure = torch.cat(boxes), torch.cat(scores)
        solid = ((found[:, 2:] - found[:, :2]) > 0).all(dim=1) & (sure >= 0)
        found, sure = torch.where(solid[:, None], found, 0.0), torch.where(solid, sure, _NOTHING)
        kept = _keep(found, sure, torch.cat(levels), config.nms.max_overlap, thinning.kept, clip=False)
        return kept[0], kept[1] >= 0


class FoundCells(nn.Module):
    """ATSS or GFL as a graph.

    Args:
        model: The detector.
        selection: Which boxes are kept, with hard suppression.
    """

    def __init__(self, model: OneStageDetector, selection: DenseSelection) -> None:
        super().__init__()
        self.model, self.selection = model, selection

    def forward(self, image: Tensor, min_score: Tensor) -> tuple[Tensor, ...]:
        """Boxes, scores and labels of an image; see `FoundRegions.forward`.

        ``min_score`` is asked for before ATSS's centerness is counted in, as always.
        """
        size = (image.shape[-2], image.shape[-1])
        predictions = self.model(pad_images(image))
        boxes, scores, labels = [], [], []
        for level, logits in enumerate(predictions.classes):
            num_classes = logits.shape[2]
            best, pairs = _best(at_least_fp32(logits[0]).sigmoid().flatten(), self.selection.before_nms)
            cells, above = pairs // num_classes, best > min_score
            own = decode_cells(predictions, level, 0, cells, size)
            boxes.append(torch.where(above[:, None], own, 0.0))
            scores.append(
                torch.where(above, best * cell_factors(predictions, level, 0, cells), _NOTHING)
            )
            labels.append(pairs % num_classes)
        nms, number = self.selection.nms, self.selection.max_boxes
        return _keep(torch.cat(boxes), torch.cat(scores), torch.cat(labels), nms.max_overlap, number)


def _best(scores: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The highest of scores (n,) and their places; `_NOTHING` at the last place where there are fewer."""
    best = F.pad(scores, (0, number), value=_NOTHING).topk(number)
    return best.values, best.indices.clamp(max=scores.shape[0] - 1)


def _keep(
    boxes: Tensor, scores: Tensor, labels: Tensor, max_overlap: float, number: int, *, clip: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Hard suppression among boxes of the same label, as `ops.nms.classwise_nms` does it.

    Args:
        boxes: (n, 4), not negative; without an area where the score is `_NOTHING`.
        scores: (n,).
        labels: int64 (n,).
        max_overlap: IoU above which the less sure one goes.
        number: How many rows come out.
        clip: True makes scores of rows that hold nothing 0.

    Returns:
        Boxes (number, 4), scores (number,), labels int64 (number,), best first; then rows that hold nothing.
    """
    boxes = torch.cat([boxes, boxes.new_zeros(_NUM_FILLERS, 4)])
    scores = torch.cat([scores, scores.new_full((_NUM_FILLERS,), _NOTHING)])
    labels = torch.cat([labels, labels.new_zeros(_NUM_FILLERS)])
    apart = labels[:, None].to(boxes.dtype) * (boxes.max() + 1)
    kept = torchvision.ops.nms(boxes + apart, scores, max_overlap)
    filler = torch.full_like(kept[:1], boxes.shape[0] - 1).expand(number)
    rows = torch.cat([kept, filler]).narrow(0, 0, number)
    chosen = scores[rows]
    return boxes[rows], chosen.clamp(min=0) if clip else chosen, labels[rows]
