"""The claim loop: take what fits, run it, keep the leases, leave cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Mapping

from spawnd import __version__
from spawnd.contracts.control_plane import Assignment, Capability, ControlPlane, WorkerInfo
from spawnd.contracts.runtime import Runtime
from spawnd.contracts.sandbox import Sandbox
from spawnd.domain.settle import StopCause
from spawnd.errors import SpawndError, Unavailable
from spawnd.git.mirrors import Mirrors
from spawnd.process.cancellation import heed_cancel
from spawnd.process.orphans import machine, start_time
from spawnd.settings import Settings
from spawnd.worker.attempt import run_attempt
from spawnd.worker.job import Tools
from spawnd.worker.leases import LeaseKeeper
from spawnd.worker.ownership import keep_orphans
from spawnd.worker.stopping import Stop

log = logging.getLogger(__name__)

_HEARTBEAT_SECONDS = 10.0
_AWAY_SECONDS = 2.0
_ORPHANS_SECONDS = 300.0


class Worker:
    """``run`` until ``drain`` or ``stop``; with ``once`` until nothing is left to claim.

    ``drain`` lets running agents finish; ``stop`` hands them back: their work is kept and another worker goes on.
    """

    def __init__(
        self,
        plane: ControlPlane,
        runtimes: Mapping[str, Runtime],
        sandbox: Sandbox,
        settings: Settings,
        *,
        worker_id: str,
        slots: int,
        labels: frozenset[str] = frozenset(),
        once: bool = False,
        run_id: str | None = None,
    ) -> None:
        self.worker_id = worker_id
        self._plane = plane
        self._once = once
        self._lease_seconds = settings.lease_seconds
        self._poll_seconds = settings.poll_seconds
        self._capability = Capability(worker_id, labels, frozenset(runtimes), slots, run_id)
        self._tools = Tools(plane, runtimes, sandbox, Mirrors(settings.mirrors), settings, worker_id)
        self._keeper = LeaseKeeper(plane, lease_seconds=settings.lease_seconds)
        self._running: dict[int, Stop] = {}
        self._draining = False
        self._stopping = False
        self._wake = asyncio.Event()

    @property
    def running(self) -> int:
        """How many attempts run here now."""
        return len(self._running)

    async def run(self) -> None:
        """Serve. Cancelling it hands everything back and waits until that is done."""
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [
                    group.create_task(self._keeper.run(), name="lease-keeper"),
                    group.create_task(self._beat(), name="heartbeat"),
                    group.create_task(self._tidy(), name="orphans"),
                    group.create_task(self._listen(), name="hints"),
                ]
                async with asyncio.TaskGroup() as attempts:
                    await self._serve(attempts)
                for helper in helpers:
                    helper.cancel()
        finally:
            with contextlib.suppress(Unavailable):
                await self._plane.unregister(self.worker_id)

    def drain(self) -> None:
        """Claim nothing more; ``run`` returns when what runs has finished."""
        self._draining = True
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more and hand back what runs; ``run`` returns when that is done."""
        self._stopping = True
        self.drain()
        for stop in list(self._running.values()):
            stop.set(StopCause.SHUTDOWN)

    async def _serve(self, attempts: asyncio.TaskGroup) -> None:
        while not self._draining:
            self._wake.clear()
            free = self._capability.slots - len(self._running)
            claimed = await self._claim(free) if free > 0 else []
            for assignment in claimed:
                stop = self._running[assignment.lease.attempt_id] = Stop()
                if self._stopping:
                    stop.set(StopCause.SHUTDOWN)  # claimed while somebody said stop
                attempts.create_task(self._attempt(assignment, stop), name=f"agent-{assignment.agent}")
            if claimed:
                continue  # there may be more, of another run
            if self._once and not self._running:
                return
            heed_cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._wake.wait()

    async def _claim(self, want: int) -> list[Assignment]:
        try:
            return list(await self._plane.claim(self._capability, want=want, lease_seconds=self._lease_seconds))
        except Unavailable as error:
            log.warning("cannot claim", extra={"error": error.message})
            await asyncio.sleep(_AWAY_SECONDS)
            return []

    async def _attempt(self, assignment: Assignment, stop: Stop) -> None:
        try:
            await run_attempt(self._tools, assignment, self._keeper, stop)
        except asyncio.CancelledError:
            raise
        except Exception:
            # The edge: a defect of ours ends this attempt by its lease running out, and nobody else's.
            log.exception("an attempt was abandoned", extra={"agent": assignment.agent})
        finally:
            self._running.pop(assignment.lease.attempt_id, None)
            self._wake.set()

    async def _listen(self) -> None:
        """A hint may mean work, or a directive for something that runs here."""
        while True:
            heed_cancel()
            try:
                await self._plane.wait_for_work(timeout_seconds=self._poll_seconds)
            except Unavailable:
                await asyncio.sleep(_AWAY_SECONDS)
            self._wake.set()
            if self._running:
                self._keeper.poke()

    async def _beat(self) -> None:
        while True:
            info = WorkerInfo(
                self._capability,
                socket.gethostname(),
                os.getpid(),
                __version__,
                "draining" if self._draining else "active",
                {
                    "sandbox": self._tools.sandbox.name,
                    "machine": machine() or "",
                    "process_started": start_time(os.getpid()) or "",
                },
            )
            try:
                await self._plane.register(info)
            except Unavailable as error:
                log.warning("no heartbeat", extra={"error": error.message})
            heed_cancel()
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    async def _tidy(self) -> None:
        while True:
            try:
                await keep_orphans(self._tools)
            except (SpawndError, OSError) as error:
                log.warning("orphans not kept", extra={"error": str(error)})
            heed_cancel()
            await asyncio.sleep(_ORPHANS_SECONDS)
