"""What workers report about a running attempt: facts become rows and events, once each.

Batches of one run's attempts that come together are one transaction under the run's row, each under its own lease.
Facts are numbered by the worker; those at or below ``attempts.last_fact`` are there already and are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg.types.json import Jsonb

from spawnd.contracts.bus import Topic
from spawnd.contracts.control_plane import Lease
from spawnd.domain import facts as f
from spawnd.domain.failures import Failure, FailureClass
from spawnd.domain.settle import StopCause
from spawnd.domain.states import AgentState, RunState, sources
from spawnd.errors import StaleLease
from spawnd.store import outbox
from spawnd.store.database import Database, Transaction
from spawnd.store.endings import end_idle, stop_running
from spawnd.store.events import Event, append
from spawnd.store.runs import LockedRun, end_if_done, lock, lock_of, set_state

_TEXT_IN_EVENT = 2000

_HELD = """
SELECT t.id AS attempt, t.run, t.agent, t.number, t.last_fact, l.token, l.stop, a.max_cost_usd
FROM leases l JOIN attempts t ON t.id = l.attempt JOIN agents a ON a.id = t.agent
WHERE l.attempt = ANY(%s)
"""

_USAGE = """
WITH old AS (SELECT * FROM usage WHERE attempt = %(attempt)s), new AS (
    INSERT INTO usage (attempt, run, agent, model, input_tokens, cached_input_tokens, cache_write_tokens,
                       output_tokens, reasoning_tokens, cost_usd, cost_source)
    VALUES (%(attempt)s, %(run)s, %(agent)s, %(model)s, %(input)s, %(cached)s, %(write)s, %(output)s,
            %(reasoning)s, %(cost)s, %(source)s)
    ON CONFLICT (attempt) DO UPDATE SET model = excluded.model, input_tokens = excluded.input_tokens,
        cached_input_tokens = excluded.cached_input_tokens, cache_write_tokens = excluded.cache_write_tokens,
        output_tokens = excluded.output_tokens, reasoning_tokens = excluded.reasoning_tokens,
        cost_usd = excluded.cost_usd, cost_source = excluded.cost_source, at = clock()
), more AS (
    UPDATE agents SET
        input_tokens = input_tokens + %(input)s - coalesce((SELECT input_tokens FROM old), 0),
        cached_input_tokens = cached_input_tokens + %(cached)s - coalesce((SELECT cached_input_tokens FROM old), 0),
        cache_write_tokens = cache_write_tokens + %(write)s - coalesce((SELECT cache_write_tokens FROM old), 0),
        output_tokens = output_tokens + %(output)s - coalesce((SELECT output_tokens FROM old), 0),
        reasoning_tokens = reasoning_tokens + %(reasoning)s - coalesce((SELECT reasoning_tokens FROM old), 0),
        cost_usd = cost_usd + coalesce(%(cost)s, 0) - coalesce((SELECT cost_usd FROM old), 0),
        cost_unknown = (%(cost)s::numeric IS NULL AND %(input)s + %(output)s > 0) OR EXISTS (
            SELECT 1 FROM attempts t JOIN usage u ON u.attempt = t.id
            WHERE t.agent = %(agent)s AND t.id <> %(attempt)s AND u.cost_usd IS NULL
              AND u.input_tokens + u.output_tokens > 0)
    WHERE id = %(agent)s RETURNING cost_usd
)
UPDATE runs SET spent_usd = spent_usd + coalesce(%(cost)s, 0) - coalesce((SELECT cost_usd FROM old), 0)
WHERE id = %(run)s RETURNING spent_usd, (SELECT cost_usd FROM more) AS agent_cost
"""


@dataclass(frozen=True, slots=True)
class _Place:
    """Whose facts these are."""

    run: int
    agent: int
    attempt: int
    number: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Facts of one attempt, the first of them numbered ``first_number``."""

    lease: Lease
    first_number: int
    facts: Sequence[f.Fact]


