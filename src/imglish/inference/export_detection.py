"""Detectors as graphs of standard operators: one picture to so many boxes, non-maximum suppression included.

The rules are those of the detectors themselves, in the forms of `decoding.fixed_number`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from imglish.decoding.boxes import DenseSelection, cell_factors, decode_cells
from imglish.decoding.fixed_number import NOTHING, best_fixed, fixed_proposals, keep_fixed
from imglish.errors import CheckpointError, ConfigError
from imglish.hub.run import LoadedRun
from imglish.inference.detection import dense_selection
from imglish.models.detectors.one_stage import OneStageDetector
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.models.vit_adapter.padding import pad_images

_EDGE_SHARE = 0.02  # of boxes that a rounding may bring over a limit: of overlap, or of a number
_ENOUGH = 20  # boxes that make a comparison tell something
_LEAST_SCORE = 1e-6


class FoundRegions(nn.Module):
    """A two-stage detector as a graph.

    Args:
        model: The detector.

    Raises:
        ConfigError: It suppresses softly, which is no graph.
    """

    def __init__(self, model: TwoStageDetector) -> None:
        super().__init__()
        _check_hard(model.config.rpn.nms.kind)
        _check_hard(model.config.selection.nms.kind)
        self.model, self.min_score = model, model.config.selection.min_score
        self.outputs: tuple[str, ...] = ("boxes", "scores", "labels")
        if model.config.mask_head is not None:
            self.outputs += ("masks",)

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
        outputs, rpn = model.rpn(scene.pyramid), model.config.rpn
        proposals, real = fixed_proposals(
            [own[0] for own in outputs.objectness],
            [own[0] for own in outputs.deltas],
            outputs.anchors,
            size,
            before_nms=rpn.testing.before_nms,
            kept=rpn.testing.kept,
            max_overlap=rpn.nms.max_overlap,
        )
        (found,) = model.heads.candidates(scene, [proposals], [size])
        num_classes = found.scores.shape[1]
        above = (found.scores > min_score) & real[:, None]
        pairs = above.flatten().nonzero()[:, 0]
        rows, labels = pairs // num_classes, pairs % num_classes
        boxes = found.boxes[:, 0][rows] if found.boxes.shape[1] == 1 else found.boxes[rows, labels]
        boxes, scores, labels = keep_fixed(
            boxes, found.scores[rows, labels], labels, selection.nms.max_overlap, selection.max_boxes
        )
        masks = model.mask_probabilities(scene, [boxes], [labels]) or []
        return boxes, scores.clamp(min=0), labels, *masks


class FoundCells(nn.Module):
    """ATSS or GFL as a graph.

    Args:
        model: The detector.
        selection: Which boxes are kept.

    Raises:
        ConfigError: Suppression is soft, which is no graph.
    """

    outputs: tuple[str, ...] = ("boxes", "scores", "labels")

    def __init__(self, model: OneStageDetector, selection: DenseSelection) -> None:
        super().__init__()
        _check_hard(selection.nms.kind)
        self.model, self.selection, self.min_score = model, selection, selection.min_score

    def forward(self, image: Tensor, min_score: Tensor) -> tuple[Tensor, ...]:
        """Boxes, scores and labels of an image; see `FoundRegions.forward`.

        ``min_score`` is asked for before ATSS's centerness is counted in, as always.
        """
        size = (image.shape[-2], image.shape[-1])
        predictions = self.model(pad_images(image))
        boxes, scores, labels = [], [], []
        for level, logits in enumerate(predictions.classes):
            num_classes = logits.shape[2]
            best, pairs = best_fixed(logits[0].sigmoid().flatten(), self.selection.before_nms)
            cells, above = pairs // num_classes, best > min_score
            own = decode_cells(predictions, level, 0, cells, size)
            boxes.append(torch.where(above[:, None], own, 0.0))
            scores.append(torch.where(above, best * cell_factors(predictions, level, 0, cells), NOTHING))
            labels.append(pairs % num_classes)
        found, sure, named = keep_fixed(
            torch.cat(boxes),
            torch.cat(scores),
            torch.cat(labels),
            self.selection.nms.max_overlap,
            self.selection.max_boxes,
        )
        return found, sure.clamp(min=0), named


def detector_graph(run: LoadedRun) -> FoundRegions | FoundCells:
    """The graph of a loaded detector.

    Raises:
        CheckpointError: It is of a kind that cannot be exported.
        ConfigError: It suppresses softly, which is no graph.
    """
    match run.model:
        case TwoStageDetector() as model:
            return FoundRegions(model)
        case OneStageDetector() as model:
            return FoundCells(model, dense_selection(run))
    raise CheckpointError(
        f"a {type(run.model).__name__} of objects; expected Mask R-CNN, Cascade Mask R-CNN, ATSS or GFL: no "
        "other detector can be exported"
    )


@torch.no_grad()
def telling_score(graph: FoundRegions | FoundCells, image: Tensor) -> Tensor:
    """The detector's own least score, or a lower one where it finds but a few boxes in an image.

    Args:
        graph: Of the detector.
        image: (1, 3, H, W); of noise a trained detector is sure of nothing.
    """
    score = graph.min_score
    while score > _LEAST_SCORE and int((graph(image, torch.tensor(score))[1] > 0).sum()) < _ENOUGH:
        score /= 4
    return torch.tensor(score)


def unlikeness(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], size: tuple[int, int]) -> float:
    """How much one answer of a detector differs from another.

    Each expected box has the nearest of its label as its partner, as the order of equal scores is chance.

    Args:
        found: What `FoundRegions` or `FoundCells` gives.
        expected: The same.
        size: (height, width) of the image.

    Returns:
        The largest difference of partners: in place as a share of the image's longer side, in score and in
        masks; infinite where a label or a number is wrong. One box in fifty may be there or not.
    """
    real = expected[1] > 0
    number, other = int(real.sum()), int((found[1] > 0).sum())
    allowed = int(_EDGE_SHARE * number)
    if abs(number - other) > allowed or number == 0:
        return 0.0 if number == other else math.inf
    boxes, scores, labels, *masks = (x[real] for x in expected)
    apart = (boxes[:, None] - found[0]).abs().amax(dim=2) / max(size)
    apart = apart.maximum((scores[:, None] - found[1]).abs())
    apart = apart.where(labels[:, None] == found[2], math.inf)
    nearest, partners = apart.min(dim=1)
    for mask in masks:
        nearest = nearest.maximum((mask - found[3][partners]).abs().amax(dim=(1, 2)))
    return float(nearest.sort().values[number - 1 - allowed])


def _check_hard(kind: str) -> None:
    if kind != "hard":
        raise ConfigError(
            f"its non-maximum suppression is {kind}; expected hard, which is all that can be exported"
        )
