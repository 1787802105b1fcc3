from __future__ import annotations

import torch
from torch import Tensor, nn

from imglish.models.dense_heads.mask_decoder import MaskDecoder, MaskDecoderLayer, QueryAttention
from imglish.structures.pyramid import FeaturePyramid

WIDTH = 16


def decoder(num_layers: int = 4) -> MaskDecoder:
    torch.manual_seed(0)
    return MaskDecoder(
        width=WIDTH, num_classes=3, num_queries=5, num_layers=num_layers, num_heads=4, feed_forward_width=24
    ).eval()


def inputs() -> tuple[Tensor, FeaturePyramid]:
    g = torch.Generator().manual_seed(1)
    levels = {s: torch.randn(2, WIDTH, 64 // s, 96 // s, generator=g) for s in (8, 16, 32)}
    return torch.randn(2, WIDTH, 16, 24, generator=g), FeaturePyramid(levels)


def test_there_is_a_prediction_before_the_first_layer_and_after_each() -> None:
    predictions = decoder()(*inputs())
    assert [(p.classes.shape, p.masks.shape) for p in predictions] == [((2, 5, 4), (2, 5, 16, 24))] * 5
    first = predictions[0].classes
    assert torch.equal(first[0], first[1])  # the queries have seen no picture yet


def test_layers_read_the_levels_in_turn_from_coarse_to_fine() -> None:
    module, (features, levels) = decoder(), inputs()
    before = module(features, levels)
    for stride, layer in ((32, 1), (16, 2), (8, 3)):  # the first prediction that can know of the level
        after = module(features, FeaturePyramid({**levels.maps, stride: levels[stride] + 1}))
        same = [torch.equal(a.classes, b.classes) for a, b in zip(before, after, strict=True)]
        assert same == [index < layer for index in range(5)], stride


def test_attention_equals_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = QueryAttention(WIDTH, 4), nn.MultiheadAttention(WIDTH, 4, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.projection.weight, "in_proj_bias": ours.projection.bias,
            "out_proj.weight": ours.output.weight, "out_proj.bias": ours.output.bias,
        }
    )  # fmt: skip
    query, key, value = torch.randn(2, 5, WIDTH), torch.randn(2, 7, WIDTH), torch.randn(2, 7, WIDTH)
    visible = torch.rand(2, 5, 7) > 0.4
    visible[..., 0] = True
    expected, _ = theirs(query, key, value, attn_mask=~visible.repeat_interleave(4, 0))
    torch.testing.assert_close(ours(query, key, value, visible), expected, rtol=1e-4, atol=1e-5)


def test_a_query_looks_inside_its_mask_only_and_everywhere_where_that_is_empty() -> None:
    module, (features, levels) = decoder(1), inputs()
    looked: list[Tensor] = []
    layer = module.layers[0]
    hook = layer.register_forward_pre_hook(lambda part, given: looked.append(given[4]))
    with torch.no_grad():  # masks that say: the left third; nowhere
        for linear in (module.mask_embedding[0], module.mask_embedding[2]):
            nn.init.zeros_(linear.weight)  # type: ignore[arg-type]
        nn.init.zeros_(module.mask_embedding[4].weight)  # type: ignore[arg-type]
        module.mask_embedding[4].bias.copy_(torch.eye(WIDTH)[0])  # type: ignore[operator, union-attr]
        features[:, 0] = -1.0
        features[0, 0, :, :8] = 1.0
        module(features, levels)
    hook.remove()
    visible = looked[0].view(2, 5, 2, 3)
    assert visible[0, :, :, 0].all() and not visible[0, :, :, 1:].any()
    assert visible[1].all()


def test_what_is_hidden_does_not_matter() -> None:
    layer = MaskDecoderLayer(width=WIDTH, num_heads=4, feed_forward_width=24)
    x, cells, positions = torch.randn(1, 2, WIDTH), torch.randn(1, 3, WIDTH), torch.zeros(1, 3, WIDTH)
    visible = torch.tensor([[[True, True, False]]]).expand(1, 2, 3)
    changed = cells.clone()
    changed[:, 2] += 5
    places = torch.randn(2, WIDTH)
    torch.testing.assert_close(
        layer(x, places, cells, positions, visible), layer(x, places, changed, positions, visible)
    )


def test_every_weight_learns() -> None:
    module = decoder()
    g = torch.Generator().manual_seed(2)
    outputs = [x for prediction in module(*inputs()) for x in prediction]
    torch.stack([(x * torch.randn(x.shape, generator=g)).sum() for x in outputs]).sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []
