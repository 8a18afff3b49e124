"""The relay: sends hints after the commits that wrote them.

Writers of this process nudge it, so that a hint leaves within a millisecond or so, and at once if they name it; what
other processes left behind when they died is found by a slow poll. Run hints are merged: followers are told of a run at
most every ``_MERGE_SECONDS``, however many events it appends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from spawnd.contracts.bus import Bus, Hint, Topic
from spawnd.errors import Unavailable
from spawnd.process.cancellation import heed_cancel
from spawnd.store import outbox
from spawnd.store.database import Database

log = logging.getLogger(__name__)

_MERGE_SECONDS = 0.05
_BATCH = 500


class Relay:
    """One per process. ``run`` until cancelled."""

    def __init__(self, database: Database, bus: Bus, *, poll_seconds: float) -> None:
        self._database = database
        self._bus = bus
        self._poll_seconds = poll_seconds
        self._nudged = asyncio.Event()
        self._changed = asyncio.Event()
        self._known: set[Hint] = set()
        self._runs: set[str] = set()

    def nudge(self, *hints: Hint) -> None:
        self._known.update(hints)
        self._nudged.set()

    def run_changed(self, run_id: str) -> None:
        self._runs.add(run_id)
        self._changed.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_outbox())
            group.create_task(self._send_runs())

    async def _send_outbox(self) -> None:
        while True:
            self._nudged.clear()
            known, self._known = self._known, set()
            try:
                await self._bus.publish(known)
                hints = await outbox.take(self._database, limit=_BATCH)
                await self._bus.publish([hint for hint in hints if hint not in known])
            except Unavailable as error:
                log.warning("outbox not sent", extra={"error": error.message})
                hints = []
            if len(hints) == _BATCH:
                continue
            heed_cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._nudged.wait()

    async def _send_runs(self) -> None:
        while True:
            heed_cancel()
            await self._changed.wait()
            self._changed.clear()
            changed, self._runs = self._runs, set()
            await self._bus.publish([Hint(Topic.RUN, run_id) for run_id in changed])
            await asyncio.sleep(_MERGE_SECONDS)
