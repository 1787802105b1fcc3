"""From what is to be packed to the members of a sample, in this process or in several, in the same order."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from imglish.data.pictures import decode_picture
from imglish.data.shard_sources import Item
from imglish.data.shards import PICTURE_EXTENSIONS
from imglish.data.transforms.upright import open_image, to_rgb
from imglish.errors import DataFormatError

_CHUNK = 8  # samples handed to a process at once
_CHUNKS_AHEAD = 4  # for each process: so much is held in memory, and no more


class PackedSample(NamedTuple):
    """The members of a sample by extension; where it is refused, why instead."""

    contents: dict[str, bytes]
    problem: str = ""


def pack_samples(
    items: Iterator[Item], max_side: int, num_workers: int = 0
) -> Iterator[tuple[Item, PackedSample]]:
    """Each item with its sample, in the order of the items.

    Args:
        items: What is to be packed.
        max_side: Longest side in pixels, larger pictures are made smaller; 0 leaves all as they are.
        num_workers: Processes that decode pictures; 0 decodes in this one. The result is the same.

    Raises:
        DataFormatError: A process was killed; or ``items`` raises it.
    """
    if num_workers == 0:
        for item in items:
            yield item, _packed(item, max_side)
        return
    pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context("fork"), initializer=_begin_worker)
    pending: deque[tuple[list[Item], Future[list[PackedSample]]]] = deque()
    try:
        while True:
            while len(pending) < num_workers * _CHUNKS_AHEAD and (chunk := list(islice(items, _CHUNK))):
                pending.append((chunk, pool.submit(_pack_chunk, chunk, max_side)))
            if not pending:
                return
            chunk, made = pending.popleft()
            yield from zip(chunk, made.result(), strict=True)
    except BrokenProcessPool:
        raise DataFormatError(
            "a process that decodes pictures was killed, perhaps for want of memory; the same command goes "
            "on where it stopped, perhaps with fewer --num-workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Leave interrupts to the process that waits for the results, and end when that one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=leave_with, args=(parent.sentinel,), daemon=True).start()


def _pack_chunk(items: list[Item], max_side: int) -> list[PackedSample]:
    return [_packed(item, max_side) for item in items]


def _packed(item: Item, max_side: int) -> PackedSample:
    if item.problem:
        return PackedSample({}, item.problem)
    contents: dict[str, bytes] = {}
    if item.picture is not None:
        try:
            extension, data = _picture(item.picture, max_side)
        except DataFormatError as error:
            return PackedSample({}, str(error))
        contents[extension] = data
    if item.texts:
        contents["txt"] = "\n".join(item.texts).encode()
    return PackedSample(contents)


def _picture(path: Path, max_side: int) -> tuple[str, bytes]:
    """Extension and bytes of a picture that decodes, smaller where that is asked for."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataFormatError(f"{path}: no such picture") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise DataFormatError(f"{path}: cannot be read ({error})") from None
    height, width = decode_picture(data, str(path)).shape[1:]
    extension = path.suffix.lower().lstrip(".")
    if max_side and max(height, width) > max_side:
        return _smaller(data, path, max_side)
    if extension not in PICTURE_EXTENSIONS:
        raise DataFormatError(f"{path}: expected png, jpg, jpeg or webp: convert it")
    return extension, data


def _smaller(data: bytes, path: Path, max_side: int) -> tuple[str, bytes]:
    """The picture, upright, with the longest side ``max_side``: a PNG stays one, others become JPEG."""
    picture = to_rgb(open_image(io.BytesIO(data), str(path)), str(path))
    scale = max_side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small, buffer = picture.resize(size, Image.Resampling.BICUBIC), io.BytesIO()
    if path.suffix.lower() == ".png":
        small.save(buffer, "PNG")
        return "png", buffer.getvalue()
    small.save(buffer, "JPEG", quality=95)
    return "jpg", buffer.getvalue()
