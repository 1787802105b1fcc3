"""What a server is told when it starts, and the bounds of what it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Of one request. Longer texts would be cut by the text tokenizer anyway.
MOST_TEXTS = 64
MOST_CLASSES = 200
LONGEST_TEXT = 1000  # characters
MOST_RESULTS = 100  # answers, classes or matches
MOST_FIELDS = MOST_TEXTS + 16
# Smaller or longer pictures are mistakes, and stretching a line of pixels to a model's size takes gigabytes.
MIN_SIDE = 8  # pixels
MOST_ASPECT = 32
SECONDS_TO_LINGER = 0.5  # how long open connections are answered with "stopping" before they are closed


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a server takes, so that its memory stays bounded whatever is sent.

    Args:
        bytes: Of one picture, as it is sent; a request of two may be twice as large.
        pixels: Of one picture, told from its header before it is decoded.
        queue: Requests that are in the server at once; others are told to come again.
        seconds: From a request's first byte to its answer.
        bytes_in_flight: Of all bodies that are held at once.
        pixels_in_flight: Of all pictures that are decoded at once; others wait for their turn.
    """

    bytes: int = 16 * 2**20
    pixels: int = 12_000_000
    queue: int = 256
    seconds: float = 30.0
    bytes_in_flight: int = 256 * 2**20
    pixels_in_flight: int = 100_000_000

    def __post_init__(self) -> None:
        for name in ("bytes", "pixels", "queue", "bytes_in_flight", "pixels_in_flight"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"seconds must be positive; got {self.seconds}")
        if self.bytes_in_flight < 2 * self.bytes or self.pixels_in_flight < 2 * self.pixels:
            raise ValueError("bytes_in_flight and pixels_in_flight must have room for two pictures")


@dataclass(frozen=True, kw_only=True, slots=True)
class Batching:
    """When requests are computed together.

    Args:
        size: Requests of a batch, at most.
        wait: Seconds that the oldest request of a batch that is not full waits for others.
    """

    size: int = 16
    wait: float = 0.01

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1; got {self.size}")
        if not (math.isfinite(self.wait) and self.wait >= 0):
            raise ValueError(f"wait must not be negative; got {self.wait}")
