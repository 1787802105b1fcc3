"""``imglish predict``: ask official weights or a finished run about your own pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from imglish.cli.weights import open_predictor
from imglish.errors import CheckpointError, DataFormatError
from imglish.inference.look import Look
from imglish.inference.palettes import class_colors
from imglish.inference.predictor import Predictor

_AT_ONCE = 8  # pictures opened and computed together


@dataclass(frozen=True, kw_only=True, slots=True)
class Predict:
    """Caption, answer questions, classify, search, match with texts, judge statements, segment, detect.

    Each asks for weights that were trained for it; the demo's folder holds those of several. Asked for
    nothing, they say of each picture what they can: caption, classes, objects.

    Args:
        pictures: Picture files.
        run: A finished run, or a folder of several such as the demo's. If neither this nor weights are
            given: runs/demo where it is there, else the World model in the package, which knows only its
            drawn World.
        weights: Instead of a run, official weights by name (downloaded once), a .pth or .safetensors file, or
            a Hugging Face Hub id, org/name or org/name@revision.
        caption: Say in a sentence what is on each picture.
        question: Answer this about each picture, with probabilities.
        classify: Name the classes of each picture that the weights were trained for, or those given as
            classes, with probabilities.
        classes: Classes of your own to choose among, with commas between; a dual encoder needs no training
            for them.
        search: Rank the pictures by how well this text describes them.
        match: The cosine of each picture with each of these texts.
        judge: The probability that this statement about two pictures, left and right, is true.
        segment: Folder for a class map of each picture, a PNG whose pixel values are the numbers of classes.
        detect: Find the objects of each picture, with boxes.
        panoptic: Folder for the segments of each picture, a PNG whose pixel values are their numbers.
        min_score: Objects that are less sure are left out, in [0, 1].
        draw: Folder for each picture with what was detected or segmented drawn into it.
        num_best: How many answers, classes or found pictures to show, at most.
        json: Print one JSON object instead of lines.
    """

    pictures: tyro.conf.Positional[tuple[Path, ...]]
    run: Path | None = None
    weights: str = ""
    caption: bool = False
    question: str = ""
    classify: bool = False
    classes: str = ""
    search: str = ""
    match: tuple[str, ...] = ()
    judge: str = ""
    segment: Path | None = None
    detect: bool = False
    panoptic: Path | None = None
    min_score: float = 0.3
    draw: Path | None = None
    num_best: int = 3
    json: bool = False

    def __post_init__(self) -> None:
        if not self.pictures:
            raise ValueError("name at least one picture")
        if self.run is not None and self.weights:
            raise ValueError("give --run or --weights, not both")
        if self.classes and not self.classify:
            raise ValueError("--classes goes with --classify")
        if self.classes and not all(self.names):
            raise ValueError(f"--classes {self.classes!r} has an empty name; expected names such as cat,dog")
        if self.judge and len(self.pictures) != 2:
            raise ValueError(f"--judge is about two pictures, left and right; got {len(self.pictures)}")
        for option, folder in self.folders.items():
            if len({picture.stem for picture in self.pictures}) < len(self.pictures):
                raise ValueError("two pictures have the same name; write what is found to different folders")
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"{folder} is a file; --{option} expects a folder")
        if self.draw and not (self.segment or self.detect or self.panoptic or self.is_open):
            raise ValueError("--draw goes with --detect, --segment or --panoptic")
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must lie in [0, 1]; got {self.min_score}")
        if self.num_best < 1:
            raise ValueError(f"num_best must be at least 1; got {self.num_best}")

    @property
    def is_open(self) -> bool:
        """Whether nothing is asked for by name."""
        words = (self.question, self.search, self.match, self.judge)
        return not any((self.caption, self.classify, self.detect, self.segment, self.panoptic, *words))

    @property
    def folders(self) -> dict[str, Path]:
        """Folders to write to, by their options."""
        given = {"segment": self.segment, "panoptic": self.panoptic, "draw": self.draw}
        return {option: folder for option, folder in given.items() if folder is not None}

    @property
    def names(self) -> list[str]:
        """The classes to choose among."""
        return [name.strip() for name in self.classes.split(",")] if self.classes else []


def run(arguments: Sequence[str]) -> None:
    """Print what the weights say about the pictures."""
    options = tyro.cli(Predict, args=arguments, prog="imglish predict")
    predictor = open_predictor(options.run, options.weights)
    if options.is_open:
        options = _everything(predictor, options)
    _check(predictor, options)
    told: list[dict[str, Any]] = []
    for answer in _ask_of_each(predictor, options):
        told.append(answer)
        if not options.json:
            _print_one(answer)
    result: dict[str, Any] = {"pictures": told}
    if options.search:
        matches = predictor.search(options.pictures, options.search, num_matches=options.num_best)
        result["search"] = [
            {"picture": str(options.pictures[match.number]), "similarity": match.similarity}
            for match in matches
        ]
    if options.judge:
        left, right = options.pictures
        result["probability_true"] = predictor.judge(left, right, options.judge)
    if options.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))
        return
    for match in result.get("search", []):
        print(f"{match['similarity']:.3f}  {match['picture']}")
    if options.judge:
        print(f"{result['probability_true']:.1%} true: {options.judge}")


def _everything(predictor: Predictor, options: Predict) -> Predict:
    """The same options asking for all that the weights can say of a picture by itself.

    Raises:
        CheckpointError: They can say nothing.
    """
    able = predictor.abilities()
    asked = replace(options, caption="caption" in able, classify="classify" in able, detect="detect" in able)
    if asked.is_open:
        raise CheckpointError(
            f"{predictor.name} says nothing of a picture by itself; ask what its weights were trained for: "
            "--question TEXT, --search TEXT, --match TEXT, --judge TEXT, --segment or --panoptic FOLDER"
        )
    return asked


def _check(predictor: Predictor, options: Predict) -> None:
    """Ask everything about no picture, so that weights which cannot answer are refused before any is said."""
    _ask(predictor, options, [], [])
    if options.segment is not None:
        predictor.segment([])
    if options.detect:
        predictor.detect([])
    if options.panoptic is not None:
        predictor.panoptic([])
    if options.search:
        predictor.search([], options.search)
    if options.judge:
        predictor.judge([], [], options.judge)


def _ask_of_each(predictor: Predictor, options: Predict) -> Iterator[dict[str, Any]]:
    """What is said of each picture by itself, some pictures at once."""
    paths = iter(options.pictures)
    while chunk := list(islice(paths, _AT_ONCE)):
        opened, problem = _open(predictor, chunk)
        if opened:  # what can be said of the pictures before a broken one is said
            yield from _ask(predictor, options, chunk[: len(opened)], opened)
        if problem is not None:
            raise problem


def _open(predictor: Predictor, paths: Sequence[Path]) -> tuple[list[Look], DataFormatError | None]:
    """Pictures up to the first that cannot be opened, and what is wrong with that one."""
    opened: list[Look] = []
    for path in paths:
        try:
            opened.append(predictor.look(path))
        except DataFormatError as problem:
            return opened, problem
    return opened, None


def _ask(
    predictor: Predictor, options: Predict, paths: Sequence[Path], opened: Sequence[Look]
) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = [{"picture": str(path)} for path in paths]
    if options.caption:
        for answer, caption in zip(told, predictor.caption(opened), strict=True):
            answer["caption"] = caption
    if options.question:
        found = predictor.answer(opened, options.question, options.num_best)
        for answer, answers in zip(told, found, strict=True):
            answer["answers"] = [best._asdict() for best in answers]
    if options.classify:
        labels = predictor.classify(opened, options.names or None, options.num_best)
        for answer, classes in zip(told, labels, strict=True):
            answer["classes"] = [best._asdict() for best in classes]
    if options.match:
        for answer, cosines in zip(told, predictor.match(opened, options.match).tolist(), strict=True):
            answer["matches"] = [
                {"text": text, "similarity": cosine}
                for text, cosine in zip(options.match, cosines, strict=True)
            ]
    for answer, path, picture in zip(told, paths, opened, strict=True):
        if options.segment is not None:
            answer["segmentation"] = _segment(predictor, picture, path, options.segment, options.draw)
        if options.detect:
            answer["objects"] = _detect(predictor, picture, path, options)
        if options.panoptic is not None:
            answer["panoptic"] = _panoptic(predictor, picture, path, options.panoptic, options.draw)
    return told


def _segment(
    predictor: Predictor, picture: Look, path: Path, folder: Path, draw: Path | None
) -> dict[str, Any]:
    """Write the class map of a picture; returns its path and the share of each class, largest first."""
    found = predictor.segment(picture)
    classes, names = found
    image = Image.fromarray(classes.astype(np.uint8), mode="L")
    image.putpalette(class_colors(names).tobytes())
    target = _save(image, folder, f"{path.stem}_classes.png")
    if draw is not None:
        _save(found.draw(picture), draw, f"{path.stem}_drawn_classes.png")
    shares = np.bincount(classes.ravel(), minlength=len(names)) / classes.size
    order = [index for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    return {"file": str(target), "shares": {names[index]: float(shares[index]) for index in order}}


def _detect(predictor: Predictor, picture: Look, path: Path, options: Predict) -> list[dict[str, Any]]:
    """The objects of a picture, best first."""
    found = predictor.detect(picture, min_score=options.min_score)
    if options.draw is not None:
        _save(found.draw(picture), options.draw, f"{path.stem}_drawn_objects.png")
    return found.to_json()


def _panoptic(
    predictor: Predictor, picture: Look, path: Path, folder: Path, draw: Path | None
) -> dict[str, Any]:
    """Write the segments of a picture; returns the path of their map, and what they are."""
    found = predictor.panoptic(picture)
    target = _save(Image.fromarray(found.ids.astype(np.uint16)), folder, f"{path.stem}_segments.png")
    if draw is not None:
        _save(found.draw(picture), draw, f"{path.stem}_drawn_segments.png")
    return {"file": str(target), "segments": [segment._asdict() for segment in found.segments]}


def _save(image: Image.Image, folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / name)
    return folder / name


def _print_one(answer: dict[str, Any]) -> None:
    """A line for each thing that was asked of a picture."""
    picture = answer["picture"]
    if "caption" in answer:
        print(f"{picture}: {answer['caption']}")
    if "answers" in answer:
        told = (f"{best['text']} ({best['probability']:.0%})" for best in answer["answers"])
        print(f"{picture}: {', '.join(told)}")
    if "classes" in answer:
        told = (f"{best['name']} ({best['probability']:.0%})" for best in answer["classes"])
        print(f"{picture}: {', '.join(told)}")
    if "matches" in answer:
        told = (f"{match['text']} ({match['similarity']:.3f})" for match in answer["matches"])
        print(f"{picture}: {', '.join(told)}")
    if "segmentation" in answer:
        found = answer["segmentation"]
        shares = ", ".join(f"{name} {share:.1%}" for name, share in found["shares"].items())
        print(f"{picture}: {found['file']} ({shares})")
    if "objects" in answer:
        print(f"{picture}: {_counted(len(answer['objects']), 'object')}")
        for one in answer["objects"]:
            box = ", ".join(f"{side:.1f}" for side in one["box"])
            print(f"  {one['score']:.0%} {one['name']} ({box})")
    if "panoptic" in answer:
        found = answer["panoptic"]
        segments = ", ".join(f"{one['number']} {one['name']}" for one in found["segments"])
        print(f"{picture}: {found['file']} ({segments or 'no segment'})")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
