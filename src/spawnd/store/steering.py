"""What people do to a run: cancel, pause, resume, retry, answer; and what time does: wake what is due."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from spawnd.contracts.bus import Topic
from spawnd.domain.failures import Failure, FailureClass
from spawnd.domain.resume import Action, Item, Standing
from spawnd.domain.settle import StopCause
from spawnd.domain.states import AgentState, RunState, WaitReason, is_ended
from spawnd.errors import Conflict, NotFound
from spawnd.store import outbox
from spawnd.store.database import Database, Transaction
from spawnd.store.endings import end_idle, skip_below, stop_running
from spawnd.store.events import Event, append
from spawnd.store.runs import end_if_done, lock, set_state

_STANDINGS = """
SELECT a.id, a.name, a.state, a.wait_reason, a.attempts, a.failure_class,
       coalesce((SELECT array_agg(p.name ORDER BY p.position) FROM edges e JOIN agents p ON p.id = e.parent
                 WHERE e.child = a.id), '{}') AS parents
FROM agents a WHERE a.run = %s ORDER BY a.position
"""

# Reopened agents count their unmet dependencies afresh: those that have not completed, or will run again.
_REOPEN = """
UPDATE agents a SET
    unmet = fresh.unmet, state = CASE WHEN fresh.unmet = 0 THEN 'ready' ELSE 'blocked' END, since = clock(),
    wait_reason = NULL, due_at = NULL, failure_class = NULL, failure_message = NULL, finished_at = NULL,
    retries_used = 0, free_used = 0, losses = 0, quota_parks = 0
FROM (
    SELECT o.id, count(p.id) FILTER (WHERE p.state <> 'completed' OR p.id = ANY(%(again)s::bigint[])) AS unmet
    FROM agents o LEFT JOIN edges e ON e.child = o.id LEFT JOIN agents p ON p.id = e.parent
    WHERE o.id = ANY(%(again)s::bigint[]) GROUP BY o.id
) fresh
WHERE a.id = fresh.id RETURNING a.id, a.state
"""

_RECOUNT = """
UPDATE runs SET agents_open = c.open, agents_ready = c.ready
FROM (SELECT count(*) FILTER (WHERE state IN ('blocked', 'ready', 'running', 'waiting')) AS open,
             count(*) FILTER (WHERE state = 'ready') AS ready
      FROM agents WHERE run = %(run)s) c
WHERE id = %(run)s
"""

_WAKE = """
UPDATE agents SET state = 'ready', since = clock(), wait_reason = NULL, due_at = NULL
WHERE run = %(run)s AND state = 'waiting' AND (%(only)s::bigint[] IS NULL OR id = ANY(%(only)s::bigint[]))
  AND (NOT %(due)s OR due_at <= clock())
