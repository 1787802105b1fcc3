from __future__ import annotations

import torch

from imglish.models.necks.pixel_decoder import PixelDecoder
from imglish.nn.conv_norm import ConvNorm
from imglish.structures.pyramid import FeaturePyramid


def decoder() -> PixelDecoder:
    torch.manual_seed(0)
    return PixelDecoder(
        (6,) * 4, width=16, num_layers=2, num_heads=4, num_points=2, feed_forward_width=24, num_groups=4
    ).eval()


def pyramid() -> FeaturePyramid:
    g = torch.Generator().manual_seed(1)
    return FeaturePyramid({s: torch.randn(2, 6, 64 // s, 96 // s, generator=g) for s in (4, 8, 16, 32)})


def test_masks_get_features_at_stride_4_and_the_other_levels_come_back() -> None:
    features, levels = decoder()(pyramid())
    assert features.shape == (2, 16, 16, 24)
    assert levels.sizes() == {8: (8, 12), 16: (4, 6), 32: (2, 3)}


def test_all_levels_but_the_finest_see_each_other() -> None:
    module, given = decoder(), pyramid()
    features, levels = module(given)
    for stride in (8, 16, 32):
        moved_features, moved = module(FeaturePyramid({**given.maps, stride: given[stride].flip(2)}))
        assert all((moved[s] - levels[s]).abs().max() > 1e-3 for s in levels.strides), stride
        assert (moved_features - features).abs().max() > 1e-4
    moved_features, moved = module(FeaturePyramid({**given.maps, 4: given[4].flip(2)}))
    assert all(torch.equal(moved[s], levels[s]) for s in levels.strides)
    assert (moved_features - features).abs().max() > 1e-2


def test_the_convolutions_of_the_finest_level_start_by_what_they_read() -> None:
    """mmdetection: Caffe2's start there, of ``sqrt(3 / read)`` at most, and Xavier's on the other levels."""
    torch.manual_seed(0)
    module = PixelDecoder((64,) * 4, width=16, num_layers=1, num_heads=4, num_groups=4)
    level = module.inputs[0]
    assert isinstance(level, ConvNorm)
    read, made = 64, 16
    for conv, bound in (
        (module.lateral.conv, (3 / read) ** 0.5),
        (module.output.conv, (3 / (9 * made)) ** 0.5),
        (module.mask_features, (3 / made) ** 0.5),
        (level.conv, (6 / (read + made)) ** 0.5),
    ):
        largest = float(conv.weight.detach().abs().max())
        assert 0.95 * bound < largest <= bound


def test_pictures_of_a_batch_do_not_mix() -> None:
    module, given = decoder(), pyramid()
    features, levels = module(given)
    alone, alone_levels = module(FeaturePyramid({s: x[1:] for s, x in given.maps.items()}))
    torch.testing.assert_close(alone, features[1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone_levels[8], levels[8][1:], rtol=1e-4, atol=1e-5)


def test_every_weight_learns() -> None:
    module = decoder()
    with torch.no_grad():  # at first points and their weights do not depend on the query, nor on its place
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    features, levels = module(pyramid())
    outputs = [features, *levels.maps.values()]
    g = torch.Generator().manual_seed(2)
    torch.stack([(x * torch.randn(x.shape, generator=g)).sum() for x in outputs]).sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []
