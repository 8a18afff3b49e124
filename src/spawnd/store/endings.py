"""How attempts end: decided by ``domain.settle``, applied here in one transaction with all its consequences.

The run's row is held throughout, so counters, dependents, the circuit breaker and the run's own end are decided
once, whatever else ends at the same moment. Endings of one run that come together share a transaction: each alone
would wait for the same row, and for the disk.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg.types.json import Jsonb

from spawnd.contracts.bus import Topic
from spawnd.contracts.control_plane import Lease, Settled
from spawnd.domain.failures import Failure, FailureClass, next_step
from spawnd.domain.settle import Decision, Outcome, StopCause, Stopped, Succeeded, Tally, settle
from spawnd.domain.states import (
    AgentState,
    AttemptState,
    RunState,
    is_ended,
    sources,
)
from spawnd.errors import StaleLease
from spawnd.store import outbox
from spawnd.store.database import Database, Transaction
from spawnd.store.events import Event, append
from spawnd.store.runs import LockedRun, end_if_done, lock, lock_of, set_state

_FIND = """
SELECT t.id AS attempt, t.run, t.agent, t.number, t.state, t.token, t.failure_class,
       l.token IS NOT NULL AS held, l.worker_id AS holder, l.stop,
       coalesce(l.expires_at <= clock(), true) AS expired, clock() AS now,
       a.name, a.on_failure, a.retry_count, a.retries_used, a.free_used, a.losses, a.quota_parks, a.credential,
       a.state AS agent_state
FROM attempts t JOIN agents a ON a.id = t.agent LEFT JOIN leases l ON l.attempt = t.id AND l.token = t.token
WHERE t.id = ANY(%s)
"""

_END_ATTEMPTS = """
UPDATE attempts SET state = %(state)s, ended_at = clock(), failure_class = %(class)s, failure_message = %(message)s,
       reset_at = %(reset_at)s, detail = %(detail)s
WHERE id = ANY(%(attempts)s) AND state = ANY(%(sources)s)
"""

_END_AGENTS = """
UPDATE agents SET state = %(state)s, since = clock(), wait_reason = %(wait)s, due_at = %(due)s,
       failure_class = %(class)s, failure_message = %(message)s, final_message = coalesce(e.final, final_message),
       finished_at = CASE WHEN %(ended)s THEN clock() END,
       retries_used = retries_used + %(retries)s, free_used = free_used + %(free)s,
       losses = losses + %(losses)s, quota_parks = quota_parks + %(parks)s
FROM unnest(%(agents)s::bigint[], %(finals)s::text[]) AS e (agent, final)
WHERE id = e.agent AND state = ANY(%(sources)s)
"""

# Index: edges' primary key, then agents by id. The run's row is held, so no two parents count down at once.
_RELEASE = """
UPDATE agents c SET unmet = c.unmet - met.parents,
       state = CASE WHEN c.unmet = met.parents THEN 'ready' ELSE c.state END,
       since = CASE WHEN c.unmet = met.parents THEN clock() ELSE c.since END
FROM (SELECT child, count(*) AS parents FROM edges WHERE parent = ANY(%s) GROUP BY child) met
WHERE c.id = met.child AND c.state = 'blocked'
RETURNING c.id, c.state = 'ready' AS ready
"""

# Everything downstream that waits for this agent will never run.
_SKIP = """
WITH RECURSIVE below AS (
    SELECT e.child FROM edges e WHERE e.parent = %(agent)s
    UNION SELECT e.child FROM edges e JOIN below b ON e.parent = b.child
)
UPDATE agents a SET state = 'skipped', since = clock(), finished_at = clock(), failure_class = 'dependency',
       failure_message = %(message)s
FROM below WHERE a.id = below.child AND a.state = 'blocked' RETURNING a.id
"""

# What has not started, ended as one. Running agents are told to stop and end by themselves.
_END_IDLE = """
UPDATE agents SET state = %(state)s, since = clock(), finished_at = clock(), wait_reason = NULL, due_at = NULL,
       failure_class = %(class)s, failure_message = %(message)s
FROM (SELECT id, state AS was FROM agents
      WHERE run = %(run)s AND state IN ('blocked', 'ready', 'waiting')
        AND (%(only)s::bigint[] IS NULL OR id = ANY(%(only)s::bigint[]))) idle