RETURNING id
"""


async def standings(tx: Transaction, run: int) -> tuple[list[Standing], Mapping[str, int]]:
    """Every agent as a resume sees it, and their keys by name."""
    rows = await tx.rows(_STANDINGS, [run])
    found = [
        Standing(
            row["name"],
            AgentState(row["state"]),
            WaitReason(row["wait_reason"]) if row["wait_reason"] else None,
            row["attempts"],
            row["failure_class"],
            tuple(row["parents"]),
        )
        for row in rows
    ]
    return found, {row["name"]: row["id"] for row in rows}


async def cancel(database: Database, run_key: int, *, agent: str | None) -> int:
    """End what has not ended. Running attempts are told to stop and keep their work."""
    async with database.transaction() as tx:
        run = await lock(tx, run_key)
        _, keys = await standings(tx, run_key)
        only = None if agent is None else [_key(keys, agent, run.run_id)]
        failure = Failure(FailureClass.CANCELLED, "Cancelled by a person.")
        if only is None and not is_ended(run.state):
            await tx.run(
                "UPDATE runs SET ending = 'cancelled', state_reason = 'cancelling'"
                " WHERE id = %s AND ending IS DISTINCT FROM 'cancelled'",
                [run.key],
            )
        idle = await end_idle(tx, run, AgentState.CANCELLED, failure, only=only)
        told = await stop_running(tx, run, StopCause.USER, only=only)
        skipped = 0
        if only is not None and idle:
            skipped = await skip_below(tx, run.key, idle, f"{agent} was cancelled.")
        if idle or told:
            data = {"agent": agent} if agent else {}
            await append(tx, run.key, [Event("cancel_requested", data=data)])
        await end_if_done(tx, run.key)
        await outbox.put(tx, [(Topic.RUN, run.run_id)])
        return len(idle) + len(told) + skipped


async def pause(database: Database, run_key: int) -> None:
    """Start nothing new. Raises ``Conflict`` if the run has ended."""
    async with database.transaction() as tx:
        run = await lock(tx, run_key)
        if run.state is RunState.PAUSED:
            return
        if not await set_state(tx, run.key, RunState.PAUSED, "paused by a person"):
            raise Conflict(f"{run.run_id} has ended ({run.state.value}); there is nothing to pause.")
        await append(tx, run.key, [Event("run_paused", data={"reason": "paused by a person"})])
        await outbox.put(tx, [(Topic.RUN, run.run_id)])


async def reopen(
    database: Database, run_key: int, items: Sequence[Item], *, budget_usd: Decimal | None, whole_run: bool
) -> None:
    """Carry out a resume or retry plan. ``items`` were decided from ``standings`` read just before."""
    async with database.transaction() as tx:
        run = await lock(tx, run_key)
        _, keys = await standings(tx, run_key)
        if run.ending is not None and run.agents_running > 0:
            # What is reopened now could not start, and would keep the run from ending.
            raise Conflict(
                f"{run.run_id} is being ended; {run.agents_running} of its agents are still stopping.",
                hint="Ask again in a moment.",
            )
        if budget_usd is not None:
            if budget_usd <= run.spent_usd:
                raise Conflict(
                    f"The run has already cost ${run.spent_usd:.2f}; a budget of ${budget_usd:.2f} changes nothing."
                )
            await tx.run(
                "UPDATE runs SET cost_budget_usd = %s, budget_warned = false WHERE id = %s",
                [budget_usd, run.key],
            )
        elif whole_run and run.on_exceed != "warn" and run.spent_usd >= run.cost_budget_usd:
            raise Conflict(
                f"The run has cost ${run.spent_usd:.2f} of its budget of ${run.cost_budget_usd:.2f}.",
                hint=f"Raise it: `spawnd resume {run.run_id} --budget USD`.",
            )
        again = [keys[item.agent] for item in items if item.action is Action.RUN_AGAIN]
        never = [keys[item.agent] for item in items if item.action is Action.START]
        wake = [keys[item.agent] for item in items if item.action is Action.WAKE]
        # Only what has ended is reopened; an agent that moved meanwhile is left to its new state.
        ended = {
            row["id"]
            for row in await tx.rows(
                "SELECT id FROM agents WHERE run = %s AND state NOT IN ('blocked', 'ready', 'running', 'waiting')",
                [run.key],
            )
        }
        reopened = [key for key in [*again, *never] if key in ended]
        if reopened:
            rows = await tx.rows(_REOPEN, {"again": reopened})
            await append(
                tx,
                run.key,
                [Event(f"agent_{row['state']}", row["id"], data={"reason": "resumed"}) for row in rows],
            )
        if wake:
            await _wake(tx, run.key, only=wake, due=False)
        await tx.run(_RECOUNT, {"run": run.key})
        if is_ended(run.state) and not reopened:
            raise Conflict(f"{run.run_id} has ended ({run.state.value}) and nothing in it is left to run.")
        if whole_run or is_ended(run.state):
            await tx.run(
                "UPDATE runs SET ending = NULL, breaker_failures = 0 WHERE id = %s AND (ending IS NULL OR %s)",
                [run.key, is_ended(run.state) or run.agents_running == 0],
            )
            await set_state(tx, run.key, RunState.RUNNING, None)
            await append(tx, run.key, [Event("run_resumed")])
        await outbox.put(tx, [(Topic.WORK, ""), (Topic.RUN, run.run_id)])


async def open_windows(database: Database, run_key: int, *, names: Collection[str]) -> None:
    """Forget the closed quota windows that these agents wait for: a person said not to wait."""
    async with database.connection() as connection:
        await connection.run(
            "DELETE FROM quota_windows WHERE credential IN"
            " (SELECT credential FROM agents WHERE run = %s AND name = ANY(%s))",
            [run_key, list(names)],
        )


async def answer(database: Database, run_key: int, agent: str, text: str) -> None:
    """Keep what a person said for the agent's next attempt, and wake it if it waits for one."""
    async with database.transaction() as tx:
        run = await lock(tx, run_key)
        _, keys = await standings(tx, run_key)
        key = _key(keys, agent, run.run_id)
        state = await tx.row("SELECT state FROM agents WHERE id = %s", [key])
        assert state is not None
        if is_ended(AgentState(state["state"])):
            raise Conflict(
                f"{agent} has ended ({state['state']}).",
                hint=f"`spawnd retry {run.run_id} -a {agent}` runs it again.",
            )
        await tx.run("INSERT INTO responses (run, agent, body) VALUES (%s, %s, %s)", [run.key, key, text])
        await append(tx, run.key, [Event("answered", key, data={"text": text})])
        await _wake(tx, run.key, only=[key], due=False)
        await outbox.put(tx, [(Topic.WORK, ""), (Topic.RUN, run.run_id)])


async def wake_due(database: Database, *, limit: int = 100) -> list[tuple[str, str]]:
    """Make ready what has waited long enough; returns (run id, agent). Index: agents_due."""
    async with database.connection() as connection:
        rows = await connection.rows(
            "SELECT DISTINCT run FROM (SELECT run FROM agents WHERE state = 'waiting' AND due_at <= clock()"
            " ORDER BY due_at LIMIT %s) due",
            [limit],
        )
    woken: list[tuple[str, str]] = []
    for row in rows:
        async with database.transaction() as tx:
            run = await lock(tx, row["run"])
            keys = await _wake(tx, run.key, only=None, due=True)
            if keys:
                await outbox.put(tx, [(Topic.WORK, ""), (Topic.RUN, run.run_id)])
                names = await tx.rows("SELECT name FROM agents WHERE id = ANY(%s)", [keys])
                woken += [(run.run_id, name["name"]) for name in names]
    return woken


async def _wake(tx: Transaction, run: int, *, only: Sequence[int] | None, due: bool) -> list[int]:
    rows = await tx.rows(_WAKE, {"run": run, "only": None if only is None else list(only), "due": due})
    if rows:
        await tx.run("UPDATE runs SET agents_ready = agents_ready + %s WHERE id = %s", [len(rows), run])
        await append(tx, run, [Event("agent_ready", row["id"], data={"reason": "woken"}) for row in rows])
    return [row["id"] for row in rows]


def _key(keys: Mapping[str, int], agent: str, run_id: str) -> int:
    try:
        return keys[agent]
    except KeyError:
        known = ", ".join(sorted(keys)[:20])
        raise NotFound(f"{run_id} has no agent {agent!r}.", hint=f"It has: {known}.") from None
