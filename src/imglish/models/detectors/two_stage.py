"""Detectors that propose regions and then look at each: Mask R-CNN, Cascade Mask R-CNN, HTC++."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from imglish.models.detectors.cascade import CascadeHeads, Scene
from imglish.models.detectors.config import TwoStageConfig
from imglish.models.detectors.objects import objects_of
from imglish.models.detectors.rpn import RegionProposals
from imglish.ops.box_sampling import DrawOrder, random_order
from imglish.ops.box_selection import select
from imglish.structures.instances import Instances
from imglish.structures.pyramid import FeaturePyramid
from imglish.structures.two_stage import Candidates, RawDetections, TwoStagePredictions


class TwoStageDetector(nn.Module):
    """Pictures to objects; in training to everything that `losses.two_stage` needs.

    Args:
        backbone: Maps pictures to a `FeaturePyramid`.
        neck: Maps that to the pyramid of the heads.
        rpn: Proposes regions.
        heads: Look at them.
        config: Settings.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        rpn: RegionProposals,
        heads: CascadeHeads,
        config: TwoStageConfig,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.rpn, self.heads, self.config = backbone, neck, rpn, heads, config

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Instances] | None = None,
        *,
        draw: DrawOrder | None = None,
    ) -> TwoStagePredictions | tuple[RawDetections, ...]:
        """Find objects, or predict for training.

        Args:
            images: (B, 3, H, W), each picture at the top left of its padding.
            sizes: (height, width) of each picture without padding.
            targets: Its objects, with masks as large as ``images`` where the detector has mask heads; given
                in training.
            draw: Random orders of boxes to train on; None draws from torch's generator of the device.

        Returns:
            Without targets what was found in each picture, in pixels of ``images``.

        Raises:
            ValueError: The detector has mask heads, but the targets no masks.
        """
        scene = self.scene(images)
        if targets is None:
            return self.find(scene, sizes)
        draw = draw or random_order(images.device)
        objects = [objects_of(one) for one in targets]
        outputs = self.rpn(scene.pyramid)
        sample = self.rpn.sample(outputs, sizes, objects, draw)
        proposals = self.rpn.propose(outputs, sizes, self.config.rpn.training)
        boxes, masks = self.heads.training_stages(scene, proposals, objects, sizes, draw)
        return TwoStagePredictions(sample, boxes, masks, scene.semantic_logits)

    def scene(self, images: Tensor) -> Scene:
        """What the heads read of pictures (B, 3, H, W)."""
        return self.read(self.backbone(images))

    def read(self, pyramid: FeaturePyramid) -> Scene:
        """`scene` of pictures whose maps the backbone has made before."""
        return self.heads.scene(self.neck(pyramid))

    def candidates(self, scene: Scene, sizes: Sequence[tuple[int, int]]) -> list[Candidates]:
        """Boxes of each picture with scores of all classes, before suppression."""
        proposals = self.rpn.propose(self.rpn(scene.pyramid), sizes, self.config.rpn.testing)
        return self.heads.candidates(scene, proposals, sizes)

    def mask_probabilities(
        self, scene: Scene, boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> list[Tensor] | None:
        """Masks (N, M, M) in [0, 1] of given boxes (N, 4) of given classes; None without mask heads."""
        if self.config.mask_head is None:
            return None
        return self.heads.mask_probabilities(scene, boxes, labels)

    def find(self, scene: Scene, sizes: Sequence[tuple[int, int]]) -> tuple[RawDetections, ...]:
        """What is there in pictures of these sizes, in pixels of the pictures; see `forward`."""
        selection = self.config.selection
        kept = [select(one, selection) for one in self.candidates(scene, sizes)]
        masks = self.mask_probabilities(scene, [one.boxes for one in kept], [one.labels for one in kept])
        return tuple(
            RawDetections(one.boxes, one.scores, one.labels, None if masks is None else masks[i])
            for i, one in enumerate(kept)
        )
