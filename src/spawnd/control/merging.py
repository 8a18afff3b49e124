"""Calls that would wait for one another are made together.

Whatever changes a run waits for the run's row and then for the disk. Calls for one run that arrive while another is
under way are therefore collected and made as one, in one transaction: the busier a run, the fewer commits it costs.
An idle one waits for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Merging(Generic[Key, Item, Answer]):
    """``make(items)`` is called with all that wait under one key; it answers each, an exception being raised to its
    caller. If it fails with more than one item, each is tried alone: nobody fails for what another sent.
    """

    def __init__(self, make: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]]) -> None:
        self._make = make
        self._waiting: dict[Key, list[tuple[Item, asyncio.Future[Answer]]]] = {}
        self._makers: dict[Key, asyncio.Task[None]] = {}

    async def __call__(self, key: Key, item: Item) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append((item, answer))
        if key not in self._makers:
            # A task of its own: a caller that is cancelled must not take the others' calls with it.
            self._makers[key] = asyncio.create_task(self._make_all(key))
        return await answer

    async def _make_all(self, key: Key) -> None:
        try:
            while batch := self._waiting.pop(key, None):
                answers = await self._answers([item for item, _ in batch])
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future.done():
                        continue  # its caller is gone
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            del self._makers[key]
            for _, future in self._waiting.pop(key, []):
                future.cancel()  # the loop is going down

    async def _answers(self, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        try:
            return await self._make(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
        return [answer for item in items for answer in await self._answers([item])]