WHERE agents.id = idle.id RETURNING agents.id, idle.was
"""

_STOP = """
UPDATE leases SET stop = %(cause)s
WHERE run = %(run)s AND stop IS NULL AND (%(only)s::bigint[] IS NULL OR agent = ANY(%(only)s::bigint[]))
RETURNING attempt, agent
"""

_CLOSE_WINDOW = """
INSERT INTO quota_windows AS q (credential, until, stated, message)
VALUES (%(credential)s, %(until)s, %(stated)s, %(message)s)
ON CONFLICT (credential) DO UPDATE SET until = greatest(q.until, excluded.until), stated = excluded.stated,
    message = excluded.message, hits = q.hits + 1, at = clock()
"""

_EXPIRED = """
SELECT attempt FROM leases WHERE expires_at <= clock() OR worker_id = ANY(%s) ORDER BY expires_at LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class _Ending:
    row: dict[str, Any]
    decision: Decision
    final_message: str | None


async def finish(database: Database, endings: Sequence[tuple[Lease, Outcome]]) -> list[Settled | StaleLease]:
    """End attempts of one run under their leases; for each in order how, or that its lease is no longer held."""
    answers: dict[int, Settled | StaleLease] = {}
    completed: list[_Ending] = []
    others: list[tuple[dict[str, Any], Outcome]] = []
    async with database.transaction() as tx:
        run, rows = await _locked(tx, [lease.attempt_id for lease, _ in endings])
        for lease, outcome in endings:
            row = rows.get(lease.attempt_id)
            if row is None or not row["held"] or row["token"] != lease.token:
                answers[lease.attempt_id] = _repeated(row, lease, outcome)
            elif isinstance(outcome, Succeeded):
                ending = _Ending(row, _decide(run, row, outcome), outcome.final_message)
                completed.append(ending)
                answers[lease.attempt_id] = Settled(ending.decision)
            else:
                others.append((row, outcome))
        await _apply(tx, run, completed)
        for row, outcome in others:  # each may end the run, and so decide about the next
            run = await lock(tx, run.key)
            ending = _Ending(row, _decide(run, row, outcome), None)
            await _apply(tx, run, [ending])
            answers[row["attempt"]] = Settled(ending.decision)
    return [answers[lease.attempt_id] for lease, _ in endings]


async def expire(database: Database, *, dead: Sequence[str] = (), limit: int = 100) -> list[tuple[str, str]]:
    """End attempts whose lease has run out or whose worker is known to be ``dead``; returns (run id, agent) of each."""
    async with database.connection() as connection:
        attempts = [row["attempt"] for row in await connection.rows(_EXPIRED, [list(dead), limit])]
    expired: list[tuple[str, str]] = []
    for attempt in attempts:
        async with database.transaction() as tx:
            run, rows = await _locked(tx, [attempt])
            row = rows[attempt]
            # It may have been renewed, finished or expired by another while we waited for the run.
            if not row["held"] or not (row["expired"] or row["holder"] in dead):
                continue
            await _apply(tx, run, [_Ending(row, _decide(run, row, Stopped(StopCause.LEASE_LOST)), None)])
            expired.append((run.run_id, row["name"]))
    return expired


async def stop_running(
    tx: Transaction, run: LockedRun, cause: StopCause, *, only: Sequence[int] | None = None
) -> list[int]:
    """Tell running attempts to stop; returns the agents told. They stay running until they obey."""
    rows = await tx.rows(_STOP, {"run": run.key, "cause": cause.value, "only": None if only is None else list(only)})
    await outbox.put(tx, [(Topic.STOP, str(row["attempt"])) for row in rows])
    return [row["agent"] for row in rows]


async def end_idle(
    tx: Transaction, run: LockedRun, state: AgentState, failure: Failure, *, only: Sequence[int] | None = None
) -> list[int]:
    """End agents that are not running; returns their keys. The caller ends the run if that was all."""
    rows = await tx.rows(
        _END_IDLE,
        {
            "run": run.key,
            "state": state.value,
            "class": failure.failure_class.value,
            "message": failure.message,
            "only": None if only is None else list(only),
        },
    )
    ready = sum(1 for row in rows if row["was"] == "ready")
    if rows:
        await tx.run(
            "UPDATE runs SET agents_open = agents_open - %s, agents_ready = agents_ready - %s WHERE id = %s",
            [len(rows), ready, run.key],
        )
        event = f"agent_{state.value}"
        data = {"class": failure.failure_class.value, "message": failure.message}
        await append(tx, run.key, [Event(event, row["id"], data=data) for row in rows])
    return [row["id"] for row in rows]


