"""What each part of ViT-Adapter is worth on the World: Semantic FPN over the World model's vision side.

    python benchmarks/adapter_ablation.py [--out runs/adapter] [--seeds 0 1 2] [--rows ...]
    python benchmarks/adapter_ablation.py --level full --picture-size 128 --batch-size 12 --num-steps 300

The paper's ablations at the World's size: parts added one by one, numbers of interactions, kinds of
attention, each row with the same steps from the same weights. ``full`` scenes have more and smaller things.
A run that is finished is not made again, so the command goes on where it was stopped. The tables go to
docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tables import spread
from torch import Tensor, nn

from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.models.beit3.config import Beit3Config
from imglish.recipes.assemble import train_recipe
from imglish.recipes.assembly.segmentation import build_segmenter
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.demo_tasks import semantic_segmentation_demo

# Row: what changes of the adapter, or None for the plain ViT.
ROWS: dict[str, dict[str, Any] | None] = {
    "plain ViT": None,
    "+ spatial prior": {"components": "prior"},
    "+ injector": {"components": "prior_injector"},
    "+ extractor: N = 2": {},
    "N = 1": {"num_interactions": 1},
    "N = 4": {"num_interactions": 4},
    "global attention": {"attention": "global"},
    "CSwin attention": {"attention": "cswin"},
    "Pale attention": {"attention": "pale"},
}
SCORES = {"semantic/mean_iou": "mIoU", "semantic/mean_iou_things": "of things"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/adapter"))
    parser.add_argument("--world", type=Path, help="a World on disk; drawn where none is given")
    parser.add_argument("--level", choices=["easy", "full"], default="easy")
    parser.add_argument("--picture-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--num-steps", type=int, default=120)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--layer-decay", type=float, default=1.0, help="below 1 the ViT learns slower")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    options = parser.parse_args()
    world = options.world or options.out / "world"
    if not world.is_dir():
        drawn = WorldConfig(picture_size=options.picture_size, level=options.level)
        write_world(drawn, world, num_train=6000, num_validation=500)
    found: dict[str, list[dict[str, float]]] = {row: [] for row in options.rows}
    for seed in options.seeds:
        for row in options.rows:
            found[row].append(
                run_row(row_config(row, seed, world, options), options.out / name_of(row, seed))
            )
    (options.out / "results.json").write_text(json.dumps({"seeds": options.seeds, "scores": found}, indent=1))
    print(table(found, {row: row_config(row, 0, world, options) for row in found}))


def name_of(row: str, seed: int) -> str:
    """The folder of a run."""
    return f"{row.replace(' ', '_')}_{seed}"


def run_row(config: RunConfig, folder: Path) -> dict[str, float]:
    """Train and score; the processor seconds of training are kept beside the scores."""
    begun = time.process_time()
    scores = train_recipe(config, folder, resume=True)
    timed = folder / "seconds.json"
    if not timed.is_file():
        timed.write_text(json.dumps(time.process_time() - begun))
    return scores | {"seconds": json.loads(timed.read_text())}


def row_config(row: str, seed: int, world: Path, options: argparse.Namespace) -> RunConfig:
    """The demo's segmentation with the adapter of a row."""
    config = semantic_segmentation_demo(world=world, num_steps=options.num_steps)
    assert isinstance(config.task, SegmentationTask) and isinstance(config.task.model, Beit3Config)
    size = (options.picture_size, options.picture_size)
    task = replace(
        config.task, model=replace(config.task.model, image_size=size), batch_size=options.batch_size
    )
    changes = ROWS[row]
    if changes is None:
        task = replace(task, backbone="plain_vit")
    else:
        task = replace(task, adapter=replace(task.adapter, **changes))
    return replace(
        config,
        task=task,
        optimizer=replace(config.optimizer, lr=options.lr, layer_decay=options.layer_decay),
        train=replace(config.train, seed=seed),
    )


def kept_bytes(model: nn.Module, images: Tensor) -> int:
    """Bytes that a training step keeps for its backward pass, weights left out."""
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.train()(images)
    del output
    return sum(kept.values())


def table(found: dict[str, list[dict[str, float]]], configs: dict[str, RunConfig]) -> str:
    """Mean and standard deviation over the seeds as a Markdown table."""
    titles = " | ".join(SCORES.values())
    lines = [
        f"| | {titles} | parameters | processor seconds | kept for backward |",
        "|---|---|---|---:|---:|---:|",
    ]
    for row, runs in found.items():
        cells = [spread([100 * scores[key] for scores in runs]) for key in SCORES]
        task = configs[row].task
        assert isinstance(task, SegmentationTask) and isinstance(task.model, Beit3Config)
        model = build_segmenter(task, 1)
        size = sum(p.numel() for p in model.parameters()) / 1e6
        seconds = statistics.mean(scores["seconds"] for scores in runs)
        kept = kept_bytes(model, torch.zeros(task.batch_size, 3, *task.model.image_size)) / 2**20
        lines.append(f"| {row} | {' | '.join(cells)} | {size:.2f}M | {seconds:.0f} | {kept:.0f} MiB |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