async def record(database: Database, batches: Sequence[Batch]) -> list[StopCause | StaleLease | None]:
    """Write what is new in batches of one run; for each in order why its attempt shall stop, if it shall.

    A batch whose lease is no longer held is answered with ``StaleLease``, and nothing of it is written.
    """
    answers: list[StopCause | StaleLease | None] = []
    used: list[tuple[int, _Place, f.Used, Decimal | None]] = []
    events: list[Event] = []
    async with database.transaction() as tx:
        run = await lock_of(tx, batches[0].lease.attempt_id)
        rows = await tx.rows(_HELD, [[batch.lease.attempt_id for batch in batches]])
        leases = {Lease(row["attempt"], row["token"]): row for row in rows}
        for batch in batches:
            held = leases.get(batch.lease)
            if held is None:
                answers.append(StaleLease("The lease of this attempt is no longer held; nothing was written."))
                continue
            place = _Place(held["run"], held["agent"], held["attempt"], held["number"])
            new = batch.facts[max(0, held["last_fact"] - batch.first_number + 1) :]
            if new:
                held["last_fact"] = batch.first_number + len(batch.facts) - 1
                await tx.run("UPDATE attempts SET last_fact = %s WHERE id = %s", [held["last_fact"], held["attempt"]])
            await _write_messages(tx, place, [fact for fact in new if isinstance(fact, f.Said)])
            for fact in new:
                events += await _write(tx, place, fact)
            last = [fact for fact in new if isinstance(fact, f.Used)][-1:]
            used += [(len(answers), place, fact, held["max_cost_usd"]) for fact in last]
            answers.append(StopCause(held["stop"]) if held["stop"] else None)
        await append(tx, run.key, events)
        for number, place, fact, max_cost in used:
            answers[number] = await _spend(tx, run, place, fact, max_cost) or answers[number]
            run = await lock(tx, run.key)  # what one spent may have closed the budget for the next
    return answers


async def _write_messages(tx: Transaction, place: _Place, said: Sequence[f.Said]) -> None:
    if said:
        await tx.run(
            "INSERT INTO messages (run, attempt, role, body) SELECT %s, %s, * FROM unnest(%s::text[], %s::text[])",
            [place.run, place.attempt, [fact.role for fact in said], [_text(fact.text) for fact in said]],
        )


async def _write(tx: Transaction, place: _Place, fact: f.Fact) -> list[Event]:
    """One fact as a row; returns the events that tell of it. Messages have their rows already, usage gets it last."""

    def event(type_: str, **data: Any) -> list[Event]:
        return [Event(type_, place.agent, place.number, data)]

    ids = [place.run, place.agent, place.attempt]
    match fact:
        case f.Entered(state=state):
            await tx.run(
                "UPDATE attempts SET state = %s WHERE id = %s AND state = ANY(%s)",
                [state.value, place.attempt, [source.value for source in sources(state)]],
            )
            return event("step_entered", state=state.value)
        case f.Noted(type=type_, data=data):
            return event(type_, **data)
        case f.SessionOpened():
            await tx.run(
                "INSERT INTO sessions (run, agent, attempt, runtime, session_id, resumed, program_version, model)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (attempt) DO UPDATE"
                " SET session_id = excluded.session_id, resumed = excluded.resumed, model = excluded.model,"
                " program_version = excluded.program_version",
                [*ids, fact.runtime, fact.session_id, fact.resumed, fact.program_version, fact.model],
            )
            return event("session_opened", session_id=fact.session_id, resumed=fact.resumed, model=fact.model)
        case f.Invoked():
            await tx.run(
                "INSERT INTO invocations (run, attempt, kind, started_at, duration_seconds, exit_code, detail)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [
                    place.run,
                    place.attempt,
                    fact.kind,
                    fact.started_at,
                    fact.duration_seconds,
                    fact.exit_code,
                    Jsonb(fact.detail),
                ],
            )
            return event(f"{fact.kind}_ended", exit_code=fact.exit_code, seconds=round(fact.duration_seconds, 3))
        case f.Said():
            return event("message", role=fact.role, text=_text(fact.text[:_TEXT_IN_EVENT]))
        case f.ToolCalled():
            await tx.run(
                "INSERT INTO tool_calls (run, attempt, call_id, name, input) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                [place.run, place.attempt, fact.call_id, fact.name, Jsonb(fact.input)],
            )
            return event("tool_called", call_id=fact.call_id, name=fact.name, input=fact.input)
        case f.ToolReturned():
            await tx.run(
                "UPDATE tool_calls SET output = %s, is_error = %s, exit_code = %s, ended_at = clock()"
                " WHERE attempt = %s AND call_id = %s",
                [_text(fact.output), fact.is_error, fact.exit_code, place.attempt, fact.call_id],
            )
            return event(
                "tool_returned",
                call_id=fact.call_id,
                is_error=fact.is_error,
                exit_code=fact.exit_code,
                text=_text(fact.output[:_TEXT_IN_EVENT]),
            )
        case f.Stored():
            await tx.run(
                "INSERT INTO artifacts (run, agent, attempt, kind, name, sha256, size_bytes, content_type, truncated)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    *ids,
                    fact.kind,
                    fact.name,
                    fact.sha256,
                    fact.size_bytes,
                    fact.content_type,
                    fact.truncated,
                ],
            )
            return event("artifact_stored", kind=fact.kind, name=fact.name, size_bytes=fact.size_bytes)
        case f.Checked():
            await tx.run(
                "INSERT INTO checks (run, agent, attempt, name, command, passed, exit_code, duration_seconds,"
                " output_tail, output_sha256) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    *ids,
                    fact.name,
                    fact.command,
                    fact.passed,
                    fact.exit_code,
                    fact.duration_seconds,
                    _text(fact.output_tail),
                    fact.output_sha256,
                ],
            )
            return event(
                "check_passed" if fact.passed else "check_failed",
                name=fact.name,
                command=fact.command,
                exit_code=fact.exit_code,
                seconds=round(fact.duration_seconds, 3),
            )
        case f.Erred(source=source, failure=failure):
            await tx.run(
                "INSERT INTO failures (run, attempt, source, class, message, detail) VALUES (%s, %s, %s, %s, %s, %s)",
                [
                    place.run,
                    place.attempt,
                    source,
                    failure.failure_class.value,
                    _text(failure.message),
                    Jsonb(failure.detail or {}),
                ],
            )
            return event("failure", source=source, **{"class": failure.failure_class.value}, message=failure.message)
        case f.Delivered():
            await tx.run(
                "INSERT INTO provenance (run, agent, attempt, source_sha, base_sha, head_sha, ref, branch, accepted,"
                " patch_sha256, bundle_sha256, files, insertions, deletions, commits)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (attempt) DO NOTHING",
                [
                    *ids,
                    fact.source_sha,
                    fact.base_sha,
                    fact.head_sha,
                    fact.ref,
                    fact.branch,
                    fact.accepted,
                    fact.patch_sha256,
                    fact.bundle_sha256,
                    Jsonb(list(fact.files)),
                    fact.insertions,
                    fact.deletions,
                    fact.commits,
                ],
            )
            return event(
                "work_delivered" if fact.accepted else "work_kept",
                head_sha=fact.head_sha,
                branch=fact.branch,
                files=len(fact.files),
                insertions=fact.insertions,
                deletions=fact.deletions,
            )
        case f.Used():
            return []


