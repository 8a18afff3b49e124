"""Facts on their way to the record: redacted, numbered, in small batches, each written once.

A batch that gets no answer is sent again under the same numbers until it is answered or the lease is surely lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from spawnd.contracts.control_plane import ControlPlane, Lease
from spawnd.domain.facts import Fact, Stored
from spawnd.domain.failures import Failure
from spawnd.domain.settle import StopCause
from spawnd.errors import StaleLease, Unavailable
from spawnd.process.cancellation import heed_cancel
from spawnd.telemetry.redact import Redactor
from spawnd.worker.stopping import Stop

log = logging.getLogger(__name__)

_BATCH = 64
_WAITING_MAX = 1024
_PAUSE_SECONDS = 0.1
_RETRY_SECONDS = 1.0

_F = TypeVar("_F")
_T = TypeVar("_T")


class Recorder:
    """One per attempt. Open it with ``async with``; ``flush`` before leaving it, or what is queued is dropped."""

    def __init__(self, plane: ControlPlane, lease: Lease, stop: Stop) -> None:
        self.redactor = Redactor()
        self.capture_raw = False
        self._plane = plane
        self._lease = lease
        self._stop = stop
        self._next = 1
        self._waiting: list[Fact] = []
        self._some = asyncio.Event()
        self._room = asyncio.Condition()
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.lost = False

    async def __aenter__(self) -> Recorder:
        self._task = asyncio.create_task(self._run(), name=f"recorder-{self._lease.attempt_id}")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def add(self, *facts: Fact) -> None:
        """Queue facts, redacted. Waits while too many are queued, so that a flood slows its source down."""
        async with self._room:
            await self._room.wait_for(lambda: len(self._waiting) < _WAITING_MAX or self.lost)
        self._waiting += [redacted(fact, self.redactor) for fact in facts]
        self._some.set()

    async def store(
        self, kind: str, data: bytes, *, content_type: str = "text/plain; charset=utf-8", name: str = "",
        truncated: bool = False, clean: bool = False,
    ) -> str:  # fmt: skip
        """Store bytes as an artifact; ``clean`` says that they are redacted already. Returns the sha-256."""
        if not clean and not self.capture_raw:
            data = (
                await asyncio.to_thread(self.redactor.bytes_, data) if len(data) > 65536 else self.redactor.bytes_(data)
            )
        sha256 = await self.patiently(lambda: self._plane.put_artifact(data))
        await self.add(Stored(kind, sha256, len(data), content_type, name, truncated))
        return sha256

    async def flush(self) -> None:
        """Write everything that is queued. Raises ``StaleLease`` if the lease is gone."""
        while self._waiting:
            await self._write()

    async def _run(self) -> None:
        while not self.lost:
            heed_cancel()
            await self._some.wait()
            self._some.clear()
            if len(self._waiting) < _BATCH:
                await asyncio.sleep(_PAUSE_SECONDS)
            with contextlib.suppress(StaleLease):
                await self.flush()

    async def _write(self) -> None:
        async with self._writing:
            batch = self._waiting[:_BATCH]
            if not batch:
                return
            try:
                directive = await self.patiently(lambda: self._plane.record(self._lease, self._next, batch))
            except StaleLease:
                self.lost = True
                self._waiting.clear()
                self._stop.set(StopCause.LEASE_LOST)
                raise
            finally:
                async with self._room:
                    self._room.notify_all()
            del self._waiting[: len(batch)]
            self._next += len(batch)
            if directive.stop is not None:
                self._stop.set(directive.stop)

    async def patiently(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat ``call`` while the system is away; it is idempotent. A lost lease ends the patience."""
        while True:
            try:
                return await call()
            except Unavailable as error:
                if not error.retryable:
                    raise  # a full disk: only somebody who sees the failure can mend it
                if self._stop.cause is StopCause.LEASE_LOST:
                    raise StaleLease("The lease was lost while the system was away.") from error
                log.warning("the record waits", extra={"error": error.message})
                await asyncio.sleep(_RETRY_SECONDS)


def redacted(fact: _F, redactor: Redactor) -> _F:
    """``fact`` with every string in it redacted."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(fact):  # type: ignore[arg-type]  # facts are dataclasses
        value = getattr(fact, field.name)
        if isinstance(value, Failure):
            changes[field.name] = redacted(value, redactor)
        elif isinstance(value, str) and type(value) is str:
            changes[field.name] = redactor.text(value)
        elif isinstance(value, dict | list):
            changes[field.name] = redactor.value(value)
        elif isinstance(value, tuple):
            changes[field.name] = tuple(redactor.value(item) for item in value)
    return dataclasses.replace(fact, **changes)  # type: ignore[type-var]  # as above
