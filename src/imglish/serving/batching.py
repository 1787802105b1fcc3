"""Requests that can be computed together are: a queue for each kind, and a few threads that empty them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from imglish.serving.settings import Batching

P = TypeVar("P")
R = TypeVar("R")
# Computes the results of a batch of payloads that share a key, in their order.
Compute = Callable[[Hashable, Sequence[P]], Sequence[R]]


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """A result.

    Args:
        result: What was computed.
        queued: Seconds that the request waited.
        computed: Seconds that its batch took.
        batch: How many requests were computed with it, itself among them.
    """

    result: R
    queued: float
    computed: float
    batch: int


@dataclass(slots=True)
class _Job(Generic[P, R]):
    payload: P
    future: Future[Done[R]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Batcher(Generic[P, R]):
    """Computes requests in batches.

    A batch is taken when it is full or when its oldest request has waited `Batching.wait`; of several the one
    whose oldest request came first. Where a batch fails, each of its requests is computed alone, so that one
    that cannot be computed does not hurt the others.

    Args:
        workers: What computes batches; each has a thread of its own.
        batching: How large batches are, and how long they wait.
        observe: Told of each batch that was computed: its key and size.
    """

    def __init__(
        self,
        workers: Sequence[Compute[P, R]],
        batching: Batching,
        observe: Callable[[Hashable, int], None],
    ) -> None:
        self._batching, self._observe = batching, observe
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, deque[_Job[P, R]]] = {}
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(compute,), name=f"imglish-worker-{number}", daemon=True)
            for number, compute in enumerate(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, key: Hashable, payload: P) -> Future[Done[R]]:
        """Queue a request; requests with equal keys may be computed together.

        Returns:
            The result to come. A request whose future is cancelled before its batch is taken is left out.

        Raises:
            RuntimeError: The batcher is closed.
        """
        job: _Job[P, R] = _Job(payload)
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.setdefault(key, deque()).append(job)
            self._changed.notify()
        return job.future

    def waiting(self) -> int:
        """How many requests wait for their batch."""
        with self._changed:
            return sum(map(len, self._waiting.values()))

    def close(self) -> None:
        """Compute what waits, without waiting for more, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self, compute: Compute[P, R]) -> None:
        while (taken := self._take()) is not None:
            key, jobs = taken
            running = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if running:
                self._compute(compute, key, running)
            del taken, jobs, running  # an idle thread keeps no picture

    def _take(self) -> tuple[Hashable, list[_Job[P, R]]] | None:
        """The next batch, once there is one; None when the batcher is closed and empty."""
        with self._changed:
            while True:
                now, wait = time.monotonic(), self._batching.wait
                ready = [
                    (jobs[0].since, number, key)
                    for number, (key, jobs) in enumerate(self._waiting.items())
                    if self._closed or len(jobs) >= self._batching.size or now - jobs[0].since >= wait
                ]
                if ready:
                    key = min(ready, key=lambda one: one[:2])[2]
                    return key, self._pop(key)
                if self._closed:
                    return None
                oldest = min((jobs[0].since for jobs in self._waiting.values()), default=None)
                self._changed.wait(None if oldest is None else max(0.0, oldest + wait - now))

    def _pop(self, key: Hashable) -> list[_Job[P, R]]:
        queue = self._waiting[key]
        jobs = [queue.popleft() for _ in range(min(len(queue), self._batching.size))]
        if not queue:
            del self._waiting[key]
        if self._waiting:
            self._changed.notify()  # another thread may take the next one, or must wait for it
        return jobs

    def _compute(self, compute: Compute[P, R], key: Hashable, jobs: Sequence[_Job[P, R]]) -> None:
        begun = time.monotonic()
        try:
            results = compute(key, [job.payload for job in jobs])
            if len(results) != len(jobs):
                raise RuntimeError(f"{len(results)} results of {len(jobs)} requests")
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:
                self._compute(compute, key, [job])
            return
        computed = time.monotonic() - begun
        self._observe(key, len(jobs))
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(Done(result, begun - job.since, computed, len(jobs)))
