"""The reaper: ends attempts whose lease has run out or whose worker died on this machine, and wakes agents that have
waited long enough.

Any number of processes may run one: each transition is decided under the run's row.
"""

from __future__ import annotations

import asyncio
import logging

from spawnd.errors import Unavailable
from spawnd.maintenance.relay import Relay
from spawnd.process.cancellation import heed_cancel
from spawnd.process.orphans import machine, start_time
from spawnd.store import endings, steering, workers
from spawnd.store.database import Database

log = logging.getLogger(__name__)

_FORGET_EVERY = 600


class Reaper:
    """``run`` until cancelled; ``run_once`` for a single pass."""

    def __init__(self, database: Database, relay: Relay, *, interval_seconds: float = 1.0) -> None:
        self._database = database
        self._relay = relay
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        passes = 0
        while True:
            try:
                await self.run_once()
                if passes % _FORGET_EVERY == 0:
                    await workers.forget_stale(self._database)
            except Unavailable as error:
                log.warning("reaper waits", extra={"error": error.message})
            passes += 1
            heed_cancel()
            await asyncio.sleep(self._interval_seconds)

    async def run_once(self) -> list[tuple[str, str]]:
        """Expire and wake; returns (run id, agent) of everything touched."""
        lost = await endings.expire(self._database, dead=await self._dead())
        for run_id, agent in lost:
            log.warning("lease expired", extra={"run_id": run_id, "agent": agent})
        touched = lost + await steering.wake_due(self._database)
        if touched:
            self._relay.nudge()
        return touched

    async def _dead(self) -> list[str]:
        """Workers of this machine whose process is gone: their leases need not run out first."""
        here = machine()
        if here is None:
            return []
        holders = await workers.holders(self._database, here)
        return [one.worker_id for one in holders if one.started and start_time(one.pid) != one.started]
