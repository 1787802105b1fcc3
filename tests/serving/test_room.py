"""No more is held at once than there is room for, and nobody is passed over."""

from __future__ import annotations

import asyncio

import pytest

from imglish.serving.room import Room


def test_who_finds_no_room_waits_in_order() -> None:
    async def hold(room: Room, amount: int, until: asyncio.Event, inside: list[int]) -> None:
        async with room.hold(amount):
            inside.append(amount)
            assert room.used <= 10
            await until.wait()

    async def check() -> None:
        room, inside = Room(10), list[int]()
        events = [asyncio.Event() for _ in range(4)]
        holders = [
            asyncio.create_task(hold(room, amount, event, inside))
            for amount, event in zip((6, 7, 2, 3), events, strict=True)
        ]
        await asyncio.sleep(0.01)
        assert inside == [6] and room.used == 6  # 2 would fit, but 7 came before
        events[0].set()
        await asyncio.sleep(0.01)
        assert inside == [6, 7, 2] and room.used == 9
        for event in events[1:]:
            event.set()
        await asyncio.gather(*holders)
        assert inside == [6, 7, 2, 3] and room.used == 0

    asyncio.run(check())


def test_who_gives_up_makes_room_for_the_next() -> None:
    async def check() -> None:
        room = Room(10)
        async with room.hold(6):
            waiting = asyncio.create_task(_hold_briefly(room, 7))
            behind = asyncio.create_task(_hold_briefly(room, 4))
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait_for(behind, 5)
        async with room.hold(10):
            second = asyncio.create_task(_hold_briefly(room, 5))
            await asyncio.sleep(0.01)
        second.cancel()  # at the moment when its turn has come
        with pytest.raises(asyncio.CancelledError):
            await second
        assert room.used == 0

    asyncio.run(check())


def test_who_gives_up_when_room_is_given_back_is_passed_over() -> None:
    """Both in one turn of the event loop: the waiting one does not know yet that it was cancelled."""

    async def check() -> None:
        room, leave = Room(10), asyncio.Event()

        async def hold() -> None:
            async with room.hold(6):
                await leave.wait()

        holder = asyncio.create_task(hold())
        await asyncio.sleep(0)
        gone = asyncio.create_task(_hold_briefly(room, 7))
        behind = asyncio.create_task(_hold_briefly(room, 10))
        await asyncio.sleep(0)
        leave.set()
        gone.cancel()
        await asyncio.wait_for(asyncio.gather(holder, behind), 5)
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert room.used == 0

    asyncio.run(check())


def test_more_than_all_is_refused_at_once() -> None:
    async def check() -> None:
        with pytest.raises(ValueError, match="more than all"):
            await _hold_briefly(Room(10), 11)

    asyncio.run(check())


async def _hold_briefly(room: Room, amount: int) -> None:
    async with room.hold(amount):
        pass
