"""``imglish world``: draw a data set in the published formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from imglish.cli.progress import counting
from imglish.data.world.scene import WorldConfig
from imglish.data.world.writer import write_world
from imglish.evaluation.machine import num_cores
from imglish.inference.samples import draw_samples

_NUM_SAMPLES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Draw a World: pictures of simple scenes with captions, questions, statements, boxes and masks.

    The same options give the same bytes. A World that is there already is left as it is.

    Args:
        out: Folder to write; world by default, or samples.
        sample: Write a dozen pictures to try a model with instead, and tell something to ask about each.
        train: Scenes of the training split, at least 2.
        validation: Scenes of the validation split, at least 2.
        compositional: Scenes that combine colours and shapes which training never shows together; 0 for none.
        seed: Another seed is another World.
        size: Height and width of the pictures in pixels, 64 to 256.
        level: "easy" has one to three large things; "full" up to six, with occlusion, light and noise.
        workers: Processes that draw; 0 takes one for each core.
        overwrite: Replace another World in the folder.
    """

    out: Path | None = None
    sample: bool = False
    train: int = 10_000
    validation: int = 1_000
    compositional: int = 1_000
    seed: int = 0
    size: int = 64
    level: Literal["easy", "full"] = "easy"
    workers: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        self.config()
        for name, least in {"train": 2, "validation": 2, "compositional": 0, "workers": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if self.compositional == 1:
            raise ValueError("compositional must be 0 or at least 2; got 1")

    def config(self) -> WorldConfig:
        """Which World to draw."""
        return WorldConfig(seed=self.seed, picture_size=self.size, level=self.level)


def run(arguments: Sequence[str]) -> None:
    """Draw a World with a progress bar."""
    options = tyro.cli(World, args=arguments, prog="imglish world")
    if options.sample:
        _write_samples(options)
        return
    with counting("drawing") as progress:
        files = write_world(
            options.config(),
            options.out or Path("world"),
            num_train=options.train,
            num_validation=options.validation,
            num_compositional=options.compositional,
            workers=options.workers or num_cores(),
            overwrite=options.overwrite,
            progress=progress,
        )
    counts = ", ".join(f"{count} {split}" for split, count in files.counts.items())
    print(f"{files.root}: {counts}")


def _write_samples(options: World) -> None:
    """Write pictures to try, and print for each how to ask about it."""
    folder = options.out or Path("samples")
    folder.mkdir(parents=True, exist_ok=True)
    for sample in draw_samples(_NUM_SAMPLES, size=options.size, seed=options.seed):
        path = folder / f"{sample.name}.png"
        path.write_bytes(sample.png)
        print(f'imglish predict {path} --question "{sample.question}"')
