"""Write a World in the published formats: one pass over the scenes, on any number of cores the same bytes."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imglish.data.shards import write_shard
from imglish.data.world import entries
from imglish.data.world.annotate import annotate
from imglish.data.world.files import (
    SCENES_PER_SHARD,
    TEXT_SPLITS,
    WorldFiles,
    read_world,
    scene_line,
    write_settings,
)
from imglish.data.world.language import captions
from imglish.data.world.questions import questions
from imglish.data.world.render import render
from imglish.data.world.scene import Scene, WorldConfig, draw_scene
from imglish.data.world.statements import statement
from imglish.data.world.texts import text
from imglish.errors import DataFormatError

_STATEMENTS_PER_PAIR = 2
_INFO = {"description": "The World of imglish", "version": "1.0"}


def write_world(
    config: WorldConfig,
    out: Path,
    *,
    num_train: int,
    num_validation: int,
    num_compositional: int = 0,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> WorldFiles:
    """Write a World, or find that it is written.

    The folder appears, by renaming, when it is whole. With more than one worker, new processes are started,
    so a script that calls this needs the usual ``if __name__ == "__main__"``.

    Args:
        config: Which World.
        out: Its folder. Where it holds the World that is asked for, that is returned at once.
        num_train: Scenes of the training split, at least 2.
        num_validation: Scenes of the validation split, at least 2.
        num_compositional: Scenes with colours of shapes that training never shows; 0 for none, or at least 2.
        workers: Processes that draw; 1 draws in this one.
        overwrite: Whether another World in the folder may be replaced.
        progress: Called with the numbers of scenes written and of all scenes.

    Raises:
        DataFormatError: The folder holds something else than a World, or another World and ``overwrite`` is
            False.
        ValueError: A number is too small.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1; got {workers}")
    counts = {"train": num_train, "validation": num_validation}
    if num_compositional:
        counts["compositional"] = num_compositional
    for split, count in counts.items():
        if count < 2:  # a statement takes two pictures
            raise ValueError(f"num_{split} must be at least 2; got {count}")
    wanted = WorldFiles(root=out, config=config, counts=counts)
    if _is_there(wanted, overwrite):
        return wanted
    target = out.resolve()  # a link to a folder elsewhere stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    try:
        files = WorldFiles(root=unfinished, config=config, counts=wanted.counts)
        _write(files, workers, progress)
        write_settings(files)
        if target.exists():
            shutil.rmtree(target)
        unfinished.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return wanted


def _is_there(wanted: WorldFiles, overwrite: bool) -> bool:
    """Whether the World is written already; an error where something else must not be replaced."""
    out = wanted.root
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not wanted.settings.is_file():
        raise DataFormatError(
            f"{out}: is not empty and holds no World (no world.json): choose another folder"
        )
    try:
        found = read_world(out)
        if found == wanted:
            return True
        problem = f"holds another World ({_describe(found)}; asked for {_describe(wanted)})"
    except DataFormatError as error:
        problem = f"holds a World that cannot be used ({error})"
    if not overwrite:
        raise DataFormatError(f"{out}: {problem}: choose another folder, or overwrite it")
    return False


def _describe(files: WorldFiles) -> str:
    config, counts = files.config, "+".join(map(str, files.counts.values()))
    return f"{counts} scenes, seed {config.seed}, {config.picture_size} pixels, level {config.level}"


class _Share(NamedTuple):
    """Scenes ``start`` to before ``stop`` of a split; ``first_number`` is its scene 0 in Karpathy's file."""

    split: str
    start: int
    stop: int
    first_number: int


# What goes into files of a whole split: lines by the name of a list, such as "train.images".
_Lines = dict[str, list[str]]


def _write(files: WorldFiles, workers: int, progress: Callable[[int, int], None] | None) -> None:
    """Write everything but the settings."""
    shares, first_number = [], 0
    for split, count in files.counts.items():
        for start in range(0, count, SCENES_PER_SHARD):
            shares.append(_Share(split, start, min(start + SCENES_PER_SHARD, count), first_number))
        first_number += count
    _make_folders(files)
    lists = files.root / "lists"
    lists.mkdir()
    written, total = 0, first_number
    with _mapping(min(workers, len(shares))) as run:
        for share, lines in zip(shares, run(partial(_write_share, files), shares), strict=True):
            for name, new in lines.items():
                with (lists / name).open("a", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in new)
            written += share.stop - share.start
            if progress is not None:
                progress(written, total)
    for split in files.counts:
        _assemble(files, split, lists)
    (lists / "corpus").replace(files.corpus)
    _write_document(files.karpathy, {"dataset": "world"}, {"images": lists / "karpathy"})
    shutil.rmtree(lists)


