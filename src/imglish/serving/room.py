"""Room for a bounded amount of something that many requests hold at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """So much of something, such as pixels, can be held at once; who comes later waits, in order.

    It belongs to one event loop.

    Args:
        size: How much there is.
    """

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used(self) -> int:
        """How much is held."""
        return self._size - self._free

    @asynccontextmanager
    async def hold(self, amount: int) -> AsyncIterator[None]:
        """Wait until there is room, and hold it inside the ``with`` block.

        Raises:
            ValueError: There will never be so much.
        """
        if amount > self._size:
            raise ValueError(f"{amount} is more than all of the room, {self._size}")
        if self._waiting or amount > self._free:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((amount, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # it came at the very moment it was given up
                    self._give_back(amount)
                elif (amount, turn) in self._waiting:  # else `_admit` has passed it over already
                    self._waiting.remove((amount, turn))
                    self._admit()
                raise
        else:
            self._free -= amount
        try:
            yield
        finally:
            self._give_back(amount)

    def _give_back(self, amount: int) -> None:
        self._free += amount
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            amount, turn = self._waiting.popleft()
            if turn.cancelled():
                continue
            self._free -= amount
            turn.set_result(None)