async def skip_below(tx: Transaction, run: int, agents: Iterable[int], message: str) -> int:
    """Skip what waits below ``agents``; returns how many."""
    skipped = 0
    for agent in agents:
        rows = await tx.rows(_SKIP, {"agent": agent, "message": message})
        skipped += len(rows)
        await append(tx, run, [Event("agent_skipped", row["id"], data={"message": message}) for row in rows])
    if skipped:
        await tx.run("UPDATE runs SET agents_open = agents_open - %s WHERE id = %s", [skipped, run])
    return skipped


async def _locked(tx: Transaction, attempts: Sequence[int]) -> tuple[LockedRun, dict[int, dict[str, Any]]]:
    """Take the run's row, then read its attempts as they are now."""
    run = await lock_of(tx, attempts[0])
    rows = {row["attempt"]: row for row in await tx.rows(_FIND, [list(attempts)])}
    assert all(row["run"] == run.key for row in rows.values()), "attempts of one run"
    return run, rows


def _repeated(row: dict[str, Any] | None, lease: Lease, outcome: Outcome) -> Settled | StaleLease:
    """The answer to an ending that was recorded before; anything else has lost its lease."""
    if row is not None and row["token"] == lease.token:
        state = AttemptState(row["state"])
        alike = (state is AttemptState.SUCCEEDED) == isinstance(outcome, Succeeded)
        if is_ended(state) and alike and state is not AttemptState.LOST:
            return Settled(Decision(state, AgentState(row["agent_state"])), already=True)
    return StaleLease("The lease of this attempt is no longer held; nothing was written.")


def _decide(run: LockedRun, row: dict[str, Any], outcome: Outcome) -> Decision:
    tally = Tally(
        on_failure=row["on_failure"],
        retry_count=row["retry_count"],
        retries_used=row["retries_used"],
        free_used=row["free_used"],
        losses=row["losses"],
        quota_parks=row["quota_parks"],
    )
    # A worker that was told to stop may report the stop as its own failure, or be lost: the cause on record wins.
    if row["stop"] is not None and not isinstance(outcome, Succeeded):
        outcome = Stopped(StopCause(row["stop"]))
    decision = settle(tally, outcome, now=row["now"], spread=random.random())  # jitter, not secrecy
    if run.ending is not None and not is_ended(decision.state):
        # The run is being ended: nothing of it starts again.
        ended = AgentState.COST_EXCEEDED if run.ending == "cost_exceeded" else AgentState.CANCELLED
        failure = decision.failure or Failure(FailureClass.CANCELLED, "The run was ended.")
        return replace(decision, state=ended, wait_reason=None, due_at=None, failure=failure)
    return decision


async def _apply(tx: Transaction, run: LockedRun, endings: Sequence[_Ending]) -> None:
    """Write endings that were decided alike: any number of completions, or a single one of another kind."""
    if not endings:
        return
    decision = endings[0].decision
    failure = decision.failure
    ended = is_ended(decision.state)
    keys = [ending.row["agent"] for ending in endings]
    attempts = [ending.row["attempt"] for ending in endings]
    words: dict[str, Any] = {
        "class": failure.failure_class.value if failure else None,
        "message": failure.message if failure else None,
    }
    await tx.run("DELETE FROM leases WHERE attempt = ANY(%s)", [attempts])
    await tx.run(
        _END_ATTEMPTS,
        {
            **words,
            "attempts": attempts,
            "state": decision.attempt.value,
            "reset_at": failure.reset_at if failure else None,
            "detail": Jsonb(failure.detail) if failure and failure.detail else None,
            "sources": [state.value for state in sources(decision.attempt)],
        },
    )
    await tx.run(
        _END_AGENTS,
        {
            **words,
            "agents": keys,
            "finals": [ending.final_message for ending in endings],
            "state": decision.state.value,
            "wait": decision.wait_reason.value if decision.wait_reason else None,
            "due": decision.due_at,
            "ended": ended,
            "retries": decision.retries,
            "free": decision.free,
            "losses": decision.losses,
            "parks": decision.quota_parks,
            "sources": [state.value for state in sources(decision.state)],
        },
    )
    events = [_event(run, ending) for ending in endings]
    released = 1 if decision.state is AgentState.READY else 0
    if decision.state is AgentState.COMPLETED:
        freed = sorted(child["id"] for child in await tx.rows(_RELEASE, [keys]) if child["ready"])
        released += len(freed)
        events += [Event("agent_ready", child) for child in freed]
    await tx.run(
        "UPDATE runs SET agents_running = agents_running - %s, agents_open = agents_open - %s,"
        " agents_ready = agents_ready + %s WHERE id = %s",
        [len(endings), len(endings) if ended else 0, released, run.key],
    )
    await append(tx, run.key, events)
    if decision.state is not AgentState.COMPLETED:
        await _consequences(tx, run, endings[0])
    hints = [(Topic.RUN, run.run_id)]
    if await end_if_done(tx, run.key) is None and (released or run.agents_ready > 0):
        # A slot became free, or something became ready: either may be what a worker waits for.
        hints.append((Topic.WORK, ""))
    await outbox.put(tx, hints)


