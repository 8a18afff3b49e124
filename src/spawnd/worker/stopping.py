"""How a running attempt is stopped from outside: the cause first, then the cancellation."""

from __future__ import annotations

import asyncio

from spawnd.domain.settle import StopCause


class Stop:
    """One per attempt. The first cause stays, but for a lost lease: that one outranks all others."""

    def __init__(self) -> None:
        self.cause: StopCause | None = None
        self._task: asyncio.Task[object] | None = None

    def attach(self, task: asyncio.Task[object]) -> None:
        """The task to cancel; at once if a cause is there already."""
        self._task = task
        if self.cause is not None:
            task.cancel()

    def detach(self) -> None:
        """What follows is not to be cancelled any more."""
        self._task = None

    def set(self, cause: StopCause) -> None:
        first = self.cause is None
        if first or cause is StopCause.LEASE_LOST:
            self.cause = cause
        if first and self._task is not None:
            self._task.cancel()
