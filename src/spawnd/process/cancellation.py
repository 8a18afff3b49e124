"""Loops that end when they are cancelled, whatever they were waiting for."""

from __future__ import annotations

import asyncio


def heed_cancel() -> None:
    """End a loop whose cancel was swallowed by what it called: call this before each of its long waits.

    Python 3.11's ``asyncio.wait_for``, by which psycopg's pool and others wait, drops a cancel that arrives together
    with the answer. The task then goes on although it was told to end, and whoever cancelled it waits forever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