async def _spend(
    tx: Transaction, run: LockedRun, place: _Place, used: f.Used, max_cost: Decimal | None
) -> StopCause | None:
    """Write usage and hold both budgets against it; returns why this attempt shall stop."""
    usage = used.usage
    row = await tx.row(
        _USAGE,
        {
            "attempt": place.attempt,
            "run": place.run,
            "agent": place.agent,
            "model": usage.model,
            "input": usage.input_tokens,
            "cached": usage.cached_input_tokens,
            "write": usage.cache_write_tokens,
            "output": usage.output_tokens,
            "reasoning": usage.reasoning_tokens,
            "cost": usage.cost_usd,
            "source": usage.cost_source,
        },
    )
    assert row is not None
    stop: StopCause | None = None
    if max_cost is not None and row["agent_cost"] > max_cost:
        message = f"It cost ${row['agent_cost']:.2f}, more than its max_cost_usd of ${max_cost:.2f}."
        await append(tx, run.key, [Event("agent_budget_exceeded", place.agent, place.number, {"message": message})])
        await stop_running(tx, run, StopCause.BUDGET, only=[place.agent])
        stop = StopCause.BUDGET
    if row["spent_usd"] >= run.cost_budget_usd and not run.budget_warned:
        message = f"The run has cost ${row['spent_usd']:.2f} of its ${run.cost_budget_usd:.2f}."
        await tx.run("UPDATE runs SET budget_warned = true WHERE id = %s", [run.key])
        await append(tx, run.key, [Event("run_budget_exceeded", data={"message": message, "action": run.on_exceed})])
        match run.on_exceed:
            case "pause":
                if await set_state(tx, run.key, RunState.PAUSED, f"budget: {message}"):
                    await append(tx, run.key, [Event("run_paused", data={"reason": message})])
                await stop_running(tx, run, StopCause.PAUSE)
                stop = stop or StopCause.PAUSE
            case "cancel":
                await tx.run(
                    "UPDATE runs SET ending = 'cost_exceeded', state_reason = %s WHERE id = %s",
                    [message, run.key],
                )
                await end_idle(tx, run, AgentState.COST_EXCEEDED, Failure(FailureClass.BUDGET, message))
                await stop_running(tx, run, StopCause.BUDGET)
                stop = stop or StopCause.BUDGET
                await end_if_done(tx, run.key)
            case _:
                pass  # warn: the event is the warning
        await outbox.put(tx, [(Topic.RUN, run.run_id)])
    return stop


def _text(text: str) -> str:
    """PostgreSQL's text has no NUL; agents print them."""
    return text.replace("\x00", "\ufffd")
