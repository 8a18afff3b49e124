"""Claim and renew: how work reaches workers, and how they keep it.

A claim takes one run's row and as many of its ready agents as fit. The cost is an index probe per claimable
run; finished, waiting and blocked agents are in no index that it touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spawnd.contracts.control_plane import Capability, Lease
from spawnd.domain.settle import StopCause
from spawnd.store.database import Database, Transaction
from spawnd.store.events import Event, append

_FITS = """
    a.state = 'ready' AND a.labels <@ %(labels)s::text[] AND a.runtime = ANY(%(runtimes)s::text[])
    AND (a.credential IS NULL OR NOT EXISTS (
        SELECT 1 FROM quota_windows q WHERE q.credential = a.credential AND q.until > clock()))
"""

# Locks: the row of the chosen run. Index: runs_claimable, then agents_ready once per claimable run.
# The agent of the highest priority wins; between equals the run that was served longest ago.
_PICK_RUN = f"""
SELECT r.id AS run, r.run_id, r.name, r.plan, r.source_repo, r.source_ref, r.source_sha,
       r.state, least(%(want)s, coalesce(r.concurrency_limit - r.agents_running, %(want)s)) AS free
FROM runs r CROSS JOIN LATERAL (
    SELECT a.priority FROM agents a WHERE a.run = r.id AND {_FITS}
    ORDER BY a.priority DESC, a.id LIMIT 1
) top
WHERE r.claimable AND (%(only)s::text IS NULL OR r.run_id = %(only)s)
ORDER BY top.priority DESC, r.last_claimed_at NULLS FIRST, r.id
LIMIT 1 FOR NO KEY UPDATE OF r
"""

# The run's row is held: nobody else can take these. Index: agents_ready.
_TAKE = f"""
WITH picked AS (
    SELECT a.id FROM agents a WHERE a.run = %(run)s AND {_FITS}
    ORDER BY a.priority DESC, a.id LIMIT %(free)s FOR NO KEY UPDATE
), taken AS (
    UPDATE agents a SET state = 'running', since = clock(), attempts = a.attempts + 1,
           started_at = coalesce(a.started_at, clock()), last_event = 'claimed'
    FROM picked WHERE a.id = picked.id
    RETURNING a.id, a.name, a.spec, a.attempts, a.priority
), attempt AS (
    INSERT INTO attempts (run, agent, number, state, worker_id, token)
    SELECT %(run)s, id, attempts, 'claimed', %(worker)s, nextval('fencing_tokens') FROM taken
    RETURNING id, agent, token
), lease AS (
    INSERT INTO leases (attempt, agent, run, token, worker_id, expires_at)
    SELECT id, agent, %(run)s, token, %(worker)s, clock() + make_interval(secs => %(seconds)s) FROM attempt
    RETURNING attempt, expires_at
)
SELECT t.id AS agent_key, t.name, t.spec, t.attempts AS number, attempt.id AS attempt, attempt.token,
       lease.expires_at
FROM taken t JOIN attempt ON attempt.agent = t.id JOIN lease ON lease.attempt = attempt.id
ORDER BY t.priority DESC, t.id
"""

_COUNT = """
UPDATE runs SET agents_running = agents_running + %(count)s, agents_ready = agents_ready - %(count)s,
       state = 'running', started_at = coalesce(started_at, clock()), last_claimed_at = clock()
WHERE id = %(run)s
"""

# Locks nothing but the leases themselves, in one order, so that renewals never meet.
_RENEW = """
UPDATE leases l SET expires_at = clock() + make_interval(secs => %(seconds)s)
FROM (SELECT attempt FROM leases WHERE attempt = ANY(%(attempts)s) ORDER BY attempt FOR UPDATE) mine,
     unnest(%(attempts)s::bigint[], %(tokens)s::bigint[]) AS held (attempt, token)
WHERE l.attempt = mine.attempt AND l.attempt = held.attempt AND l.token = held.token AND l.expires_at > clock()
RETURNING l.attempt, l.stop
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """One agent taken, with its run's facts."""

    lease: Lease
    run: int
    run_id: str
    run_name: str
    plan: dict[str, Any]
    source_repo: str
    source_ref: str | None
    source_sha: str | None
    agent_key: int
    agent: str
    spec: dict[str, Any]
    number: int
    expires_at: datetime


async def claim(database: Database, who: Capability, *, want: int, lease_seconds: float) -> list[Claimed]:
    """Take up to ``want`` ready agents of one run; empty if this worker can serve none now."""
    fits = {"labels": list(who.labels), "runtimes": list(who.runtimes), "want": want, "only": who.run_id}
    # First whatever is free at once; only if that finds nothing, wait for a run that somebody holds
    # at this moment (an append, a finish): skipping it too would lose the wake-up.
    for suffix in (" SKIP LOCKED", ""):
        async with database.transaction() as tx:
            run = await tx.row(_PICK_RUN + suffix, fits)
            if run is None:
                continue
            rows = await tx.rows(
                _TAKE,
                {
                    **fits,
                    "run": run["run"],
                    "free": run["free"],
                    "worker": who.worker_id,
                    "seconds": lease_seconds,
                },
            )
            if not rows:
                continue
            events = [
                Event("agent_claimed", row["agent_key"], row["number"], {"worker_id": who.worker_id}) for row in rows
            ]
            if run["state"] == "queued":
                events.insert(0, Event("run_started"))
            await tx.run(_COUNT, {"run": run["run"], "count": len(rows)})
            await append(tx, run["run"], events)
            return [
                Claimed(
                    lease=Lease(row["attempt"], row["token"]),
                    run=run["run"],
                    run_id=run["run_id"],
                    run_name=run["name"],
                    plan=run["plan"],
                    source_repo=run["source_repo"],
                    source_ref=run["source_ref"],
                    source_sha=run["source_sha"],
                    agent_key=row["agent_key"],
                    agent=row["name"],
                    spec=row["spec"],
                    number=row["number"],
                    expires_at=row["expires_at"],
                )
                for row in rows
            ]
    return []


async def renew(database: Database, leases: Sequence[Lease], *, lease_seconds: float) -> list[StopCause | None]:
    """Prolong; for each lease in order whether and why its attempt shall stop."""
    async with database.connection() as connection:
        rows = await connection.rows(
            _RENEW,
            {
                "seconds": lease_seconds,
                "attempts": [lease.attempt_id for lease in leases],
                "tokens": [lease.token for lease in leases],
            },
        )
    held = {row["attempt"]: row["stop"] for row in rows}
    return [
        (StopCause(held[lease.attempt_id]) if held[lease.attempt_id] else None)
        if lease.attempt_id in held
        else StopCause.LEASE_LOST
        for lease in leases
    ]


async def is_live(tx: Transaction, attempt: int) -> bool:
    """Whether a lease on the attempt is held and has not run out."""
    row = await tx.row("SELECT 1 FROM leases WHERE attempt = %s AND expires_at > clock()", [attempt])
    return row is not None
