"""ViT-Adapter-S and -B on a CPU, whole backbones: ours beside the official way of computing the same.

    python benchmarks/vit_adapter_cpu.py [--threads 1 2] [--rounds 7] [--sizes small base] [--profile]

One picture of 512 x 512, float32, evaluation mode, no gradients, the same weights. The official computation
is written here anew, step by step as the official segmentation code takes it: maps with their channels first,
a product each for offsets and for weights of points, a ``grid_sample`` per level on (B x heads, C, H, W) with
stacked outputs, softmax attention by explicit products, a depth-wise convolution on copied maps, batch norms
and rectifiers by themselves, and a transposed convolution. ``official, SDPA`` differs from it in the ViT's
attention alone, which torch's fused one computes: what the 2022 code would gain on a current torch.

The three take turns in one process after a round that does not count. Times are medians, of the processor
(work beside this has no share in it) and of the clock. Outputs are compared first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.vit.block import Block
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.interaction import ConvFeedForward, Extractor, Injector, Interaction
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.models.vit_adapter.presets import Size, vit, vit_adapter
from imglish.nn.deformable_attention import DeformableAttention
from imglish.ops.deformable_attention import LevelSizes

PIXELS = 512
TOLERANCE = 1e-4  # relative to the largest number of a map


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def normalise(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def batch_norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    assert layer.running_mean is not None
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)


def convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, groups=layer.groups)


def official_samples(values: Tensor, sizes: LevelSizes, locations: Tensor, weights: Tensor) -> Tensor:
    """The sampling of the code without its compiled operator: (B, N, heads, C) to (B, Q, heads x C)."""
    batch, _, heads, channels = values.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    grids = 2 * locations - 1
    samples = []
    for level, part in enumerate(values.split([h * w for h, w in sizes], dim=1)):
        maps = part.flatten(2).transpose(1, 2).reshape(batch * heads, channels, *sizes[level])
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        samples.append(sampled)
    shares = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    summed = (torch.stack(samples, dim=-2).flatten(-2) * shares).sum(-1)
    return summed.view(batch, heads * channels, queries).transpose(1, 2).contiguous()


def official_deformable(
    module: DeformableAttention, query: Tensor, places: Tensor, x: Tensor, sizes: LevelSizes
) -> Tensor:
    batch, queries, _ = query.shape
    heads, levels, points = module.num_heads, module.num_levels, module.num_points
    values = linear(module.value_proj, x).view(batch, x.shape[1], heads, -1)
    offsets = linear(module.sampling_offsets, query).view(batch, queries, heads, levels, points, 2)
    weights = linear(module.attention_weights, query).view(batch, queries, heads, levels * points)
    weights = F.softmax(weights, -1).view(batch, queries, heads, levels, points)
    scale = torch.tensor([[w, h] for h, w in sizes], dtype=query.dtype)
    locations = places[None, :, None, None, None, :] + offsets / scale[None, None, None, :, None, :]
    return linear(module.output_proj, official_samples(values, sizes, locations, weights))


def official_injector(
    module: Injector, x: Tensor, places: Tensor, spatial: Tensor, sizes: LevelSizes
) -> Tensor:
    query, values = normalise(module.query_norm, x), normalise(module.feature_norm, spatial)
    assert isinstance(module.attention, DeformableAttention)
    return x + module.gamma * official_deformable(module.attention, query, places, values, sizes)


def official_feed_forward(module: ConvFeedForward, x: Tensor, sizes: LevelSizes) -> Tensor:
    x = linear(module.fc1, x)
    parts = []
    for part, (height, width) in zip(x.split([h * w for h, w in sizes], dim=1), sizes, strict=True):
        maps = part.transpose(1, 2).view(len(x), -1, height, width).contiguous()
        parts.append(convolve(module.depthwise, maps).flatten(2).transpose(1, 2))
    return linear(module.fc2, F.gelu(torch.cat(parts, dim=1)))


def official_extractor(
    module: Extractor, spatial: Tensor, places: Tensor, x: Tensor, grid: tuple[int, int], sizes: LevelSizes
) -> Tensor:
    query, values = normalise(module.query_norm, spatial), normalise(module.feature_norm, x)
    assert isinstance(module.attention, DeformableAttention) and module.feed_forward is not None
    spatial = spatial + official_deformable(module.attention, query, places, values, (grid,))
    hidden = normalise(module.feed_forward_norm, spatial)
    return spatial + official_feed_forward(module.feed_forward, hidden, sizes)


def official_block(block: Block, x: Tensor, fused: bool) -> Tensor:
    attention, forward = block.attention, block.feed_forward
    assert block.scale1 is not None and block.scale2 is not None
    batch, tokens, width = x.shape
    qkv = linear(attention.qkv, normalise(block.norm1, x)).reshape(batch, tokens, 3, attention.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    if fused:
        y = F.scaled_dot_product_attention(query, key, value)
    else:
        y = ((query @ key.transpose(-2, -1)) * query.shape[-1] ** -0.5).softmax(dim=-1) @ value
    y = linear(attention.output, y.transpose(1, 2).reshape(batch, tokens, width))
    x = x + block.scale1 * y
    y = linear(forward.fc2, F.gelu(linear(forward.fc1, normalise(block.norm2, x))))
    return x + block.scale2 * y


def official_embedding(backbone: ViT, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    assert isinstance(backbone.patches.proj, nn.Conv2d) and backbone.positions is not None
    patches = convolve(backbone.patches.proj, images)
    grid = (patches.shape[2], patches.shape[3])
    own = backbone.positions[:, 1:].reshape(1, *backbone.config.grid_size, -1).permute(0, 3, 1, 2)
    positions = F.interpolate(own, size=grid, mode="bicubic", align_corners=False)
    return patches.flatten(2).transpose(1, 2) + positions.flatten(2).transpose(1, 2), grid


def official_prior(model: ViTAdapter, images: Tensor) -> list[Tensor]:
    def run(layers: nn.Sequential, x: Tensor) -> Tensor:
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                x = convolve(layer, x)
            elif isinstance(layer, nn.BatchNorm2d):
                x = batch_norm(layer, x)
            elif isinstance(layer, nn.ReLU):
                x = F.relu_(x)
            else:
                x = F.max_pool2d(x, 3, 2, 1)
        return x

    prior = model.spatial_prior
    c1 = run(prior.stem, images)
    c2 = run(prior.conv2, c1)
    c3 = run(prior.conv3, c2)
    c4 = run(prior.conv4, c3)
    layers = (prior.fc1, prior.fc2, prior.fc3, prior.fc4)
    return [convolve(layer, c) for layer, c in zip(layers, (c1, c2, c3, c4), strict=True)]


def pixel_centres(sizes: LevelSizes) -> Tensor:
    parts = []
    for height, width in sizes:
        y, x = torch.meshgrid(
            torch.linspace(0.5, height - 0.5, height) / height,
            torch.linspace(0.5, width - 0.5, width) / width,
            indexing="ij",
        )
        parts.append(torch.stack((x.reshape(-1), y.reshape(-1)), dim=-1))
    return torch.cat(parts)


def official_backbone(model: ViTAdapter, images: Tensor, *, fused: bool = False) -> list[Tensor]:
    """Maps of strides 4, 8, 16, 32 the official way; ``fused`` has torch's attention in the ViT."""
    backbone, up = model.backbone, model.up
    assert isinstance(backbone, ViT) and model.level_embedding is not None and up is not None
    height, width = images.shape[-2:]
    sizes = tuple((height // stride, width // stride) for stride in (8, 16, 32))
    c1, *levels = official_prior(model, images)
    levels = [c.flatten(2).transpose(1, 2) + e for c, e in zip(levels, model.level_embedding, strict=True)]
    spatial = torch.cat(levels, dim=1)
    x, grid = official_embedding(backbone, images)
    places, grid_places = pixel_centres(sizes), pixel_centres((grid,))
    features = []
    for interaction, (start, stop) in zip(model.interactions, model.groups, strict=True):
        assert isinstance(interaction, Interaction) and interaction.injector is not None
        x = official_injector(interaction.injector, x, grid_places, spatial, sizes)
        for block in backbone.blocks[start:stop]:
            assert isinstance(block, Block)
            x = official_block(block, x, fused)
        for extractor in interaction.extractors:
            assert isinstance(extractor, Extractor)
            spatial = official_extractor(extractor, spatial, places, x, grid, sizes)
        features.append(x.transpose(1, 2).view(len(x), -1, *grid).contiguous())
    parts = spatial.split([h * w for h, w in sizes], dim=1)
    maps = [
        part.transpose(1, 2).view(len(x), -1, h, w).contiguous()
        for part, (h, w) in zip(parts, sizes, strict=True)
    ]
    maps = [F.conv_transpose2d(maps[0], up.weight, up.bias, stride=2) + c1, *maps]
    outputs = []
    for c, own, scale, norm in zip(maps, features, (4, 2, 1, 0.5), model.norms, strict=True):
        if scale != 1:
            own = F.interpolate(own, scale_factor=scale, mode="bilinear", align_corners=False)
        assert isinstance(norm, nn.BatchNorm2d)
        outputs.append(batch_norm(norm, c + own))
    return outputs


def adapter(size: Size) -> ViTAdapter:
    """The official S or B of the segmentation tree, with weights none of which hides another."""
    torch.manual_seed(0)
    model = ViTAdapter(ViT(vit(size)), vit_adapter(size, "segmentation")).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, DeformableAttention):
            nn.init.normal_(module.sampling_offsets.weight, std=0.05)  # a pixel or so
            nn.init.normal_(module.attention_weights.weight, std=0.05)
        elif isinstance(module, Injector):
            nn.init.uniform_(module.gamma, 0.1, 0.5)
    return model


def largest_difference(ours: list[Tensor], expected: list[Tensor]) -> float:
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(ours, expected, strict=True))


