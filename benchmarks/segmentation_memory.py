"""Memory and time of segmenting a picture of 3840 x 2160 pixels with 150 classes.

    python benchmarks/segmentation_memory.py [--height 2160] [--width 3840] [--network patches]

On the CPU in fp32 through `imglish.Predictor`, with random weights: ``patches`` is one layer of patches of 16
pixels, so that all memory is that of preparing, joining and enlarging; ``adapter`` is ViT-Adapter-Ti with a
slim UPerNet. Each way to show the picture runs in a process of its own, for the largest resident memory that
the system saw; that of the process before the picture is told beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import nn

from imglish import Predictor
from imglish.hub.run import LoadedRun
from imglish.models.segmenters.config import UPerNetConfig
from imglish.models.segmenters.vit_segmenter import ViTSegmenterConfig, vit_segmenter
from imglish.models.vit_adapter import presets

CLASSES = 150
CROP: dict[str, Any] = {
    "kind": "cropped",
    "crop": (512, 512),
    "stride": (341, 341),
    "range": "imagenet",
    "scored_scale": (2048, 512),
    "scored_ratios": (1.0,),
    "scored_flip": False,
    "fit": "multiple_of_32",
    "padding": "none",
    "several": {"ratios": (0.5, 1.0), "flip": True, "fit": "at_least_crop", "padding": "none"},
}
# What is shown: settings of the run, and what is asked of the predictor.
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "published test, one scale": (CROP, {}),
    "published test, flipped as well": (CROP, {"flip": True}),
    "every pixel": (CROP, {}),
    "six scales and flips": (CROP, {"scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), "flip": True}),
}


def peak_mib() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def network(name: str) -> nn.Module:
    """A segmenter with random weights."""
    torch.manual_seed(0)
    if name == "patches":
        return nn.Conv2d(3, CLASSES, 16, stride=16)
    config = ViTSegmenterConfig(
        family="vit",
        vit=presets.vit("tiny"),
        adapter=presets.vit_adapter("tiny", "segmentation"),
        segmenter=UPerNetConfig(head_width=64, auxiliary_width=16),
        num_classes=CLASSES,
    )
    return vit_segmenter(config)


def measure(name: str, model: nn.Module, height: int, width: int) -> dict[str, float]:
    """Segment one picture in this process."""
    pictures, asked = WAYS[name]
    if name == "every pixel":
        pictures = {**pictures, "scored_scale": (width, height), "fit": "plain"}
    run = LoadedRun(
        kind="semantic_segmentation",
        model=model.eval(),
        config=presets.vit("tiny"),
        text=None,
        labels=tuple(f"class {number}" for number in range(CLASSES)),
        settings={"pictures": pictures},
    )
    predictor = Predictor(run)
    # A small picture first, so that what is loaded on first use is not counted as the picture's.
    predictor.segment(np.zeros((512, 512, 3), np.uint8))
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before, start = peak_mib(), time.process_time()
    predictor.segment(picture, **asked)
    return {"before": before, "peak": peak_mib(), "seconds": time.process_time() - start}


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=int, default=2160)
    parser.add_argument("--width", type=int, default=3840)
    parser.add_argument("--network", choices=["patches", "adapter"], default="patches")
    parser.add_argument("--only", choices=WAYS, help="measure this way in this process, and print JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, network(options.network), options.height, options.width)))
        return
    whole = 4 * CLASSES * options.height * options.width / 2**20
    print(f"one map of {CLASSES} scores in float32 at that size: {whole:.0f} MiB")
    for name in WAYS:
        size = ["--height", str(options.height), "--width", str(options.width)]
        command = [sys.executable, __file__, *size, "--network", options.network, "--only", name]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{name:32}  {told['peak']:6.0f} MiB, before {told['before']:5.0f} MiB, {told['seconds']:6.1f} s"
        )


if __name__ == "__main__":
    main()
