"""``imglish data check``: say what of own data is wrong, and why, before a training run does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.progress import Progress, TaskID

from imglish.cli.usage import UsageError, did_you_mean
from imglish.errors import DataFormatError
from imglish.recipes.check_data import CheckOptions, TableCheck, check_table
from imglish.recipes.check_instances import InstanceCheck, check_coco, check_panoptic, check_yolo
from imglish.recipes.check_masks import Layout, MaskCheck, check_masks
from imglish.recipes.data_config import SegmentationFolderData, SegmentationSetData

_ACTIONS = ("check",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Check own data: tables, COCO-style json files, and folders of pictures with masks or YOLO labels.

    The first table of a kind is taken for that of training, and others of its kind are held against it; so is
    the first json.

    Args:
        tables: JSONL, CSV or TSV files with the columns image and text, image and question and answer, image
            and image2 and text and label, or image and label; COCO-style json files with objects; or the
            root of pictures with masks or YOLO labels.
        decode: Decode every picture; --no-decode only looks whether it exists.
        answers: An answer2label.txt; questions none of whose answers it has are wrong.
        min_answer_count: Of the run to come (task.min_answer_count): rarer answers become no classes.
        max_text_tokens: Of the run to come (task.max_text_tokens): longer texts are cut.
        text_tokenizer: A .spm file that counts tokens; without one words are counted.
        layout: Of a folder: own pictures in images and masks, YOLO labels, or one of the published sets.
        pictures: The folder of the pictures of a json; one for all files, or one for each. Without any it is
            that of the json.
        maps: The folder of the segment maps of a panoptic json.
        classes: A text file that says which value or colour of the masks is which class.
        background: Whether 0 (black) in own masks is a class, or ignored.
        ignored: Values of own masks that count for nothing.
        show: Wrong lines to list, at most, of each table or split.
    """

    tables: tyro.conf.Positional[tuple[Path, ...]]
    decode: bool = True
    answers: Path | None = None
    min_answer_count: int = 9
    max_text_tokens: int = 64
    text_tokenizer: Path | None = None
    layout: Layout | Literal["yolo"] = "own"
    pictures: tuple[Path, ...] = ()
    maps: Path | None = None
    classes: Path | None = None
    background: Literal["class", "ignored"] = "class"
    ignored: tuple[int, ...] = (255,)
    show: int = 20

    def __post_init__(self) -> None:
        if not self.tables:
            raise ValueError("name at least one table")
        if self.show < 0:
            raise ValueError(f"show must not be negative; got {self.show}")
        files = [table for table in self.tables if table.suffix == ".json"]
        if len(self.pictures) not in (0, 1, len(files)):
            raise ValueError(f"name one folder of pictures, or {len(files)}; got {len(self.pictures)}")
        CheckOptions(min_answer_count=self.min_answer_count, max_text_tokens=self.max_text_tokens)


def run(arguments: Sequence[str]) -> None:
    """Check tables; one with wrong lines ends in an error."""
    action = arguments[0] if arguments else "-h"
    if action in ("-h", "--help"):
        print("usage: imglish data check DATA... [OPTIONS]\n\nimglish data check --help lists the options.")
        return
    if action not in _ACTIONS:
        raise UsageError(f"there is no action {action!r}{did_you_mean(action, _ACTIONS) or ': say check'}")
    options = tyro.cli(Check, args=arguments[1:], prog="imglish data check")
    wanted = CheckOptions(
        decode=options.decode,
        answers=options.answers,
        min_answer_count=options.min_answer_count,
        max_text_tokens=options.max_text_tokens,
        text_tokenizer=options.text_tokenizer,
    )
    console = Console(stderr=True)
    trained: dict[str, TableCheck] = {}
    wrong: list[int] = []
    objects: list[InstanceCheck] = []
    for table in options.tables:
        if not table.suffix and not table.exists():
            print(f"{table}: no such file or folder; expected data to check: check the path")
            wrong.append(1)
            continue
        if table.is_dir():
            check_folder = _check_yolo if options.layout == "yolo" else _check_folder
            wrong += check_folder(table, options, console)
            continue
        if table.suffix == ".json":
            wrong += _check_json(table, options, console, objects)
            continue
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"checking {table.name}", total=None)
            try:
                found = check_table(table, wanted, trained=trained, progress=partial(_advance, bar, task))
            except DataFormatError as error:  # the other tables want to be checked too
                bar.stop()
                print(error)
                wrong.append(1)
                continue
        trained.setdefault(found.kind, found)
        _show(found, options.show)
        wrong.append(len(found.problems))
    if total := sum(wrong):
        what = "tables" if all(not table.is_dir() for table in options.tables) else "tables and splits"
        tables = f" in {sum(map(bool, wrong))} of {len(wrong)} {what}" if len(wrong) > 1 else ""
        raise DataFormatError(
            f"{total} problem{'s' if total > 1 else ''}{tables}; mend or remove what is listed above"
        )


