"""Claim and renew: how work reaches workers, and how they keep it.

A claim takes one run's row, then as many of its ready agents as fit. The cost is an index probe per claimable run;
finished, waiting and blocked agents are in no index that it touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spawnd.contracts.control_plane import Capability, Lease
from spawnd.domain.settle import StopCause
from spawnd.store.database import Database, Transaction

_FITS = """
    a.state = 'ready' AND a.labels <@ %(labels)s::text[] AND a.runtime = ANY(%(runtimes)s::text[])
    AND (a.credential IS NULL OR NOT EXISTS (
        SELECT 1 FROM quota_windows q WHERE q.credential = a.credential AND q.until > clock()))
"""

# The agent of the highest priority wins; between equals the run that was served longest ago.
# Index: runs_claimable, then agents_ready once per claimable run.
_HOLD = f"""
SELECT r.id AS run
FROM runs r CROSS JOIN LATERAL (
    SELECT a.priority FROM agents a WHERE a.run = r.id AND {_FITS}
    ORDER BY a.priority DESC, a.id LIMIT 1
) top
WHERE r.claimable AND (%(only)s::text IS NULL OR r.run_id = %(only)s)
ORDER BY top.priority DESC, r.last_claimed_at NULLS FIRST, r.id
LIMIT 1 FOR NO KEY UPDATE OF r
"""

# The run's row is held by the statement before, and this one sees everything that was committed until then. Both as one
# statement would read the counters and agents as they were before the row was locked: seen to exceed the limit.
_CLAIM = f"""
WITH chosen AS (
    SELECT r.id AS run, r.run_id, r.name, r.plan, r.source_repo, r.source_ref, r.source_sha,
           r.state = 'queued' AS fresh,
           least(%(want)s, coalesce(r.concurrency_limit - r.agents_running, %(want)s)) AS free
    FROM runs r WHERE r.id = %(run)s AND r.claimable
), taken AS (
    UPDATE agents SET state = 'running', since = clock(), attempts = agents.attempts + 1,
           started_at = coalesce(agents.started_at, clock()), last_event = 'agent claimed'
    FROM (
        SELECT picked.id FROM chosen c CROSS JOIN LATERAL (
            SELECT a.id FROM agents a WHERE a.run = c.run AND {_FITS}
            ORDER BY a.priority DESC, a.id LIMIT c.free FOR NO KEY UPDATE OF a
        ) picked
    ) picked
    WHERE agents.id = picked.id
    RETURNING agents.id, agents.name, agents.spec, agents.attempts, agents.priority
), attempt AS (
    INSERT INTO attempts (run, agent, number, state, worker_id, token)
    SELECT c.run, t.id, t.attempts, 'claimed', %(worker)s, nextval('fencing_tokens') FROM taken t, chosen c
    RETURNING id, agent, token
), lease AS (
    INSERT INTO leases (attempt, agent, run, token, worker_id, expires_at)
    SELECT a.id, a.agent, c.run, a.token, %(worker)s, clock() + make_interval(secs => %(seconds)s)
    FROM attempt a, chosen c RETURNING attempt, expires_at
), counted AS (
    UPDATE runs r SET agents_running = r.agents_running + n.taken, agents_ready = r.agents_ready - n.taken,
           state = 'running', started_at = coalesce(r.started_at, clock()), last_claimed_at = clock(),
           last_seq = r.last_seq + n.taken + c.fresh::int
    FROM chosen c, (SELECT count(*)::int AS taken FROM taken) n WHERE r.id = c.run AND n.taken > 0
    RETURNING r.id, r.last_seq - n.taken AS base, c.fresh
), told AS (
    INSERT INTO events (run, seq, at, type, agent, attempt, data)
    SELECT id, base, clock(), 'run_started', NULL, NULL, '{{}}'::jsonb FROM counted WHERE fresh
    UNION ALL
    SELECT counted.id, base + row_number() OVER (ORDER BY t.priority DESC, t.id), clock(), 'agent_claimed', t.id,
           t.attempts, jsonb_build_object('worker_id', %(worker)s::text)
    FROM counted, taken t
)
SELECT c.run, c.run_id, c.name AS run_name, c.plan, c.source_repo, c.source_ref, c.source_sha, t.id AS agent_key,
       t.name AS agent, t.spec, t.attempts AS number, attempt.id AS attempt, attempt.token, lease.expires_at
FROM chosen c, taken t JOIN attempt ON attempt.agent = t.id JOIN lease ON lease.attempt = attempt.id
ORDER BY t.priority DESC, t.id
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
    values = {
        "labels": list(who.labels),
        "runtimes": list(who.runtimes),
        "only": who.run_id,
        "want": want,
        "worker": who.worker_id,
        "seconds": lease_seconds,
    }
    # First a run that is free at once; only if there is none, wait for one that somebody holds at this moment (an
    # append, a finish): skipping it would lose the wake-up.
    for suffix in (" SKIP LOCKED", ""):
        async with database.transaction() as tx:
            held = await tx.row(_HOLD + suffix, values)
            rows = await tx.rows(_CLAIM, {**values, "run": held["run"]}) if held is not None else []
        if rows:
            return [Claimed(lease=Lease(row.pop("attempt"), row.pop("token")), **row) for row in rows]
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
