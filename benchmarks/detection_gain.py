"""What ViT-Adapter and the World model's weights are worth to Mask R-CNN on the World.

    python benchmarks/detection_gain.py [--out runs/detection] [--seeds 0 1 2] [--num-steps 300] [--world DIR]

Three starts with the same steps: ViT-Adapter over the World model, the plain ViT over it, and ViT-Adapter
over a ViT that nobody has trained. A run that is finished is not made again, so the command goes on where it
was stopped. The table goes to docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

from tables import spread

from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.recipes.assemble import train_recipe
from imglish.recipes.config import RunConfig
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.detection_demo import mask_rcnn_demo

ROWS = ("ViT-Adapter", "plain ViT", "ViT-Adapter from scratch")
SCORES = {"box/ap": "box AP", "box/ap50": "AP50", "mask/ap": "mask AP", "mask/ap50": "AP50"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/detection"))
    parser.add_argument("--world", type=Path, help="a World on disk; drawn where none is given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--num-steps", type=int, default=300)
    options = parser.parse_args()
    world = options.world or options.out / "world"
    if not world.is_dir():
        write_world(WorldConfig(), world, num_train=6000, num_validation=500)
    found: dict[str, list[dict[str, float]]] = {row: [] for row in options.rows}
    for seed in options.seeds:
        for row in options.rows:
            folder = options.out / f"{row.replace(' ', '_')}_{options.num_steps}_{seed}"
            found[row].append(run_row(row_config(row, seed, world, options.num_steps), folder))
    print(table(found))


def row_config(row: str, seed: int, world: Path, num_steps: int) -> RunConfig:
    """The demo's Mask R-CNN with the backbone and the start of a row."""
    config = mask_rcnn_demo(world=world, num_steps=num_steps)
    assert isinstance(config.task, DetectionTask)
    task = replace(config.task, backbone="plain_vit") if row == "plain ViT" else config.task
    init = "" if row.endswith("scratch") else config.init
    return replace(config, task=task, init=init, train=replace(config.train, seed=seed))


def run_row(config: RunConfig, folder: Path) -> dict[str, float]:
    """Train and score; the processor seconds of training are kept beside the scores."""
    begun = time.process_time()
    scores = train_recipe(config, folder, resume=True)
    timed = folder / "seconds.json"
    if not timed.is_file():
        timed.write_text(json.dumps(time.process_time() - begun))
    return scores | {"seconds": json.loads(timed.read_text())}


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over the seeds, in percent, as a Markdown table."""
    lines = [f"| | {' | '.join(SCORES.values())} | processor seconds |", "|---|---|---|---|---|---:|"]
    for row, runs in found.items():
        cells = [spread([100 * scores[key] for scores in runs]) for key in SCORES]
        seconds = statistics.mean(scores["seconds"] for scores in runs)
        lines.append(f"| {row} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