def _make_folders(files: WorldFiles) -> None:
    folders = [files.corpus.parent, files.karpathy.parent]
    for split in files.counts:
        folders += [files.images(split), files.panoptic_maps(split), files.statement_images(split)]
        folders += [files.class_folders(split), files.mask_images(split), files.masks(split)]
        folders += [files.scenes(split).parent, files.questions(split).parent]
        folders += [files.shards("images", split)[0].parent]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterable[_Lines]]]:
    """A ``map`` that keeps the order, over processes where there are several."""
    if workers == 1:
        yield map
        return
    # An interrupt from the keyboard reaches every process; this one alone shall deal with it.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), signal.signal, ignore)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _write_share(files: WorldFiles, share: _Share) -> _Lines:
    """Write the pictures, maps and shards of a share, and return its lines."""
    split, shard = share.split, share.start // SCENES_PER_SHARD
    scenes = [draw_scene(files.config, split, index) for index in range(share.start, share.stop)]
    lines: defaultdict[str, list[str]] = defaultdict(list)
    samples = [(f"{scene.index:08d}", _write_scene(files, scene, share, lines)) for scene in scenes]
    for left, right in zip(scenes[::2], scenes[1::2], strict=False):
        _write_pair(files, left, right, lines)
    write_shard(files.shards("images", split)[shard], ((key, {"png": pair["png"]}) for key, pair in samples))
    write_shard(files.shards("pairs", split)[shard], samples)
    if split in TEXT_SPLITS:
        texts = [text(files.config, split, scene.index) for scene in scenes]
        documents = ((key, {"txt": words.encode()}) for (key, _), words in zip(samples, texts, strict=True))
        write_shard(files.shards("texts", split)[shard], documents)
        if split == "train":
            lines["corpus"] = texts
    return dict(lines)


def _write_scene(files: WorldFiles, scene: Scene, share: _Share, lines: _Lines) -> dict[str, bytes]:
    """Write the pictures of a scene, add its lines, and return its sample of the pairs."""
    name, split = entries.picture_name(scene.index), scene.split
    annotation, words, asked = annotate(scene), captions(scene), questions(scene)
    png = _png(render(scene))
    picture = files.images(split) / name
    picture.write_bytes(png)
    _link(picture, files.mask_images(split) / name)
    if len(scene.things) == 1:
        folder = files.class_folders(split) / scene.things[0].shape
        folder.mkdir(exist_ok=True)
        _link(picture, folder / name)
    (files.masks(split) / name).write_bytes(_png(entries.semantic_pixels(annotation)))
    (files.panoptic_maps(split) / name).write_bytes(_png(entries.panoptic_pixels(annotation)))

    lines[f"{split}.scenes"].append(scene_line(scene))
    lines["karpathy"].append(_json(entries.karpathy(scene, words, share.first_number + scene.index)))
    lines[f"{split}.images"].append(_json(entries.image(scene)))
    lines[f"{split}.panoptic"].append(_json(entries.panoptic(scene, annotation)))
    lines[f"{split}.instances"] += map(_json, entries.instances(scene, annotation))
    lines[f"{split}.captions"] += map(_json, entries.captions(scene, words))
    lines[f"{split}.questions"] += map(_json, entries.vqa_questions(scene, asked))
    lines[f"{split}.answers"] += map(_json, entries.vqa_annotations(scene, asked))
    metadata = _json({"image_id": scene.index})
    return {"png": png, "txt": "\n".join(words).encode(), "json": metadata.encode()}


def _write_pair(files: WorldFiles, left: Scene, right: Scene, lines: _Lines) -> None:
    """Link the two pictures under NLVR2's names, and add statements about them."""
    for side, scene in enumerate((left, right)):
        name = f"{entries.pair_name(left)}-img{side}.png"
        picture = files.images(scene.split) / entries.picture_name(scene.index)
        _link(picture, files.statement_images(scene.split) / name)
    rng = np.random.default_rng([left.seed, right.seed])
    said = {each.text: each for each in (statement(left, right, rng) for _ in range(_STATEMENTS_PER_PAIR))}
    lines[f"{left.split}.statements"] += map(_json, entries.nlvr2(left, list(said.values())))


def _assemble(files: WorldFiles, split: str, lists: Path) -> None:
    """Make the files of a split from its lists."""
    plain = {"info": _INFO, "licenses": []}
    things = plain | {"categories": entries.categories(things_only=True)}
    classes = plain | {"categories": entries.categories(things_only=False)}
    for path, head, name in (
        (files.captions(split), plain, "captions"),
        (files.instances(split), things, "instances"),
        (files.panoptic(split), classes, "panoptic"),
    ):
        parts = {"images": lists / f"{split}.images", "annotations": lists / f"{split}.{name}"}
        _write_document(path, head, parts)
    vqa = {"info": _INFO, "task_type": "Open-Ended", "data_type": "imglish-world", "data_subtype": split}
    _write_document(files.questions(split), vqa, {"questions": lists / f"{split}.questions"})
    _write_document(files.annotations(split), vqa, {"annotations": lists / f"{split}.answers"})
    (lists / f"{split}.scenes").replace(files.scenes(split))
    (lists / f"{split}.statements").replace(files.statements(split))


def _write_document(path: Path, head: Mapping[str, object], lists: Mapping[str, Path]) -> None:
    """Write a json object: the values of ``head``, then the lines of each file as a list, one at a time."""
    with path.open("w", encoding="utf-8") as out:
        out.write("{\n")
        out.write(",\n".join(f"{json.dumps(key)}: {_json(value)}" for key, value in head.items()))
        for key, source in lists.items():
            out.write(f",\n{json.dumps(key)}: [")
            with source.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines):
                    out.write((",\n" if number else "\n") + line.rstrip("\n"))
            out.write("\n]")
        out.write("\n}\n")


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
