"""A cancel that was swallowed on the way is obeyed at the next wait."""

from __future__ import annotations

import asyncio
import contextlib

from spawnd.process.cancellation import heed_cancel


async def test_a_loop_whose_cancel_was_swallowed_ends_at_its_next_wait() -> None:
    began = asyncio.Event()

    async def loop() -> None:
        while True:
            began.set()
            with contextlib.suppress(asyncio.CancelledError):  # as wait_for of Python 3.11 does
                await asyncio.sleep(3600)
            heed_cancel()
            await asyncio.sleep(3600)

    task = asyncio.create_task(loop())
    await began.wait()
    task.cancel()
    ended, _ = await asyncio.wait([task], timeout=5)

    assert ended
    assert task.cancelled()


async def test_a_time_limit_that_is_over_is_not_taken_for_a_cancel() -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.sleep(3600)

    heed_cancel()


async def test_a_task_that_nobody_cancelled_goes_on() -> None:
    heed_cancel()
