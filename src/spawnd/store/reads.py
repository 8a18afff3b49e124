"""Questions about runs: each answers with documents of ``wire``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from spawnd.domain.failures import FailureClass, next_step
from spawnd.domain.states import AgentState, RunState, WaitReason
from spawnd.domain.waiting import AgentFacts, RunFacts, Server, why
from spawnd.store.database import Database, Row, Transaction
from spawnd.store.workers import STALE_SECONDS
from spawnd.wire.evidence import (
    ArtifactRow,
    CheckRow,
    MessageRow,
    ProvenanceRow,
    ToolCallRow,
    Trace,
)
from spawnd.wire.runs import AgentRow, AttemptRow, RunDocument, RunRow, Telemetry, Waiting

_RUN = """
SELECT r.run_id, r.name, r.state AS status, r.state_reason AS status_reason, r.created_at, r.started_at,
       r.finished_at, r.source_repo, r.source_ref, r.source_sha, r.submitted_via, r.agents_total, r.agents_open,
       r.agents_running, r.concurrency_limit, r.spent_usd AS cost_usd, r.cost_budget_usd, r.on_exceed, r.last_seq,
       r.notices, EXISTS (SELECT 1 FROM agents a WHERE a.run = r.id AND a.cost_unknown) AS cost_unknown,
       (SELECT count(*) FROM agents a WHERE a.run = r.id AND a.state = 'completed') AS agents_completed
FROM runs r
"""

# Index: runs_recent. The cursor is the run id of the last row of the page before.
_LIST = (
    _RUN
    + """
WHERE (%(before)s::text IS NULL OR (r.created_at, r.id) < (SELECT created_at, id FROM runs WHERE run_id = %(before)s))
  AND (%(status)s::text[] IS NULL OR r.state = ANY(%(status)s::text[]))
ORDER BY r.created_at DESC, r.id DESC LIMIT %(limit)s
"""
)

_AGENTS = """
SELECT a.*, a.spec->>'type' AS type, a.spec->>'role' AS role, a.spec->>'model' AS model,
       coalesce((SELECT array_agg(d.name ORDER BY d.position) FROM edges e JOIN agents d ON d.id = e.parent
                 WHERE e.child = a.id), '{}') AS depends_on,
       coalesce((SELECT array_agg(d.name ORDER BY d.position) FROM edges e JOIN agents d ON d.id = e.parent
                 WHERE e.child = a.id AND d.state <> 'completed'), '{}') AS unmet_names,
       s.session_id, p.branch, jsonb_array_length(p.files) AS files_changed, p.insertions, p.deletions,
       coalesce(c.passed, 0) AS checks_passed, coalesce(c.failed, 0) AS checks_failed,
       q.until AS quota_until, q.message AS quota_message
FROM agents a
LEFT JOIN LATERAL (SELECT id FROM attempts t WHERE t.agent = a.id ORDER BY number DESC LIMIT 1) last ON true
LEFT JOIN LATERAL (SELECT session_id FROM sessions s WHERE s.agent = a.id ORDER BY attempt DESC LIMIT 1) s ON true
LEFT JOIN LATERAL (SELECT * FROM provenance p WHERE p.agent = a.id ORDER BY attempt DESC LIMIT 1) p ON true
LEFT JOIN LATERAL (SELECT count(*) FILTER (WHERE passed) AS passed, count(*) FILTER (WHERE NOT passed) AS failed
                   FROM checks c WHERE c.attempt = last.id) c ON true
LEFT JOIN quota_windows q ON q.credential = a.credential AND q.until > clock()
WHERE a.run = %s ORDER BY a.position
"""

_ATTEMPTS = """
SELECT a.name AS agent, t.number AS attempt_number, t.state AS status, t.worker_id, t.claimed_at, t.ended_at,
       t.failure_class, t.failure_message, s.session_id, s.resumed AS session_resumed, u.cost_usd
FROM attempts t JOIN agents a ON a.id = t.agent LEFT JOIN sessions s ON s.attempt = t.id
LEFT JOIN usage u ON u.attempt = t.id
WHERE t.run = %s ORDER BY t.id
"""

_OF = """
JOIN attempts t ON t.id = x.attempt JOIN agents a ON a.id = t.agent
WHERE x.run = %(run)s AND (%(agent)s::text IS NULL OR a.name = %(agent)s)
"""

_ARTIFACTS = f"""
SELECT x.id, x.kind, x.name, a.name AS agent, t.number AS attempt, x.size_bytes, x.sha256, x.content_type,
       x.truncated, x.created_at
FROM artifacts x {_OF} ORDER BY x.id LIMIT %(limit)s
"""

_CHECKS = f"""
SELECT a.name AS agent, t.number AS attempt, x.name, x.command, x.passed, x.exit_code, x.duration_seconds,
       x.output_tail, x.output_sha256, x.at
FROM checks x {_OF} ORDER BY x.id LIMIT %(limit)s
"""

_PROVENANCE = f"""
SELECT a.name AS agent, t.number AS attempt, x.accepted, r.source_repo, x.source_sha, x.base_sha, x.head_sha, x.ref,
       x.branch, x.patch_sha256, x.bundle_sha256, x.files, x.insertions, x.deletions, x.commits, x.at
FROM provenance x JOIN runs r ON r.id = x.run {_OF} ORDER BY x.attempt LIMIT %(limit)s
"""

_MESSAGES = f"""
SELECT a.name AS agent, t.number AS attempt, x.role, x.body AS text, x.at
FROM messages x {_OF} ORDER BY x.id LIMIT %(limit)s
"""

_TOOL_CALLS = f"""
SELECT a.name AS agent, t.number AS attempt, x.call_id, x.name, x.input, x.output, x.is_error, x.exit_code, x.at,
       x.ended_at
