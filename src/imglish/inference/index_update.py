"""Bring an index file up to date: read what changed, encode what is new, forget what is gone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from imglish.errors import CheckpointError, DataFormatError
from imglish.inference.index_scan import PictureFile, Read, Scan, Skipped, Unusable, read_file, scan_folder
from imglish.inference.index_store import Content, IndexStore, Known
from imglish.inference.predictor import Predictor

Progress = Callable[[int, int], None]

_MOST_PIXELS = 2**26  # that wait for the encoder: 200 MB
_MOST_ROWS = 512  # of a transaction, where most are of known content


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Updated:
    """What an update did.

    Args:
        added: Pictures with a path that was not there before.
        changed: Pictures whose content is another.
        unchanged: Pictures as they were; also those that were written again with the same content.
        forgotten: Pictures that were in the index and are gone.
        encoded: Contents that the model computed; not those that were known already under another path.
        skipped: What could not be used, and why, sorted by path.
        num_links: Symbolic links that were not followed.
    """

    added: int
    changed: int
    unchanged: int
    forgotten: int
    encoded: int
    skipped: tuple[Skipped, ...]
    num_links: int


@dataclass(slots=True)
class _Batch:
    """What waits for the encoder and for being stored."""

    pictures: dict[str, Known] = field(default_factory=dict)
    pixels: dict[bytes, Tensor] = field(default_factory=dict)  # contents that are new, by their hashes

    def is_full(self, batch_size: int) -> bool:
        waiting = sum(pixels.shape[1] * pixels.shape[2] for pixels in self.pixels.values())
        return len(self.pixels) >= batch_size or waiting >= _MOST_PIXELS or len(self.pictures) >= _MOST_ROWS


def update_store(
    store: IndexStore,
    folder: Path,
    predictor: Predictor,
    *,
    batch_size: int,
    workers: int,
    max_pixels: int,
    progress: Progress,
) -> Updated:
    """Update an open index; arguments, result and errors are those of `SearchIndex.update`."""
    scan, known = scan_folder(folder), store.known()
    if known and not scan.files and not scan.unread:
        raise DataFormatError(
            f"{folder}: holds no picture, but its index {store.path} knows {len(known)}; expected the folder "
            "as it was: check that its disk is there, or empty the index with --rebuild"
        )
    changed = [file for file in scan.files if not _is_as_stored(file, known.get(file.path))]
    hashes = store.hashes()
    encode = partial(_encode, predictor)
    batch, encoded = _Batch(), 0
    read: dict[str, Known] = {}
    failed: list[Unusable] = []

    def store_batch() -> None:
        nonlocal batch, encoded
        contents, refused = encode(batch.pixels)
        for path in [path for path, row in batch.pictures.items() if row.hash in refused]:
            failed.append(Unusable(path, refused[batch.pictures.pop(path).hash], is_gone=True))
        store.save(batch.pictures, contents)
        read.update(batch.pictures)
        hashes.update(contents)
        encoded += len(contents)
        batch = _Batch()

    progress(0, len(changed))
    with ThreadPoolExecutor(workers) as pool:
        try:
            results = _in_order(
                pool, partial(read_file, folder, known=hashes, max_pixels=max_pixels), changed, 2 * workers
            )
            for done, result in enumerate(results, start=1):
                if isinstance(result, Unusable):
                    failed.append(result)
                else:
                    _, size, mtime_ns = result.file
                    batch.pictures[result.file.path] = Known(size, mtime_ns, result.hash)
                    if result.pixels is not None and result.hash not in hashes:
                        batch.pixels.setdefault(result.hash, result.pixels)
                    if batch.is_full(batch_size):
                        store_batch()
                progress(done, len(changed))
            store_batch()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    gone = _gone(scan, known, failed)
    store.forget(gone)
    added = sum(path not in known for path in read)
    rewritten = sum(path in known and known[path].hash != row.hash for path, row in read.items())
    return Updated(
        added=added,
        changed=rewritten,
        unchanged=len(scan.files) - len(changed) + len(read) - added - rewritten,
        forgotten=len(gone),
        encoded=encoded,
        skipped=tuple(sorted([*scan.unread, *(Skipped(one.path, one.reason) for one in failed)])),
        num_links=scan.num_links,
    )


def _is_as_stored(file: PictureFile, known: Known | None) -> bool:
    return known is not None and (file.num_bytes, file.mtime_ns) == (known.num_bytes, known.mtime_ns)


def _gone(scan: Scan, known: dict[str, Known], failed: list[Unusable]) -> list[str]:
    """Known pictures that are there no more, or are none any more; not those that nobody could look at."""
    there = {file.path for file in scan.files} - {one.path for one in failed if one.is_gone}
    return [path for path in known if path not in there and not scan.may_hold(path)]


def _in_order(
    pool: ThreadPoolExecutor, read: Callable[[str], Read | Unusable], files: Iterable[PictureFile], ahead: int
) -> Iterator[Read | Unusable]:
    """Read files in several threads; results in order, no more than ``ahead`` of them waiting."""
    paths = (file.path for file in files)
    waiting: deque[Future[Read | Unusable]] = deque(pool.submit(read, path) for path in islice(paths, ahead))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(read, path) for path in islice(paths, 1))
        yield result


def _encode(
    predictor: Predictor, pixels: dict[bytes, Tensor]
) -> tuple[dict[bytes, Content], dict[bytes, str]]:
    """Vectors of pictures by their hashes, and why the predictor refuses others.

    Raises:
        CheckpointError: The model gives vectors that are not finite.
    """
    refused: dict[bytes, str] = {}
    try:
        vectors = predictor.embed_images(list(pixels.values()))
    except DataFormatError:  # one of them; which, the predictor says when it is asked about each
        fine: dict[bytes, Tensor] = {}
        for digest, picture in pixels.items():
            try:
                predictor.embed_images([picture])
                fine[digest] = picture
            except DataFormatError as error:
                refused[digest] = str(error).removeprefix("the picture: ").partition("; expected")[0]
        pixels = fine
        vectors = predictor.embed_images(list(pixels.values()))
    if not np.isfinite(vectors).all():
        raise CheckpointError("the model gives vectors that are not finite; its weights are damaged")
    return {
        digest: Content((picture.shape[1], picture.shape[2]), vector)
        for (digest, picture), vector in zip(pixels.items(), vectors, strict=True)
    }, refused
