"""Limits on memory and processes, held by looking; a limit on processors, by naming those that may be used.

A control group would be exact; it needs a delegated one, which few machines give. So everything in a room is
summed a few times a second, and a room beyond its bounds is killed, saying which bound it was. What a room starts
is bound to so many processors, rounded up to whole ones. That keeps a build from taking the machine, not a program
from leaving them that means to.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import signal
from pathlib import Path
from types import TracebackType

from spawnd.contracts.sandbox import Limits
from spawnd.process.orphans import descendants

_INTERVAL_SECONDS = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Rooms take turns, and workers begin anywhere, so that they do not all share the first processors.
_turns = itertools.count(os.getpid())


class Watch:
    """Watches the processes of a room while its block lasts. Costs nothing when nothing is limited."""

    def __init__(self, limits: Limits) -> None:
        self.verdict: str | None = None
        self.processors = _processors(limits.cpus)
        self._limits = limits
        self._pids: dict[int, int] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, pid: int, *, walls: int = 0) -> None:
        """Watch what was started. Of its processes, ``walls`` are the sandbox's own and do not count."""
        self._pids[pid] = walls

    def forget(self, pid: int) -> None:
        self._pids.pop(pid, None)

    async def __aenter__(self) -> Watch:
        if self._limits.memory_mb is not None or self._limits.pids is not None:
            self._task = asyncio.create_task(self._run(), name="room-watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            everything = self._pids.keys() | descendants(*self._pids)
            if (verdict := self._judge(everything)) is not None:
                self.verdict = verdict
                for each in everything:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(each, signal.SIGKILL)

    def _judge(self, pids: set[int]) -> str | None:
        count = len(pids) - sum(self._pids.values())
        if self._limits.pids is not None and count > self._limits.pids:
            return f"it had {count} processes; resources.pids allows {self._limits.pids}"
        if self._limits.memory_mb is not None:
            used = sum(_resident(pid) for pid in pids) // (1024 * 1024)
            if used > self._limits.memory_mb:
                return f"it used {used} MiB; resources.memory_mb allows {self._limits.memory_mb}"
        return None


def _processors(cpus: float | None) -> list[int]:
    """Those that a room keeps to; none are named where all are allowed, or where the system cannot bind a process."""
    if cpus is None or not hasattr(os, "sched_getaffinity"):
        return []
    ours = sorted(os.sched_getaffinity(0))
    many = math.ceil(cpus)
    if many >= len(ours):
        return []
    first = next(_turns) * many
    return [ours[(first + index) % len(ours)] for index in range(many)]


def _resident(pid: int) -> int:
    """Resident memory of a process in bytes; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
