"""Keeps every lease of the worker alive, through every step of every attempt, in one call for all.

A lease that cannot be renewed is given up when its time is over by our own clock, counted from before the call that
last prolonged it: by then another worker may hold the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass

from spawnd.contracts.control_plane import ControlPlane, Lease
from spawnd.domain.settle import StopCause
from spawnd.errors import Unavailable
from spawnd.process.cancellation import heed_cancel
from spawnd.worker.stopping import Stop

log = logging.getLogger(__name__)

#: Renewals that were asked for by hints come at most this often.
_SOONEST_SECONDS = 0.2


@dataclass(slots=True)
class _Held:
    lease: Lease
    stop: Stop
    until: float  # monotonic


class LeaseKeeper:
    """``run`` until cancelled. ``poke`` asks for a renewal soon: there may be a new directive."""

    def __init__(self, plane: ControlPlane, *, lease_seconds: float) -> None:
        self._plane = plane
        self._lease_seconds = lease_seconds
        self._held: dict[int, _Held] = {}
        self._poked = asyncio.Event()

    def hold(self, lease: Lease, stop: Stop) -> None:
        """Keep this one from now on. It was claimed just now."""
        self._held[lease.attempt_id] = _Held(lease, stop, time.monotonic() + self._lease_seconds)

    def drop(self, lease: Lease) -> None:
        self._held.pop(lease.attempt_id, None)

    def poke(self) -> None:
        self._poked.set()

    async def run(self) -> None:
        while True:
            heed_cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._poked.wait()
            self._poked.clear()
            await self.renew()
            await asyncio.sleep(_SOONEST_SECONDS)

    def _pause(self) -> float:
        """Until the next renewal is due, or until the first lease is over if that comes sooner."""
        now = time.monotonic()
        left = [one.until - now for one in self._held.values() if one.until > now]
        return min([self._lease_seconds / 3, *left])

    async def renew(self) -> None:
        """One renewal of all; obeys the answers."""
        before = time.monotonic()
        for one in self._held.values():
            if before >= one.until:
                one.stop.set(StopCause.LEASE_LOST)
        held = [one for one in self._held.values() if before < one.until]
        if not held:
            return
        try:
            async with asyncio.timeout(self._pause()):
                answers = await self._plane.renew([one.lease for one in held], lease_seconds=self._lease_seconds)
        except (Unavailable, TimeoutError) as error:
            log.warning("leases not renewed", extra={"error": str(error), "leases": len(held)})
            return
        for one, answer in zip(held, answers, strict=True):
            if answer.stop is not StopCause.LEASE_LOST:
                one.until = before + self._lease_seconds
            if answer.stop is not None:
                one.stop.set(answer.stop)
