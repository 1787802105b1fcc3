"""How long indexing a folder, following its changes, and searching take.

    python benchmarks/search_index.py [--pictures 10000] [--vectors 100000] [--source WEIGHTS]

Draws World pictures into a folder, indexes it, indexes it again as it is, then adds, changes, touches, moves
and deletes some and indexes what changed; compares the best of a search with those of brute force; and times
queries on many random vectors, of the width of the weights and of 768, which BEiT-3 base has. Without
``--source`` the dual encoder has the size of the demo's and random weights, which take the same time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from imglish.data.world.scene import WorldConfig
from imglish.data.world.stream import SceneStream, WorldTexts
from imglish.evaluation.machine import num_cores
from imglish.inference.index import SearchIndex, default_path
from imglish.inference.index_identity import model_identity
from imglish.inference.index_store import About, Content, IndexStore, Known
from imglish.inference.index_vectors import Engine
from imglish.inference.predictor import Predictor
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.text.training import train_tokenizer

T = TypeVar("T")
TEXTS = ("two red fish above the sand", "a blue house", "a star in the sky", "a tree on the grass", "")


def timed(what: str, work: Callable[[], T]) -> T:
    begun = time.perf_counter()
    result = work()
    print(f"{what}: {time.perf_counter() - begun:.2f} s", flush=True)
    return result


def draw(folder: Path, numbers: range) -> None:
    """World pictures by number, written an hour ago."""
    stream = SceneStream(world=WorldConfig(), split="train", length=numbers.stop)
    hour_ago = time.time_ns() - 3_600 * 10**9
    for number in numbers:
        path = folder / f"{number // 1000:03}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stream.sample(number)[0].permute(1, 2, 0).numpy()).save(path)
        os.utime(path, ns=(hour_ago, hour_ago))


def random_run(folder: Path) -> Path:
    """A dual encoder of the demo's size with random weights."""
    texts = WorldTexts(world=WorldConfig(), split="train", length=200)
    tokenizer = train_tokenizer(
        [texts.text(number) for number in range(200)], folder / "text.spm", vocab_size=200
    )
    torch.manual_seed(0)
    config = Beit3Config(
        image_size=(64, 64), patch_size=16, stem="convolutional", vocab_size=tokenizer.vocab_size,
        max_text_tokens=40, width=128, depth=4, num_heads=4, feed_forward_width=512, init="scaled",
    )  # fmt: skip
    task = {"kind": "retrieval", "max_text_tokens": 40, "model": json.loads(json.dumps(asdict(config)))}
    (folder / "config.yaml").write_text(yaml.safe_dump({"task": task}))
    save_file(Beit3ForRetrieval(config).state_dict(), folder / "model.safetensors")
    return folder


