"""Counts and times of a server, written as Prometheus reads them.

The text format is that of https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4).
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class _Counter:
    """A number that only grows, for each set of labels."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._values: dict[Labels, int] = {}

    def add(self, labels: Labels) -> None:
        self._values[labels] = self._values.get(labels, 0) + 1

    def lines(self) -> list[str]:
        values = [f"{self._name}{_in_braces(labels)} {value}" for labels, value in self._values.items()]
        return [*_head(self._name, "counter", self._text), *values]


class _Histogram:
    """How often a number was at most each of some bounds, for each set of labels."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name, self._text, self._bounds = name, text, tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def add(self, labels: Labels, value: float) -> None:
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> list[str]:
        lines = _head(self._name, "histogram", self._text)
        for labels, counts in self._counts.items():
            total = 0
            for bound, count in zip((*map(_number, self._bounds), "+Inf"), counts, strict=True):
                total += count
                lines.append(f"{self._name}_bucket{_in_braces((*labels, ('le', bound)))} {total}")
            lines.append(f"{self._name}_sum{_in_braces(labels)} {self._sums[labels]:.6f}")
            lines.append(f"{self._name}_count{_in_braces(labels)} {total}")
        return lines


class Metrics:
    """What a server counts; every method may be called from any thread.

    Args:
        gauges: Numbers of the moment, asked for when they are written: what each means, by its name.
    """

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._lock = threading.Lock()
        self._gauges = gauges
        self._requests = _Counter("imglish_requests_total", "Requests by path and status.")
        self._seconds = _Histogram("imglish_request_seconds", "From a request to its answer.", SECONDS)
        self._batches = _Histogram("imglish_batch_size", "Requests that were computed together.", SIZES)

    def count_request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count an answered request; ``path`` is one of few, never what a client wrote."""
        with self._lock:
            self._requests.add((("method", method), ("path", path), ("status", str(status))))
            self._seconds.add((("path", path),), seconds)

    def count_batch(self, tasks: str, size: int) -> None:
        """Count a batch that was computed; ``tasks`` are what it was asked."""
        with self._lock:
            self._batches.add((("tasks", tasks),), float(size))

    def text(self) -> str:
        """Everything in Prometheus' text format."""
        lines = []
        for name, (meaning, value) in self._gauges.items():
            lines += [*_head(name, "gauge", meaning), f"{name} {_number(value())}"]
        with self._lock:
            for family in (self._requests, self._seconds, self._batches):
                lines += family.lines()
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _in_braces(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""


def _number(value: float) -> str:
    return f"{value:.15g}"
