"""The pool and the transaction: how everything in this room talks to PostgreSQL.

Statements are written as SQL and run through psycopg 3. A transaction retries nothing by itself: callers
hold the run's row first (see ``0001_foundation.sql``), so deadlocks and serialisation failures do not arise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import set_json_dumps
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout
from pydantic_core import to_json

from spawnd.errors import Closed, Unavailable

Row = dict[str, Any]
Params = Mapping[str, Any] | Sequence[Any] | None


def _dumps(value: object) -> bytes:
    # PostgreSQL's jsonb has no NUL character; agents print them.
    return to_json(value).replace(b"\\u0000", b"\\ufffd")


set_json_dumps(_dumps)


class Transaction:
    """One open transaction on one connection, or a connection in autocommit.

    In a transaction statements travel in a pipeline: ``run`` does not wait for its answer, and what fails is raised
    by the next call that does, at the latest at the end of the block.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Row], pipeline: psycopg.AsyncPipeline | None = None) -> None:
        self._connection = connection
        self._pipeline = pipeline

    async def run(self, query: str, params: Params = None) -> None:
        """Run a statement whose answer does not matter."""
        await self._connection.execute(query.encode(), params)

    async def count(self, query: str, params: Params = None) -> int:
        """Run a statement; returns the number of rows it touched."""
        cursor = await self._connection.execute(query.encode(), params)
        if self._pipeline is not None:
            await self._pipeline.sync()
        return cursor.rowcount

    async def rows(self, query: str, params: Params = None) -> list[Row]:
        return await (await self._connection.execute(query.encode(), params)).fetchall()

    async def row(self, query: str, params: Params = None) -> Row | None:
        return await (await self._connection.execute(query.encode(), params)).fetchone()


class Database:
    """A pool bound to one schema. Open it with ``async with``.

    ``conninfo`` is libpq's; ``schema`` is where spawnd's tables stand.
    Raises ``errors.Unavailable`` from ``open`` when the server cannot be reached.
    """

    def __init__(self, conninfo: str, *, schema: str, max_connections: int = 10) -> None:
        self.conninfo = conninfo
        self.schema = schema
        #: Set when the server did not answer, by whoever noticed.
        self.away = asyncio.Event()
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]] = AsyncConnectionPool(
            conninfo,
            min_size=1,
            max_size=max_connections,
            open=False,
            timeout=20,
            kwargs={"autocommit": True, "row_factory": dict_row, "connect_timeout": 10},
            configure=self._configure,
            check=None,
            name="spawnd",
        )

    async def _configure(self, connection: psycopg.AsyncConnection[Row]) -> None:
        # A worker that is cut off in mid-transaction must not hold a run's row for longer than this.
        await connection.execute(
            sql.SQL(
                "SELECT set_config('search_path', {schema}, false),"
                " set_config('lock_timeout', '30s', false),"
                " set_config('idle_in_transaction_session_timeout', '60s', false),"
                " set_config('TimeZone', 'UTC', false)"
            ).format(schema=self.schema)
        )

    async def __aenter__(self) -> Database:
        await self._pool.open(wait=False)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._pool.close(timeout=5)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Transaction]:
        """A connection in autocommit: each statement is its own transaction."""
        try:
            async with self._borrowed() as connection:
                yield Transaction(connection)
        except (PoolTimeout, PoolClosed, psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise self._gone(error) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One transaction: everything or nothing."""
        try:
            async with (
                self._borrowed() as connection,
                connection.pipeline() as pipeline,
                connection.transaction(),
            ):
                yield Transaction(connection, pipeline)
        except (PoolTimeout, PoolClosed, psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> Unavailable:
        self.away.set()
        return unavailable(error)

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[psycopg.AsyncConnection[Row]]:
        # psycopg and its pool wait with asyncio.wait_for, which before Python 3.12 loses a cancellation that arrives
        # together with the answer: whoever cancelled would wait for us for ever.
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        async with self._pool.connection() as connection:
            yield connection
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


def unavailable(error: Exception) -> Unavailable:
    """A psycopg connection failure in our own words."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, PoolClosed):
        return Closed(f"The database was left already: {first}")
    return Unavailable(
        f"The database does not answer: {first}",
        hint="Check SPAWND_DATABASE_URL, or run `spawnd doctor`.",
    )