def medians(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds of the processor and of the clock; runs take turns, after one that does not count."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for index in range(rounds + 1):
        for name, run in runs.items():
            cpu, clock = time.process_time(), time.perf_counter()
            run()
            if index:
                taken[name].append((time.process_time() - cpu, time.perf_counter() - clock))
    return {
        name: (statistics.median(t[0] for t in times), statistics.median(t[1] for t in times))
        for name, times in taken.items()
    }


def compare(size: Size, rounds: int) -> None:
    model, images = adapter(size), torch.randn(1, 3, PIXELS, PIXELS)
    runs: dict[str, Callable[[], list[Tensor]]] = {
        "official": lambda: official_backbone(model, images),
        "official, SDPA": lambda: official_backbone(model, images, fused=True),
        "ours": lambda: list(model(images).maps.values()),
    }
    expected = runs["official"]()
    differences = {name: largest_difference(run(), expected) for name, run in runs.items()}
    assert max(differences.values()) < TOLERANCE, differences
    a, b = torch.randn(2, 2048, 2048)
    found = medians({"product": lambda: torch.mm(a, b), **runs}, rounds)
    cpu, clock = found.pop("product")
    rate = 2 * len(a) ** 3 / 1e9
    print(f"ViT-Adapter, {size}: torch.mm does {rate / cpu:.0f} / {rate / clock:.0f} GFLOP/s", flush=True)
    for name, (cpu, clock) in found.items():
        print(
            f"  {name:15} {cpu * 1e3:5.0f} / {clock * 1e3:5.0f} ms, {cpu / found['ours'][0]:.2f} / "
            f"{clock / found['ours'][1]:.2f} times ours, differs by {differences[name]:.0e}",
            flush=True,
        )


def profile(size: Size) -> None:
    """Where the time of ours goes, by operator."""
    model, images = adapter(size), torch.randn(1, 3, PIXELS, PIXELS)
    model(images)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        model(images)
    print(record.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", nargs="+", choices=("small", "base"), default=["small", "base"])
    parser.add_argument("--profile", action="store_true", help="show where our time goes instead")
    arguments = parser.parse_args()
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        print(f"{threads} thread{'s' if threads > 1 else ''}; times of the processor / of the clock")
        with torch.inference_mode():
            for size in arguments.sizes:
                if arguments.profile:
                    profile(size)
                else:
                    compare(size, arguments.rounds)


if __name__ == "__main__":
    main()
