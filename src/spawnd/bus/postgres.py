"""Hints over LISTEN/NOTIFY: no server but the database.

NOTIFY inside a committing transaction takes a lock that serialises all commits of the server, so hints are sent
on a connection of their own, after the commit, merged, and without waiting for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import psycopg
from psycopg import sql

from spawnd.contracts.bus import Hint, Topic
from spawnd.process.cancellation import heed_cancel

log = logging.getLogger(__name__)

_RECONNECT_SECONDS = 1.0


class PostgresBus:
    """One channel per schema; the payload is ``topic:key``."""

    def __init__(self, conninfo: str, *, schema: str) -> None:
        self._conninfo = conninfo
        self._channel = f"{schema}_hints"
        self._sender: psycopg.AsyncConnection[tuple[object, ...]] | None = None
        self._sending = asyncio.Lock()

    async def __aenter__(self) -> PostgresBus:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._sender is not None:
            await self._sender.close()

    async def publish(self, hints: Collection[Hint]) -> None:
        if not hints:
            return
        payloads = sorted({f"{hint.topic.value}:{hint.key}" for hint in hints})
        async with self._sending:
            try:
                if self._sender is None or self._sender.closed:
                    self._sender = await self._connect()
                    await self._sender.execute("SET synchronous_commit = off")
                await self._sender.execute(
                    "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload",
                    [self._channel, payloads],
                )
            except psycopg.Error as error:
                log.warning("hints not sent", extra={"error": _first_line(error)})
                if self._sender is not None:
                    await self._sender.close()
                    self._sender = None

    @asynccontextmanager
    async def listen(self, topics: Collection[Topic]) -> AsyncIterator[PostgresEar]:
        ear = PostgresEar(frozenset(topics))
        # The first connection is made here, so that nothing sent after ``listen`` has returned is missed.
        try:
            first: psycopg.AsyncConnection[tuple[object, ...]] | None = await self._subscribe()
        except psycopg.Error:
            first = None
        task = asyncio.create_task(self._hear(ear, first), name="bus-ear")
        try:
            yield ear
        finally:
            task.cancel()
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            finally:
                # A task that is cancelled before its first step closes nothing.
                if first is not None:
                    await first.close()

    async def _connect(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        return await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True, connect_timeout=10)

    async def _subscribe(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        connection = await self._connect()
        try:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        except BaseException:  # a cancel too: nobody else knows of the connection yet
            await connection.close()
            raise
        return connection

    async def _hear(self, ear: PostgresEar, connection: psycopg.AsyncConnection[tuple[object, ...]] | None) -> None:
        while True:
            try:
                if connection is None:
                    connection = await self._subscribe()
                    ear.put(frozenset(Hint(topic) for topic in ear.topics))  # some may have been lost meanwhile
                heed_cancel()
                async for note in connection.notifies():
                    topic, _, key = note.payload.partition(":")
                    with contextlib.suppress(ValueError):  # a topic of a newer version
                        ear.put(frozenset({Hint(Topic(topic), key)}))
            except psycopg.Error as error:
                log.warning("hints interrupted", extra={"error": _first_line(error)})
                heed_cancel()
                await asyncio.sleep(_RECONNECT_SECONDS)
            finally:
                if connection is not None:
                    await connection.close()
                    connection = None


class PostgresEar:
    """A subscription; ``put`` is for the bus alone."""

    def __init__(self, topics: frozenset[Topic]) -> None:
        self.topics = topics
        self._heard: set[Hint] = set()
        self._some = asyncio.Event()

    def put(self, hints: frozenset[Hint]) -> None:
        wanted = {hint for hint in hints if hint.topic in self.topics}
        if wanted:
            self._heard |= wanted
            self._some.set()

    async def wait(self, *, timeout_seconds: float) -> frozenset[Hint]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._some.wait()
        self._some.clear()
        heard, self._heard = frozenset(self._heard), set()
        return heard


def _first_line(error: Exception) -> str:
    """What happened, without libpq's advice below."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
