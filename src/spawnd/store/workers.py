"""Workers: who is there, and who has not been heard of."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.types.json import Jsonb

from spawnd.contracts.control_plane import WorkerInfo
from spawnd.store.database import Database
from spawnd.wire.workers import QuotaRow, WorkerRow

#: A worker whose heartbeat is older than this is shown as stale and serves nothing.
STALE_SECONDS = 60

_BEAT = """
INSERT INTO workers AS w (worker_id, hostname, pid, version, state, labels, runtimes, slots, detail)
VALUES (%(worker_id)s, %(hostname)s, %(pid)s, %(version)s, %(state)s, %(labels)s, %(runtimes)s, %(slots)s, %(detail)s)
ON CONFLICT (worker_id) DO UPDATE SET hostname = excluded.hostname, pid = excluded.pid, version = excluded.version,
    state = excluded.state, labels = excluded.labels, runtimes = excluded.runtimes, slots = excluded.slots,
    detail = excluded.detail, heartbeat_at = clock()
"""

_LIST = """
SELECT w.worker_id, w.hostname, w.pid, w.version, w.state AS status, w.labels, w.runtimes, w.slots, w.started_at,
       w.heartbeat_at, w.heartbeat_at < clock() - make_interval(secs => %(stale)s) AS stale,
       (SELECT count(*) FROM leases l WHERE l.worker_id = w.worker_id) AS running
FROM workers w ORDER BY w.heartbeat_at DESC
"""

_HOLDERS = """
SELECT w.worker_id, w.pid, w.detail->>'process_started' AS started FROM workers w
WHERE w.detail->>'machine' = %s AND EXISTS (SELECT 1 FROM leases l WHERE l.worker_id = w.worker_id)
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """A worker that holds leases. ``started`` is its process' start in the kernel's ticks, or empty."""

    worker_id: str
    pid: int
    started: str


async def holders(database: Database, machine: str) -> list[Holder]:
    """The workers of one machine that hold leases."""
    async with database.connection() as connection:
        return [Holder(**row) for row in await connection.rows(_HOLDERS, [machine])]


async def beat(database: Database, info: WorkerInfo) -> None:
    """Appear, or refresh the heartbeat."""
    async with database.connection() as connection:
        await connection.run(
            _BEAT,
            {
                "worker_id": info.capability.worker_id,
                "hostname": info.hostname,
                "pid": info.pid,
                "version": info.version,
                "state": info.state,
                "labels": sorted(info.capability.labels),
                "runtimes": sorted(info.capability.runtimes),
                "slots": info.capability.slots,
                "detail": Jsonb(dict(info.detail)),
            },
        )


async def remove(database: Database, worker_id: str) -> None:
    async with database.connection() as connection:
        await connection.run("DELETE FROM workers WHERE worker_id = %s", [worker_id])


async def forget_stale(database: Database) -> None:
    """Drop workers not heard of for a day that hold nothing."""
    async with database.connection() as connection:
        await connection.run(
            "DELETE FROM workers w WHERE heartbeat_at < clock() - interval '1 day'"
            " AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.worker_id = w.worker_id)"
        )


async def fleet(database: Database) -> tuple[int, list[WorkerRow], list[QuotaRow]]:
    """How many agents are ready, every worker, and the provider limits that are closed now."""
    async with database.connection() as connection:
        depth = await connection.row("SELECT coalesce(sum(agents_ready), 0) AS n FROM runs WHERE claimable")
        rows = await connection.rows(_LIST, {"stale": STALE_SECONDS})
        quotas = await connection.rows(
            "SELECT credential, until, stated, message, hits FROM quota_windows WHERE until > clock() ORDER BY until"
        )
    assert depth is not None
    return depth["n"], [WorkerRow(**row) for row in rows], [QuotaRow(**row) for row in quotas]