FROM tool_calls x {_OF} ORDER BY x.at, x.call_id LIMIT %(limit)s
"""

_INVOCATIONS = f"""
SELECT a.name AS agent, t.number AS attempt, x.kind, x.started_at, x.duration_seconds, x.exit_code, x.detail
FROM invocations x {_OF} ORDER BY x.id LIMIT %(limit)s
"""

_FAILURES = f"""
SELECT a.name AS agent, t.number AS attempt, x.source, x.class, x.message, x.detail, x.at
FROM failures x {_OF} ORDER BY x.id LIMIT %(limit)s
"""


async def runs(
    database: Database, *, limit: int, before: str | None, status: Sequence[str]
) -> tuple[list[RunRow], str | None]:
    """A page of runs, newest first, and the cursor of the next page if there is one."""
    async with database.connection() as connection:
        rows = await connection.rows(_LIST, {"limit": limit + 1, "before": before, "status": list(status) or None})
    page = [RunRow(**row) for row in rows[:limit]]
    return page, page[-1].run_id if len(rows) > limit else None


async def run(database: Database, key: int) -> RunDocument:
    """Everything about one run that fits on a screen, from one snapshot."""
    async with database.transaction() as tx:
        await tx.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        head = await tx.row(_RUN + "WHERE r.id = %s", [key])
        held = await tx.row(
            "SELECT ending, on_exceed <> 'warn' AND spent_usd >= cost_budget_usd AS over_budget"
            " FROM runs WHERE id = %s",
            [key],
        )
        assert head is not None and held is not None
        agents = await tx.rows(_AGENTS, [key])
        attempts = await tx.rows(_ATTEMPTS, [key])
        servers = await _servers(tx)
        stored = await tx.row("SELECT count(*) AS n FROM artifacts WHERE run = %s", [key])
        assert stored is not None
    row = RunRow(**head)
    facts = RunFacts(
        state=RunState(row.status),
        ending=held["ending"],
        state_reason=row.status_reason,
        concurrency_limit=row.concurrency_limit,
        agents_running=row.agents_running,
        over_budget=held["over_budget"],
    )
    return RunDocument(
        run=row,
        agents=tuple(_agent(agent, row.run_id, facts, servers) for agent in agents),
        attempts=tuple(AttemptRow(**attempt) for attempt in attempts),
        telemetry=Telemetry(events=row.last_seq, artifacts=stored["n"]),
    )


async def artifacts(database: Database, key: int, *, agent: str | None, limit: int) -> list[ArtifactRow]:
    return [ArtifactRow(**row) for row in await _of(database, _ARTIFACTS, key, agent, limit)]


async def checks(database: Database, key: int, *, agent: str | None, limit: int) -> list[CheckRow]:
    return [CheckRow(**row) for row in await _of(database, _CHECKS, key, agent, limit)]


async def provenance(database: Database, key: int, *, agent: str | None, limit: int) -> list[ProvenanceRow]:
    return [ProvenanceRow(**row) for row in await _of(database, _PROVENANCE, key, agent, limit)]


async def trace(database: Database, key: int, *, agent: str | None, limit: int) -> Trace:
    """Messages, tool calls, invocations and failures, each in order, at most ``limit`` of each."""
    return Trace(
        messages=tuple(MessageRow(**row) for row in await _of(database, _MESSAGES, key, agent, limit)),
        tool_calls=tuple(ToolCallRow(**row) for row in await _of(database, _TOOL_CALLS, key, agent, limit)),
        invocations=tuple(await _of(database, _INVOCATIONS, key, agent, limit)),
        failures=tuple(await _of(database, _FAILURES, key, agent, limit)),
    )


async def agent_names(database: Database, key: int) -> list[str]:
    async with database.connection() as connection:
        rows = await connection.rows("SELECT name FROM agents WHERE run = %s ORDER BY position", [key])
    return [row["name"] for row in rows]


async def _of(database: Database, query: str, key: int, agent: str | None, limit: int) -> list[Row]:
    async with database.connection() as connection:
        return await connection.rows(query, {"run": key, "agent": agent, "limit": limit})


async def _servers(tx: Transaction) -> list[Server]:
    rows = await tx.rows(
        "SELECT labels, runtimes, state = 'draining' AS draining FROM workers"
        " WHERE heartbeat_at > clock() - make_interval(secs => %s)",
        [STALE_SECONDS],
    )
    return [Server(row["labels"], row["runtimes"], row["draining"]) for row in rows]


def _agent(row: dict[str, Any], run_id: str, run: RunFacts, servers: Sequence[Server]) -> AgentRow:
    state = AgentState(row["state"])
    step = None
    if row["failure_class"]:
        step = next_step(FailureClass(row["failure_class"]), run_id=run_id, agent=row["name"])
    reason = why(
        AgentFacts(
            state=state,
            wait_reason=WaitReason(row["wait_reason"]) if row["wait_reason"] else None,
            due_at=row["due_at"],
            failure_class=row["failure_class"],
            failure_message=row["failure_message"],
            runtime=row["runtime"],
            labels=row["labels"],
            unmet_names=row["unmet_names"],
            quota_until=row["quota_until"],
            quota_message=row["quota_message"],
            next_step=step or "",
        ),
        run,
        servers,
    )
    since: datetime = row["since"]
    shown = {name: row[name] for name in AgentRow.model_fields if name in row}
    return AgentRow(
        **{
            **shown,
            "status": state.value,
            "reason": row["failure_message"] or (reason.text if reason else None),
            "next_step": step,
            "waiting": None
            if reason is None
            else Waiting(code=reason.code, text=reason.text, since=since, until=reason.until, who=reason.who),
        }
    )