def change(folder: Path, count: int) -> None:
    """Add, change, touch, move and delete a hundredth each."""
    part = max(1, count // 100)
    files = sorted(folder.rglob("*.png"))
    draw(folder, range(count, count + part))
    with tempfile.TemporaryDirectory() as other:
        draw(Path(other), range(2 * count, 2 * count + part))
        for new, old in zip(sorted(Path(other).rglob("*.png")), files[:part], strict=True):
            shutil.copyfile(new, old)
    for path in files[part : 2 * part]:
        path.touch()
    for path in files[2 * part : 3 * part]:
        path.rename(path.with_name(f"moved-{path.name}"))
    for path in files[3 * part : 4 * part]:
        path.unlink()


def follow(folder: Path, count: int, predictor: Predictor) -> None:
    """Index World pictures, as they are and after changes, and search them."""
    timed("drawing", lambda: draw(folder, range(count)))
    path = default_path(folder)
    index = SearchIndex.create(path, folder, model_identity(predictor))
    for what in ("indexing", "indexing again, unchanged", "indexing what changed"):
        if what == "indexing what changed":
            change(folder, count)
        updated = timed(what, lambda: index.update(predictor, batch_size=64, workers=num_cores()))
        print(f"  {updated}; {len(index)} pictures, {path.stat().st_size / 1e6:.1f} MB", flush=True)
    timed("opening", lambda: SearchIndex.open(path, model_identity(predictor)))
    compare(index, predictor)
    groups = timed("near-duplicates", lambda: index.near_duplicates(0.99))
    print(f"  {len(index.duplicates())} groups of duplicates, {len(groups)} of near-duplicates")


def compare(index: SearchIndex, predictor: Predictor) -> None:
    """The best by the index and by brute force, over vectors read from the file without the index's code."""
    with closing(sqlite3.connect(index.path)) as file:
        rows = file.execute("SELECT path, vector FROM pictures JOIN contents ON content = id").fetchall()
    stored = {path: np.frombuffer(vector, "<f2").astype(np.float64) for path, vector in rows}
    sample = random.Random(0).sample(index.paths, min(200, len(index)))
    anew = predictor.embed_images([index.folder / path for path in sample])
    worst = max(float(np.abs(vector - stored[path]).max()) for path, vector in zip(sample, anew, strict=True))
    print(f"{len(sample)} pictures encoded again differ from what is stored by at most {worst:.1e}")
    same, worst = 0, 0.0
    for text in TEXTS:
        query = predictor.embed_texts(text).astype(np.float64)
        cosines = {path: float((vector * query).sum()) for path, vector in stored.items()}
        best = sorted(cosines, key=lambda path: (-cosines[path], path))[:20]
        found = index.search_text(predictor, text, 20)
        same += sum(one.path == path for one, path in zip(found, best, strict=True))
        worst = max(
            worst, *(abs(one.similarity - cosines[path]) for one, path in zip(found, best, strict=True))
        )
    print(
        f"best 20 of {len(index)} for {len(TEXTS)} texts: {same} of {20 * len(TEXTS)} where brute force has "
        f"them; cosines differ by at most {worst:.1e}"
    )


def queries(folder: Path, count: int, width: int, engine: Engine) -> None:
    """Times of searches in an index of random vectors."""
    path = folder / f"{count}-{width}.sqlite"
    draw = np.random.default_rng(0)
    if not path.exists():
        with IndexStore(path, About(folder.as_posix(), "random", "0", width)) as store:
            for first in range(0, count, 10_000):
                block = draw.standard_normal((min(10_000, count - first), width)).astype(np.float32)
                block /= np.linalg.norm(block, axis=1, keepdims=True)
                hashes = [hashlib.sha256(b"%d" % (first + row)).digest() for row in range(len(block))]
                store.save(
                    {f"{first + row:07}.png": Known(1, 1, digest) for row, digest in enumerate(hashes)},
                    {digest: Content((1, 1), row) for digest, row in zip(hashes, block, strict=True)},
                )
    what = f"{count} vectors of {width}, {engine}"
    index = timed(f"{what}: load", lambda: SearchIndex.open(path, engine=engine))
    seconds, computed = [], []
    for _ in range(103):
        vector = draw.standard_normal(width).astype(np.float32)
        begun, cpu = time.perf_counter(), time.process_time()
        assert len(index.search_vector(vector, 10)) == 10
        seconds.append(1000 * (time.perf_counter() - begun))
        computed.append(1000 * (time.process_time() - cpu))
    seconds, computed = seconds[3:], computed[3:]
    print(
        f"{what}: query {statistics.median(seconds):.1f} ms (median of {len(seconds)}; {min(seconds):.1f} to "
        f"{max(seconds):.1f}), {statistics.median(computed):.1f} ms of them on processors",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000, help="0 times queries only")
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--source", default="")
    arguments = parser.parse_args()
    print(
        f"{num_cores()} cores, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}", flush=True
    )
    with tempfile.TemporaryDirectory() as name:
        run = Path(name, "run")
        run.mkdir()
        predictor = Predictor(arguments.source or random_run(run), batch_size=64)
        if arguments.pictures:
            follow(Path(name, "pictures"), arguments.pictures, predictor)
        engines: tuple[Engine, ...] = ("exact", "faiss")
        for width in sorted({predictor.dual_encoder().config.width, 768}):
            for engine in engines:
                queries(Path(name), arguments.vectors, width, engine)


if __name__ == "__main__":
    main()
