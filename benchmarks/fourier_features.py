"""How much detail stride-8 features hold, with ViT-Adapter and without (the paper's Fourier analysis).

    python benchmarks/fourier_features.py [--out runs/fourier] [--world DIR] [--num-steps 250]

Semantic FPN over the World model's vision side is trained for the same steps with the adapter and with the
plain ViT; a run that is finished is not made again. The relative log amplitude of the Fourier transform of
their stride-8 maps, over validation pictures, is written as ``fourier.svg`` and ``fourier.json``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.evaluation.fourier import fourier_chart, relative_log_amplitude
from imglish.hub.run import LoadedRun, load_run
from imglish.inference.pictures import open_picture, prepare
from imglish.recipes.assemble import train_recipe
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.demo_tasks import semantic_segmentation_demo

STRIDE = 8
NAMES = {"vit_adapter": "ViT-Adapter", "plain_vit": "plain ViT"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/fourier"))
    parser.add_argument("--world", type=Path, help="a World on disk; drawn where none is given")
    parser.add_argument("--num-steps", type=int, default=250)
    parser.add_argument("--num-pictures", type=int, default=200)
    options = parser.parse_args()
    world = options.world or options.out / "world"
    if not world.is_dir():
        write_world(WorldConfig(), world, num_train=3000, num_validation=200)
    pictures = sorted((world / "images" / "validation").iterdir())[: options.num_pictures]
    found = {}
    for backbone, name in NAMES.items():
        config = run_config(backbone, world, options.num_steps)
        scores = train_recipe(config, options.out / backbone, resume=True)
        run = load_run(options.out / backbone)
        side = run.config.image_size[0] // STRIDE
        amplitudes = amplitudes_of(run, pictures)
        found[name] = {"mean_iou": scores["semantic/mean_iou"], "relative_log_amplitude": amplitudes}
        print(name, found[name])
    (options.out / "fourier.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = {name: told["relative_log_amplitude"] for name, told in found.items()}
    chart = fourier_chart(lines, size=side, title="Fourier amplitudes of stride-8 features")
    (options.out / "fourier.svg").write_text(chart)


def run_config(backbone: str, world: Path, num_steps: int) -> RunConfig:
    """The demo's segmentation over one of the two backbones."""
    config = semantic_segmentation_demo(world=world, num_steps=num_steps)
    assert isinstance(config.task, SegmentationTask)
    if backbone == "plain_vit":
        return replace(config, task=replace(config.task, backbone="plain_vit"))
    return config


@torch.no_grad()
def amplitudes_of(run: LoadedRun, pictures: list[Path]) -> list[float]:
    """Relative log amplitudes of a segmenter's stride-8 maps, at the size of its training."""
    images = torch.stack([prepare(open_picture(path), run.config.image_size) for path in pictures])
    backbone = run.model.backbone
    assert isinstance(backbone, nn.Module)
    maps = [backbone(batch)[STRIDE] for batch in images.split(50)]
    return relative_log_amplitude(torch.cat(maps)).tolist()


if __name__ == "__main__":
    main()
