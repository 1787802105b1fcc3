"""``imglish predict``: ask a finished run about your own pictures."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from imglish.inference.predictor import Predictor

GOLDEN_RATIO = 0.618034  # steps of hue that keep neighbouring classes apart


@dataclass(frozen=True, kw_only=True, slots=True)
class Predict:
    """Caption pictures, answer questions about them, search among them, or segment them.

    Args:
        pictures: Picture files.
        run: A finished run, or a folder of several such as the demo's.
        caption: Say in a sentence what is on each picture.
        question: Answer this about each picture, with probabilities.
        search: Rank the pictures by how well this text describes them.
        segment: Folder for a class map of each picture, a PNG whose pixel values are the numbers of classes.
        num_best: How many answers or pictures to show, at most.
    """

    pictures: tyro.conf.Positional[tuple[Path, ...]]
    run: Path = Path("runs/demo")
    caption: bool = False
    question: str = ""
    search: str = ""
    segment: Path | None = None
    num_best: int = 3

    def __post_init__(self) -> None:
        if not self.pictures:
            raise ValueError("name at least one picture")
        if not (self.caption or self.question or self.search or self.segment):
            raise ValueError("say what to do: --caption, --question TEXT, --search TEXT or --segment FOLDER")
        stems = [picture.stem for picture in self.pictures]
        if self.segment and len(set(stems)) < len(stems):
            raise ValueError("two pictures have the same name; segment them into different folders")
        if self.segment and self.segment.exists() and not self.segment.is_dir():
            raise ValueError(f"{self.segment} is a file; --segment expects a folder for the class maps")
        if self.num_best < 1:
            raise ValueError(f"num_best must be at least 1; got {self.num_best}")


def run(arguments: Sequence[str]) -> None:
    """Print what the run says about the pictures."""
    options = tyro.cli(Predict, args=arguments, prog="imglish predict")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predictor = Predictor(options.run, device)
    for picture in options.pictures:
        if options.caption:
            print(f"{picture}: {predictor.caption(picture)}")
        if options.question:
            answers = predictor.answer(picture, options.question, num_answers=options.num_best)
            print(
                f"{picture}: {', '.join(f'{answer.text} ({answer.probability:.0%})' for answer in answers)}"
            )
        if options.segment is not None:
            print(f"{picture}: {_segment(predictor, picture, options.segment)}")
    if options.search:
        matches = predictor.search(options.pictures, options.search, num_matches=options.num_best)
        for match in matches:
            print(f"{match.similarity:.3f}  {options.pictures[match.number]}")


def _segment(predictor: Predictor, picture: Path, folder: Path) -> str:
    """Write the class map of a picture; returns its path and the share of each class, largest first."""
    classes, names = predictor.segment(picture)
    image = Image.fromarray(classes.astype(np.uint8), mode="L")
    image.putpalette(_palette(len(names)))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{picture.stem}_classes.png"
    image.save(path)
    shares = np.bincount(classes.ravel(), minlength=len(names)) / classes.size
    order = [index for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    return f"{path} ({', '.join(f'{names[index]} {shares[index]:.1%}' for index in order)})"


def _palette(num_classes: int) -> bytes:
    """Red, green and blue of each class."""
    colours = (colorsys.hsv_to_rgb(index * GOLDEN_RATIO % 1, 0.65, 0.9) for index in range(num_classes))
    return bytes(round(255 * part) for colour in colours for part in colour)
