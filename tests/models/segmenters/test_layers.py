from __future__ import annotations

import pytest

from imglish.models.segmenters.layers import layer_of


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("backbone.backbone.patches.proj.weight", 0),
        ("backbone.backbone.positions", 0),
        ("backbone.backbone.blocks.2.norm1.weight", 3),
        ("backbone.backbone.encoder.vision_embedding.patches.proj.weight", 0),
        ("backbone.backbone.encoder.blocks.2.norm1.vision.weight", 3),
        ("backbone.interactions.0.injector.scale", 5),
        ("neck.mask_features.weight", 5),
        ("head.output_norm.weight", 5),
        ("head.classifier.weight", 0),
    ],
)
def test_layers_count_the_blocks_of_the_vit(name: str, layer: int) -> None:
    assert layer_of(name, 4, masks=True) == layer


def test_only_mask2former_has_parts_of_its_head_among_the_embeddings() -> None:
    assert layer_of("head.classifier.weight", 4, masks=False) == 5


def test_a_block_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="is no parameter of a ViT of 4 blocks"):
        layer_of("backbone.backbone.blocks.4.norm1.weight", 4, masks=False)