async def _consequences(tx: Transaction, run: LockedRun, ending: _Ending) -> None:
    """What follows for others when an attempt ended otherwise than well."""
    decision, name = ending.decision, ending.row["name"]
    if is_ended(decision.state):
        await skip_below(tx, run.key, [ending.row["agent"]], f"{name} did not complete ({decision.state.value}).")
    quota = decision.failure is not None and decision.failure.failure_class is FailureClass.QUOTA
    if quota and ending.row["credential"]:
        await _close_window(tx, run, ending)
    if decision.stops_run:
        await _stop_run(tx, run, f"{name} failed and its plan says on_failure: stop.")
    elif decision.hits_breaker and run.breaker_threshold:
        await _hit_breaker(tx, run)


def _event(run: LockedRun, ending: _Ending) -> Event:
    decision, row = ending.decision, ending.row
    data: dict[str, Any] = {"attempt_state": decision.attempt.value}
    if decision.failure is not None:
        data["class"] = decision.failure.failure_class.value
        data["message"] = decision.failure.message
        data["next_step"] = next_step(decision.failure.failure_class, run_id=run.run_id, agent=row["name"])
        if decision.failure.detail:
            data["detail"] = decision.failure.detail
        if decision.failure.reset_at is not None:
            data["reset_at"] = decision.failure.reset_at.isoformat()
    if decision.due_at is not None:
        data["due_at"] = decision.due_at.isoformat()
    if decision.wait_reason is not None:
        data["reason"] = decision.wait_reason.value
    return Event(f"agent_{decision.state.value}", row["agent"], row["number"], data)


async def _close_window(tx: Transaction, run: LockedRun, ending: _Ending) -> None:
    decision, row = ending.decision, ending.row
    assert decision.failure is not None
    if decision.due_at is None:
        return
    await tx.run(
        _CLOSE_WINDOW,
        {
            "credential": row["credential"],
            "until": decision.due_at,
            "stated": decision.failure.reset_at is not None,
            "message": decision.failure.message,
        },
    )
    data = {
        "credential": row["credential"],
        "until": decision.due_at.isoformat(),
        "stated": decision.failure.reset_at is not None,
    }
    await append(tx, run.key, [Event("quota_closed", row["agent"], row["number"], data)])


async def _stop_run(tx: Transaction, run: LockedRun, message: str) -> None:
    await tx.run(
        "UPDATE runs SET ending = 'failed', state_reason = %s WHERE id = %s AND ending IS NULL",
        [message, run.key],
    )
    await append(tx, run.key, [Event("run_stopping", data={"message": message})])
    await end_idle(tx, run, AgentState.CANCELLED, Failure(FailureClass.CANCELLED, message))
    await stop_running(tx, run, StopCause.POLICY)


async def _hit_breaker(tx: Transaction, run: LockedRun) -> None:
    row = await tx.row(
        "UPDATE runs SET breaker_failures = breaker_failures + 1 WHERE id = %s RETURNING breaker_failures",
        [run.key],
    )
    assert row is not None
    if row["breaker_failures"] != run.breaker_threshold:
        return
    message = f"The circuit breaker tripped: {row['breaker_failures']} agents failed."
    await append(tx, run.key, [Event("circuit_breaker_tripped", data={"message": message})])
    match run.breaker_action:
        case "cancel_all":
            await _stop_run(tx, run, message)
        case "pause":
            if await set_state(tx, run.key, RunState.PAUSED, message):
                await append(tx, run.key, [Event("run_paused", data={"reason": message})])
        case _:
            pass  # notify_only: the event is the notice
