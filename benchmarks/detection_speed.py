"""Seconds of training and of inference of Mask R-CNN with ViT-Adapter-S at 1333 x 800, and memory.

    python benchmarks/detection_speed.py [--recipe NAME] [--size 800 1344] [--objects 7] [--rounds 3]

The official recipe with random weights on a random picture: time of a training step of one picture (loss and
backward pass, no optimiser) and of finding objects in one, on the GPU where there is one, else on the CPU.
Results go to docs/benchmarks.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch

from imglish.losses.two_stage import two_stage_terms
from imglish.recipes.assembly.detection import build_detector
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.runs import RECIPES
from imglish.structures.instances import Instances


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recipe", choices=list(RECIPES), metavar="NAME", default="mask_rcnn_deit_adapter_small_fpn_3x_coco"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1344))
    parser.add_argument("--objects", type=int, default=7, help="of a picture; COCO has seven on average")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = RECIPES[options.recipe]().task
    assert isinstance(task, DetectionTask)
    torch.manual_seed(0)
    model = build_detector(task, 80).to(device)
    size = (options.size[0], options.size[1])
    images = torch.randn(1, 3, *size, device=device)
    targets = [random_objects(options.objects, size, device)]

    def train() -> None:
        model.train()
        terms = two_stage_terms(model(images, [size], targets), task.two_stage_loss)
        torch.stack([term.mean for term in terms.values()]).sum().backward()
        model.zero_grad(set_to_none=True)

    @torch.no_grad()
    def find() -> None:
        model.eval()
        model(images, [size])

    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{options.recipe}, {size[0]} x {size[1]}, {where}, torch {torch.__version__}")
    for name, step in (("inference", find), ("training", train)):
        seconds = median_seconds(step, options.rounds, device)
        print(f"{name}: {seconds:.2f} s a picture, {peak_memory(device) / 2**30:.1f} GiB at most")


def random_objects(number: int, size: tuple[int, int], device: torch.device) -> Instances:
    """Boxes of a tenth to a third of the picture, their masks the boxes themselves."""
    height, width = size
    corner = torch.rand(number, 2) * torch.tensor([0.6 * width, 0.6 * height])
    sides = (0.1 + 0.23 * torch.rand(number, 2)) * torch.tensor([width, height])
    boxes = torch.cat([corner, corner + sides], dim=1)
    masks = torch.zeros(number, height, width, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    crowd = torch.zeros(number, dtype=torch.bool)
    return Instances(boxes=boxes, labels=torch.randint(80, (number,)), crowd=crowd, masks=masks).to(device)


def median_seconds(step: Callable[[], None], rounds: int, device: torch.device) -> float:
    """Of several rounds after one that warms up."""
    step()
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU's tensors, or resident of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