def _check_json(table: Path, options: Check, console: Console, done: list[InstanceCheck]) -> list[int]:
    """Check a COCO-style json against the first one, and add it to those ``done``."""
    files = [path for path in options.tables if path.suffix == ".json"]
    folders = options.pictures or (table.parent,)
    images = folders[files.index(table)] if len(folders) > 1 else folders[0]
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"checking {table.name}", total=None)
        try:
            if options.maps is not None:
                found = check_panoptic(table, images, options.maps, progress=partial(_advance, bar, task))
            else:
                found = check_coco(
                    table,
                    images,
                    decode=options.decode,
                    train=done[0] if done else None,
                    progress=partial(_advance, bar, task),
                )
        except DataFormatError as error:
            bar.stop()
            print(error)
            return [1]
    done.append(found)
    _show_instances(str(table), found, options.show)
    return [len(found.problems)]


def _check_yolo(root: Path, options: Check, console: Console) -> list[int]:
    """Check pictures with YOLO labels; returns the number of problems of each split."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"checking {root.name}", total=None)
        try:
            checks = check_yolo(root, decode=options.decode, progress=partial(_advance, bar, task))
        except DataFormatError as error:
            bar.stop()
            print(error)
            return [1]
    for found in checks:
        _show_instances(f"{root} ({found.name})", found, options.show)
    return [len(found.problems) for found in checks]


def _show_instances(name: str, found: InstanceCheck, most: int) -> None:
    print(
        f"{name}: {found.num_objects} objects on {found.num_pictures} pictures, {len(found.classes)} classes"
    )
    for problem in found.problems[:most]:
        print(f"  {problem}")
    if len(found.problems) > most:
        print(f"  and {len(found.problems) - most} more (--show)")
    for one in found.classes:
        print(f"  {one}: {found.objects[one]} objects on {found.pictures[one]} pictures")
    for note in found.notes:
        print(f"  note: {note}")


def _check_folder(root: Path, options: Check, console: Console) -> list[int]:
    """Check pictures with masks; returns the number of problems of each split."""
    if options.layout == "own":
        data: SegmentationFolderData | SegmentationSetData = SegmentationFolderData(
            root=root, classes=options.classes, background=options.background, ignored=options.ignored
        )
    else:
        assert options.layout != "yolo"
        data = SegmentationSetData(name=options.layout, root=root)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"checking {root.name}", total=None)
        try:
            checks = check_masks(data, partial(_advance, bar, task))
        except DataFormatError as error:
            bar.stop()
            print(error)
            if options.layout == "own" and next(root.rglob("labels/**/*.txt"), None) is not None:
                print("  note: labels in text files are YOLO's, which --layout yolo checks")
            return [1]
    for found in checks:
        _show_masks(root, found, options.show)
    return [len(found.problems) for found in checks]


def _show_masks(root: Path, found: MaskCheck, most: int) -> None:
    print(f"{root} ({found.split}): {found.num_samples} pictures with masks, {len(found.classes)} classes")
    for problem in found.problems[:most]:
        print(f"  {problem}")
    if len(found.problems) > most:
        print(f"  and {len(found.problems) - most} more (--show)")
    for name, pictures, share in found.shares():
        print(f"  {name}: {pictures} pictures, {share:.2%} of labelled pixels")
    for note in found.notes:
        print(f"  note: {note}")


def _show(found: TableCheck, most: int) -> None:
    print(f"{found.path}: {found.num_samples} {found.kind} about {len(found.pictures)} pictures")
    for problem in found.problems[:most]:
        print(f"  line {problem.line}: {problem.message}")
    if len(found.problems) > most:
        print(f"  and {len(found.problems) - most} more (--show)")
    for note in found.notes:
        print(f"  note: {note}")


def _advance(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)
