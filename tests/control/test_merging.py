"""Calls for one key are made together, and nobody fails for another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from spawnd.control.merging import Merging
from spawnd.errors import NotFound


class Door:
    """Something slow that takes many at once."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.open = asyncio.Event()
        self.merging: Merging[str, str, str] = Merging(self._make)

    async def _make(self, items: Sequence[str]) -> Sequence[str | Exception]:
        self.calls.append(list(items))
        await self.open.wait()
        if "poison" in items:
            raise ValueError("the whole call fails")
        return [NotFound(item) if item == "missing" else item.upper() for item in items]


async def test_what_arrives_during_a_call_shares_the_next_one() -> None:
    door = Door()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(door.merging("run", item)) for item in ("a", "b", "c")]
        await until(lambda: door.calls == [["a", "b", "c"]] or door.calls == [["a"]])
        tasks += [group.create_task(door.merging("run", item)) for item in ("d", "e")]
        await asyncio.sleep(0)
        door.open.set()

    assert [task.result() for task in tasks] == ["A", "B", "C", "D", "E"]
    assert [item for call in door.calls for item in call] == ["a", "b", "c", "d", "e"]
    assert len(door.calls) == 2


async def test_other_keys_do_not_wait() -> None:
    door = Door()
    async with asyncio.TaskGroup() as group:
        group.create_task(door.merging("one", "a"))
        group.create_task(door.merging("two", "b"))
        await until(lambda: len(door.calls) == 2)
        door.open.set()


async def test_an_answer_that_is_an_error_is_raised_to_its_caller_alone() -> None:
    door = Door()
    door.open.set()
    good, bad = await asyncio.gather(
        door.merging("run", "good"), door.merging("run", "missing"), return_exceptions=True
    )
    assert good == "GOOD"
    assert isinstance(bad, NotFound)


async def test_a_call_that_fails_as_a_whole_is_made_again_one_by_one() -> None:
    door = Door()
    door.open.set()
    good, bad = await asyncio.gather(door.merging("run", "good"), door.merging("run", "poison"), return_exceptions=True)
    assert good == "GOOD"
    assert isinstance(bad, ValueError)


async def test_a_caller_that_is_cancelled_takes_nobody_with_it() -> None:
    door = Door()
    first = asyncio.create_task(door.merging("run", "a"))
    second = asyncio.create_task(door.merging("run", "b"))
    await until(lambda: bool(door.calls))
    first.cancel()
    door.open.set()
    assert await second == "B"
    with pytest.raises(asyncio.CancelledError):
        await first


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")
