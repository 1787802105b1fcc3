"""What deformable attention costs, in our forms and in the official one.

    python benchmarks/deformable_attention.py [--threads 2] [--rounds 5] [--backward] [--skip-backbones]

On a CPU: the operation alone at the shapes of ViT-Adapter-S and -B for one 512 x 512 picture, and the whole
backbones. The official form (a ``grid_sample`` per level on (B x heads, C, H, W), samples of all levels
stacked, then weighed and added) is written here anew and takes turns with ours. Times are medians of the
rounds, of the processor (work beside this has no share in it) and of the clock.

On a GPU: the Triton form beside the reference and the official form at the shapes of ViT-Adapter-L, 512 and
896 pixels, bfloat16, and the bytes that must at least be moved against what the device copies in that time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

import imglish.nn.deformable_attention as attention_module
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.models.vit_adapter.presets import vit, vit_adapter
from imglish.ops.deformable_attention import LevelSizes, deformable_attention

HEADS = {"small": (6, 64), "base": (12, 32), "large": (16, 32)}  # heads, channels of a head
POINTS = 4


def official_form(
    values: Tensor, level_sizes: LevelSizes, locations: Tensor, weights: Tensor, *, form: str = "official"
) -> Tensor:
    """The official computation without its compiled operator, in our layout of arguments."""
    batch, queries, heads, levels, points, _ = locations.shape
    grids = (2 * locations - 1).to(values.dtype)
    samples = []
    for level, part in enumerate(values.split([h * w for h, w in level_sizes], dim=1)):
        maps = part.flatten(2).transpose(1, 2).reshape(batch * heads, -1, *level_sizes[level])
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        samples.append(sampled)
    shares = weights.to(values.dtype).transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    summed = (torch.stack(samples, dim=-2).flatten(-2) * shares).sum(-1)
    return summed.view(batch, -1, queries).transpose(1, 2).contiguous()


@contextmanager
def official_attention():  # type: ignore[no-untyped-def]
    """Modules compute deformable attention the official way."""
    own = attention_module.deformable_attention
    attention_module.deformable_attention = official_form  # type: ignore[assignment]
    try:
        yield
    finally:
        attention_module.deformable_attention = own


def shapes(pixels: int) -> dict[str, tuple[LevelSizes, int]]:
    """Levels of the values and number of queries, of an injector and of an extractor."""
    sides = [pixels // stride for stride in (8, 16, 32)]
    grid = (sides[1], sides[1])
    return {
        "injector": (tuple((side, side) for side in sides), sides[1] ** 2),
        "extractor": ((grid,), sum(side * side for side in sides)),
    }


def inputs(size: str, sizes: LevelSizes, queries: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    """Places spread over the picture; each head looks a few pixels around, as a trained one does."""
    heads, channels = HEADS[size]
    torch.manual_seed(0)
    samples = (1, queries, heads, len(sizes), POINTS)
    values = torch.randn(1, sum(h * w for h, w in sizes), heads, channels)
    # Queries follow the picture, row by row.
    places = torch.stack([torch.arange(queries) % 97 / 97, torch.arange(queries) / queries], dim=-1)
    locations = places[None, :, None, None, None] + 0.03 * torch.randn(*samples, 2)
    weights = torch.randn(samples).flatten(3).softmax(-1).view(samples)
    return [values.to(device, dtype), locations.to(device), weights.to(device)]


def step(attend: Callable[..., Tensor], tensors: list[Tensor], sizes: LevelSizes, backward: bool) -> None:
    with torch.set_grad_enabled(backward):
        leaves = [x.detach().requires_grad_(backward) for x in tensors]
        output = attend(leaves[0], sizes, leaves[1], leaves[2])
        if backward:
            output.backward(torch.ones_like(output))


def medians(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, tuple[float, float]]:
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


def report(title: str, found: dict[str, tuple[float, float]], own: str) -> None:
    line = ", ".join(f"{name} {cpu * 1e3:.1f} / {clock * 1e3:.1f} ms" for name, (cpu, clock) in found.items())
    ratio = found["official"][0] / found[own][0], found["official"][1] / found[own][1]
    print(f"{title:34} {line}; official / {own} {ratio[0]:.2f} / {ratio[1]:.2f}", flush=True)


def on_cpu(rounds: int, backward: bool, backbones: bool) -> None:
    a, b = torch.randn(2, 2048, 2048)
    cpu, clock = medians({"product": lambda: torch.mm(a, a, out=b)}, rounds)["product"]
    flops = 2 * len(a) ** 3
    print(f"GFLOP of matrix products a second: {flops / cpu / 1e9:.0f} / {flops / clock / 1e9:.0f}")
    print("milliseconds of the processor / of the clock")
    for size in ("small", "base"):
        for part, (sizes, queries) in shapes(512).items():
            tensors = inputs(size, sizes, queries, "cpu", torch.float32)
            forms: dict[str, Callable[..., Tensor]] = {
                "official": official_form,
                "reference": lambda *a: deformable_attention(*a, form="reference"),
                "gather": lambda *a: deformable_attention(*a, form="gather"),
            }
            runs = {n: (lambda f=f, t=tensors, s=sizes: step(f, t, s, backward)) for n, f in forms.items()}
            report(f"{size}, {part}", medians(runs, rounds), "gather")
    for size in ("small", "base") if backbones else ():
        torch.manual_seed(0)
        config = vit_adapter(size, "segmentation")
        model = ViTAdapter(ViT(vit(size)), config).train(backward)
        images = torch.randn(1, 3, 512, 512)

        def run(model: ViTAdapter = model, images: Tensor = images) -> None:
            with torch.set_grad_enabled(backward):
                maps = model(images)
                if backward:
                    sum(x.mean() for x in maps.maps.values()).backward()

        def run_official(run: Callable[[], None] = run) -> None:
            with official_attention():
                run()

        found = medians({"official": run_official, "gather": run}, rounds)
        report(f"ViT-Adapter, {size}, 512 x 512", found, "gather")


def on_gpu(rounds: int) -> None:
    gigabyte = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    rate = 2 * gigabyte.numel() / gpu_seconds(gigabyte.clone, rounds)
    print(f"{torch.cuda.get_device_name()}: copies at {rate / 1e12:.2f} TB/s")
    for pixels in (512, 896):
        for part, (sizes, queries) in shapes(pixels).items():
            tensors = inputs("large", sizes, queries, "cuda", torch.bfloat16)
            for backward in (False, True):
                found = {
                    name: gpu_seconds(lambda f=f, t=tensors, s=sizes, b=backward: step(f, t, s, b), rounds)
                    for name, f in {
                        "official": official_form,
                        "reference": lambda *a: deformable_attention(*a, form="reference"),
                        "triton": lambda *a: deformable_attention(*a, form="triton"),
                    }.items()
                }
                # Each input read and each result written once; backward reads again and writes all gradients.
                moved = sum(x.nbytes for x in tensors) + queries * HEADS["large"][0] * HEADS["large"][1] * 2
                moved *= 3 if backward else 1
                line = ", ".join(f"{name} {seconds * 1e6:.0f}" for name, seconds in found.items())
                print(
                    f"{pixels}, {part}, {'forward and backward' if backward else 'forward'}: {line} us; "
                    f"reference / triton {found['reference'] / found['triton']:.1f}; least bytes take "
                    f"{moved / rate / found['triton']:.0%} of triton's time",
                    flush=True,
                )


def gpu_seconds(run: Callable[[], object], rounds: int) -> float:
    """Median over the rounds, by the device's clock, twenty runs in a row in each."""
    run()
    times = []
    for _ in range(rounds):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(20):
            run()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) / 20 / 1e3)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backward", action="store_true", help="time forward and backward on the CPU")
    parser.add_argument("--skip-backbones", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    on_cpu(arguments.rounds, arguments.backward, not arguments.skip_backbones)
    if torch.cuda.is_available():
        on_gpu(arguments.rounds)
    else:
        print("the GPU part needs a GPU: none here")


if __name__ == "__main__":
    main()
