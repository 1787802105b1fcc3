"""The questions of all requests on their way through decoding and batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image

from imglish.errors import ImglishError
from imglish.inference.predictor import Predictor
from imglish.serving.batching import Batcher
from imglish.serving.facts import Facts
from imglish.serving.fields import Fields
from imglish.serving.refusals import RefusalError
from imglish.serving.room import Room
from imglish.serving.search import shrink
from imglish.serving.settings import Batching, Limits
from imglish.serving.tasks import TASKS, Asked, Result, compute
from imglish.serving.uploads import decode, open_header


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request gets.

    Args:
        results: By task.
        queued: Seconds that it waited for its batch.
        computed: Seconds that its batch took.
        batch: How many requests were computed with it, itself among them.
        size: (height, width) of the first picture in pixels, upright; None without a picture.
    """

    results: dict[str, Result]
    queued: float
    computed: float
    batch: int
    size: tuple[int, int] | None


class Service:
    """Answers questions; it belongs to one event loop.

    Args:
        predictors: Copies of one model; each computes in a thread of its own.
        facts: What the model can do.
        limits: What is taken.
        batching: How requests are put together.
        decoders: Threads that decode pictures.
        threads: Of torch, for each predictor; None leaves torch's choice.
        observe: Told of each batch: its tasks and its size.
    """

    def __init__(
        self,
        predictors: Sequence[Predictor],
        facts: Facts,
        limits: Limits,
        batching: Batching,
        *,
        decoders: int,
        threads: int | None,
        observe: Callable[[str, int], None],
    ) -> None:
        self.facts, self.limits = facts, limits
        self.executor = ThreadPoolExecutor(decoders, thread_name_prefix="imglish-decoder")
        self._pixels = Room(limits.pixels_in_flight)
        self._thumbnails = asyncio.Semaphore(2 * decoders)
        self._batcher: Batcher[Asked, dict[str, Result]] = Batcher(
            [partial(_compute, predictor, threads) for predictor in predictors],
            batching,
            lambda key, size: observe(_tasks_of(key), size),
        )

    def waiting(self) -> int:
        """How many requests wait for their batch."""
        return self._batcher.waiting()

    def pixels(self) -> int:
        """How many pixels are decoded at the moment."""
        return self._pixels.used

    def close(self) -> None:
        """Compute what was taken, and end the threads."""
        self._batcher.close()
        self.executor.shutdown()

    async def ask(self, tasks: Mapping[str, Fields], pictures: Mapping[str, bytes], *, until: float) -> Reply:
        """Put questions to the model.

        Args:
            tasks: The fields of each, by its name in `TASKS`; all are about the same pictures.
            pictures: Encoded, by their fields.
            until: `time.monotonic` at which the answer comes too late.

        Raises:
            RefusalError: The model cannot do it, a picture cannot be used, or time is over.
        """
        self._check(tasks, pictures)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                return await self._ask(tasks, pictures)
        except TimeoutError:
            raise RefusalError(
                504, "too_late", f"there was no answer within {self.limits.seconds:g} seconds"
            ) from None
        except ImglishError as error:
            raise RefusalError(422, "not_possible", str(error)) from None

    def _check(self, tasks: Mapping[str, Fields], pictures: Mapping[str, bytes]) -> None:
        for name, fields in tasks.items():
            ability = TASKS[name].ability(fields)
            if ability in self.facts.refusals:
                raise RefusalError(
                    422,
                    "ability_missing",
                    f"this server's weights cannot do that: {self.facts.refusals[ability]}",
                )
            for picture in TASKS[name].pictures:
                if picture not in pictures:
                    raise RefusalError(422, "picture_missing", f"the {picture} is missing")

    async def thumbnail(self, open_image: Callable[[], Image.Image]) -> bytes:
        """A picture, not decoded yet when it is opened, as a small JPEG file.

        Raises:
            RefusalError: It cannot be opened or decoded.
        """
        loop = asyncio.get_running_loop()
        async with self._thumbnails:  # each is an open file
            image = await loop.run_in_executor(self.executor, open_image)
            pixels = image.width * image.height
            async with self._pixels.hold(pixels):
                return await loop.run_in_executor(self.executor, shrink, image, pixels)

    async def _ask(self, tasks: Mapping[str, Fields], pictures: Mapping[str, bytes]) -> Reply:
        names, loop = next(iter(TASKS[name].pictures for name in tasks)), asyncio.get_running_loop()
        said = {name: "picture" if name == "picture" else f"{name} picture" for name in names}
        images = {
            name: await loop.run_in_executor(
                self.executor, open_header, pictures[name], said[name], self.limits
            )
            for name in names
        }
        async with self._pixels.hold(sum(image.width * image.height for image in images.values())):
            decoded = [
                await loop.run_in_executor(
                    self.executor, decode, images.pop(name), said[name], self.limits.pixels
                )
                for name in names
            ]
            asked = Asked(tuple(decoded), tasks)
            done = await asyncio.wrap_future(self._batcher.submit(asked.key(), asked))
            size = (decoded[0].shape[1], decoded[0].shape[2]) if decoded else None
        return Reply(done.result, done.queued, done.computed, done.batch, size)


def _compute(
    predictor: Predictor, threads: int | None, key: Hashable, asked: Sequence[Asked]
) -> list[dict[str, Result]]:
    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return compute(predictor, asked)


def _tasks_of(key: Hashable) -> str:
    """What a batch is called in the counts."""
    assert isinstance(key, tuple)  # made by Asked.key
    return str(key[0][0]) if len(key) == 1 else "predict"
