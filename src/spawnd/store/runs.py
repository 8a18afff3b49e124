"""Runs: written once with all their agents, locked before every change, ended when their last agent has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg.types.json import Jsonb

from spawnd.contracts.bus import Topic
from spawnd.domain.rollup import ending_state
from spawnd.domain.states import RunState, sources
from spawnd.errors import StaleLease
from spawnd.store.database import Row, Transaction
from spawnd.store.events import Event, append


@dataclass(frozen=True, slots=True)
class LockedRun:
    """A run whose row this transaction holds. Its counters cannot change under it."""

    key: int
    run_id: str
    state: RunState
    ending: str | None
    agents_open: int
    agents_ready: int
    agents_running: int
    cost_budget_usd: Decimal
    on_exceed: str
    spent_usd: Decimal
    budget_warned: bool
    breaker_threshold: int | None
    breaker_action: str | None
    breaker_failures: int


@dataclass(frozen=True, slots=True)
class NewAgent:
    """An agent to insert. ``parents`` are positions in the same list."""

    name: str
    spec: dict[str, Any]
    runtime: str
    labels: Sequence[str]
    priority: int
    credential: str | None
    on_failure: str
    retry_count: int
    max_cost_usd: Decimal | None
    parents: Sequence[int]


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to insert, with everything in it."""

    run_id: str
    name: str
    plan: dict[str, Any]
    plan_sha256: str
    notices: Sequence[str]
    source_repo: str
    source_ref: str | None
    via: str
    concurrency_limit: int | None
    cost_budget_usd: Decimal
    on_exceed: str
    breaker_threshold: int | None
    breaker_action: str | None
    agents: Sequence[NewAgent]


# One statement, one commit: the run with its agents, edges, first event and wake-up. The unique index on run_id decides
# between two submitters of one id; the loser inserts nothing.
_INSERT = """
WITH run AS (
    INSERT INTO runs (run_id, name, plan, plan_sha256, notices, source_repo, source_ref, submitted_via,
                      concurrency_limit, cost_budget_usd, on_exceed, breaker_threshold, breaker_action,
                      agents_total, agents_open, agents_ready, last_seq)
    VALUES (%(run_id)s, %(name)s, %(plan)s, %(plan_sha256)s, %(notices)s, %(source_repo)s, %(source_ref)s, %(via)s,
            %(concurrency_limit)s, %(cost_budget_usd)s, %(on_exceed)s, %(breaker_threshold)s, %(breaker_action)s,
            %(total)s, %(total)s, %(ready)s, 1)
    ON CONFLICT (run_id) DO NOTHING RETURNING id
), agent AS (
    INSERT INTO agents (run, name, position, spec, state, runtime, labels, priority, credential, unmet,
                        on_failure, retry_count, max_cost_usd)
    SELECT run.id, a.name, a.place, a.spec, CASE WHEN a.unmet = 0 THEN 'ready' ELSE 'blocked' END, a.runtime,
           ARRAY(SELECT jsonb_array_elements_text(a.labels)), a.priority, a.credential, a.unmet, a.on_failure,
           a.retry_count, a.max_cost
    FROM run, unnest(%(names)s::text[], %(specs)s::jsonb[], %(runtimes)s::text[], %(labels)s::jsonb[],
                     %(priorities)s::integer[], %(credentials)s::text[], %(unmet)s::integer[], %(on_failure)s::text[],
                     %(retries)s::integer[], %(max_costs)s::numeric[])
         WITH ORDINALITY AS a (name, spec, runtime, labels, priority, credential, unmet, on_failure, retry_count,
                               max_cost, place)
    ORDER BY a.place
    RETURNING id, position
), edge AS (
    INSERT INTO edges (run, parent, child)
    SELECT run.id, parent.id, child.id
    FROM run, unnest(%(parents)s::integer[], %(children)s::integer[]) AS e (parent, child)
    JOIN agent parent ON parent.position = e.parent JOIN agent child ON child.position = e.child
), told AS (
    INSERT INTO events (run, seq, at, type, data) SELECT id, 1, clock(), 'run_created', %(created)s FROM run
), woken AS (
    INSERT INTO outbox (topic, key) SELECT %(wake)s, '' FROM run
)
SELECT id FROM run
"""

# Every change of a run begins here. NO KEY: rows that refer to the run may still be inserted meanwhile.
_LOCKED = """
SELECT id AS key, run_id, state, ending, agents_open, agents_ready, agents_running, cost_budget_usd, on_exceed,
       spent_usd, budget_warned, breaker_threshold, breaker_action, breaker_failures
FROM runs WHERE id = {} FOR NO KEY UPDATE
"""
_LOCK = _LOCKED.format("%s")
_LOCK_OF = _LOCKED.format("(SELECT run FROM attempts WHERE id = %s)")


