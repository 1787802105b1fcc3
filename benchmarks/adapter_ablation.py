"""What each part of ViT-Adapter is worth on the World: Semantic FPN over the World model's vision side.

    python benchmarks/adapter_ablation.py [--out runs/adapter] [--seeds 0 1 2] [--world DIR]

The paper's ablations at the World's size: parts added one by one, numbers of interactions, kinds of
attention, each row with the same steps from the same weights. A run that is finished is not made again, so
the command goes on where it was stopped. The table goes to docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tables import spread

from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.recipes.assemble import train_recipe
from imglish.recipes.assembly.segmentation import build_segmenter
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.demo_tasks import semantic_segmentation_demo

NUM_STEPS = 120
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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    options = parser.parse_args()
    world = options.world or options.out / "world"
    if not world.is_dir():
        write_world(WorldConfig(), world, num_train=6000, num_validation=500)
    found: dict[str, list[dict[str, float]]] = {row: [] for row in options.rows}
    for seed in options.seeds:
        for row in options.rows:
            found[row].append(run_row(row, seed, world, options.out))
    (options.out / "results.json").write_text(json.dumps({"seeds": options.seeds, "scores": found}, indent=1))
    print(table(found))


def run_row(row: str, seed: int, world: Path, out: Path) -> dict[str, float]:
    """Train and score; the processor seconds of training are kept beside the scores."""
    folder = out / f"{row.replace(' ', '_')}_{seed}"
    config = row_config(row, seed, world)
    begun = time.process_time()
    scores = train_recipe(config, folder, resume=True)
    timed = folder / "seconds.json"
    if not timed.is_file():
        timed.write_text(json.dumps(time.process_time() - begun))
    return scores | {"seconds": json.loads(timed.read_text())}


def row_config(row: str, seed: int, world: Path) -> RunConfig:
    """The demo's segmentation with the adapter of a row."""
    config = semantic_segmentation_demo(world=world, num_steps=NUM_STEPS)
    assert isinstance(config.task, SegmentationTask)
    changes = ROWS[row]
    if changes is None:
        task = replace(config.task, backbone="plain_vit")
    else:
        task = replace(config.task, adapter=replace(config.task.adapter, **changes))
    return replace(config, task=task, train=replace(config.train, seed=seed))


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over the seeds as a Markdown table."""
    titles = " | ".join(SCORES.values())
    lines = [f"| | {titles} | parameters | processor seconds |", "|---|---|---|---:|---:|"]
    for row, runs in found.items():
        cells = [spread([100 * scores[key] for scores in runs]) for key in SCORES]
        task = row_config(row, 0, Path()).task
        assert isinstance(task, SegmentationTask)
        size = sum(p.numel() for p in build_segmenter(task, 1).parameters()) / 1e6
        seconds = statistics.mean(scores["seconds"] for scores in runs)
        lines.append(f"| {row} | {' | '.join(cells)} | {size:.2f}M | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