async def insert(tx: Transaction, new: NewRun) -> int | None:
    """Insert a run with everything in it, ready to be claimed; its key, or None if the run id is taken."""
    edges = [(parent + 1, child + 1) for child, agent in enumerate(new.agents) for parent in agent.parents]
    row = await tx.row(
        _INSERT,
        {
            "run_id": new.run_id,
            "name": new.name,
            "plan": Jsonb(new.plan),
            "plan_sha256": new.plan_sha256,
            "notices": Jsonb(list(new.notices)),
            "source_repo": new.source_repo,
            "source_ref": new.source_ref,
            "via": new.via,
            "concurrency_limit": new.concurrency_limit,
            "cost_budget_usd": new.cost_budget_usd,
            "on_exceed": new.on_exceed,
            "breaker_threshold": new.breaker_threshold,
            "breaker_action": new.breaker_action,
            "total": len(new.agents),
            "ready": sum(1 for agent in new.agents if not agent.parents),
            "names": [agent.name for agent in new.agents],
            "specs": [Jsonb(agent.spec) for agent in new.agents],
            "runtimes": [agent.runtime for agent in new.agents],
            "labels": [Jsonb(list(agent.labels)) for agent in new.agents],
            "priorities": [agent.priority for agent in new.agents],
            "credentials": [agent.credential for agent in new.agents],
            "unmet": [len(agent.parents) for agent in new.agents],
            "on_failure": [agent.on_failure for agent in new.agents],
            "retries": [agent.retry_count for agent in new.agents],
            "max_costs": [agent.max_cost_usd for agent in new.agents],
            "parents": [parent for parent, _ in edges],
            "children": [child for _, child in edges],
            "created": Jsonb({"name": new.name, "agents": len(new.agents), "via": new.via}),
            "wake": Topic.WORK.value,
        },
    )
    return None if row is None else int(row["id"])


async def lock(tx: Transaction, run: int) -> LockedRun:
    """Take the run's row. The caller's next statements see everything that was committed before."""
    row = await tx.row(_LOCK, [run])
    if row is None:
        raise LookupError(f"run {run} is gone")  # deleted between look-up and lock; retention only
    return LockedRun(**{**row, "state": RunState(row["state"])})


async def lock_of(tx: Transaction, attempt: int) -> LockedRun:
    """Take the row of the run that an attempt belongs to. Raises ``StaleLease`` if it is not on record."""
    row = await tx.row(_LOCK_OF, [attempt])
    if row is None:
        raise StaleLease(f"Attempt {attempt} is not on record.")
    return LockedRun(**{**row, "state": RunState(row["state"])})


async def end_if_done(tx: Transaction, run: int) -> RunState | None:
    """Enter the final state if no agent is open any more. Scans the run's agents once, at its very end."""
    row = await tx.row("SELECT agents_open, ending, state FROM runs WHERE id = %s", [run])
    assert row is not None
    if row["agents_open"] > 0:
        return None
    counts = await tx.rows("SELECT state, count(*) AS n FROM agents WHERE run = %s GROUP BY state", [run])
    final = ending_state({count["state"]: count["n"] for count in counts}, row["ending"])
    moved = await tx.count(
        "UPDATE runs SET state = %(final)s, finished_at = clock(), ending = NULL"
        " WHERE id = %(run)s AND state = ANY(%(sources)s)",
        {"run": run, "final": final.value, "sources": [state.value for state in sources(final)]},
    )
    if not moved:
        return None
    await append(tx, run, [Event(f"run_{final.value}", data={row["state"]: row["n"] for row in counts})])
    return final


async def set_state(tx: Transaction, run: int, state: RunState, reason: str | None) -> bool:
    """Move the run; False if it is not in a state that may enter ``state``."""
    return bool(
        await tx.count(
            "UPDATE runs SET state = %(state)s, state_reason = %(reason)s,"
            " finished_at = CASE WHEN %(open)s THEN NULL ELSE clock() END"
            " WHERE id = %(run)s AND state = ANY(%(sources)s)",
            {
                "run": run,
                "state": state.value,
                "reason": reason,
                "open": state in (RunState.RUNNING, RunState.PAUSED),
                "sources": [source.value for source in sources(state)],
            },
        )
    )


async def find(tx: Transaction, run_id: str) -> Row | None:
    """The run's key, state and plan digest by its run id."""
    return await tx.row(
        "SELECT id, run_id, state, plan_sha256, source_repo, source_ref FROM runs WHERE run_id = %s", [run_id]
    )


async def matching(tx: Transaction, prefix: str, *, limit: int) -> list[str]:
    """Run ids that begin with ``prefix``, newest first."""
    rows = await tx.rows(
        "SELECT run_id FROM runs WHERE starts_with(run_id, %s) ORDER BY created_at DESC, id DESC LIMIT %s",
        [prefix, limit],
    )
    return [row["run_id"] for row in rows]
