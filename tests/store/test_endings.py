"""How attempts end, and what that does to dependents, the run, retries, the breaker."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from spawnd.contracts.control_plane import Lease, Settled
from spawnd.domain.failures import Failure, FailureClass
from spawnd.domain.settle import Failed, StopCause, Stopped, Succeeded
from spawnd.domain.states import AgentState, RunState
from spawnd.errors import StaleLease
from spawnd.store import endings, steering

S = AgentState


async def test_the_last_dependency_makes_its_dependent_ready_and_completes_the_run(world: Any) -> None:
    run = await world.submit({"a": [], "b": [], "both": ["a", "b"]})
    first, second = await world.claim(want=2)

    await asyncio.gather(world.finish(first.lease), world.finish(second.lease))

    assert await world.states(run) == {"a": S.COMPLETED, "b": S.COMPLETED, "both": S.READY}
    await world.finish((await world.take("both")).lease)
    assert await world.state(run) is RunState.COMPLETED
    await world.check_books(run)


async def test_finishing_twice_changes_nothing_and_says_so(world: Any) -> None:
    run = await world.submit({"a": [], "b": ["a"]})
    held = await world.take("a")

    first = await world.finish(held.lease)
    second = await world.finish(held.lease)

    assert (first.already, second.already) == (False, True)
    assert (await world.states(run))["b"] is S.READY
    await world.check_books(run)


async def test_a_failure_skips_everything_below_and_ends_the_run_failed(world: Any) -> None:
    run = await world.submit({"a": [], "b": ["a"], "c": ["b"], "other": []})
    held = await world.take("a")

    await world.fail(held.lease)

    assert await world.states(run) == {"a": S.FAILED, "b": S.SKIPPED, "c": S.SKIPPED, "other": S.READY}
    await world.finish((await world.take("other")).lease)
    assert await world.state(run) is RunState.FAILED
    await world.check_books(run)


async def test_defect_07_a_failed_check_is_retried_when_the_plan_says_retry(world: Any, clock: Any) -> None:
    run = await world.submit({"a": []}, on_failure="retry", retry_count=1)

    await world.fail((await world.take("a")).lease, FailureClass.CHECK_FAILED)
    assert (await world.states(run))["a"] is S.WAITING
    await clock.advance(seconds=61)
    assert await steering.wake_due(world.database) == [("run-1", "a")]
    await world.fail((await world.take("a")).lease, FailureClass.CHECK_FAILED)

    assert (await world.states(run))["a"] is S.FAILED
    await world.check_books(run)


async def test_a_stated_reset_is_kept_to_the_second_and_costs_no_retry(world: Any, clock: Any) -> None:
    run = await world.submit({"a": []}, credential="codex:login", on_failure="retry", retry_count=0)
    reset = datetime.now(UTC) + timedelta(hours=5)

    await world.fail((await world.take("a")).lease, FailureClass.QUOTA, reset_at=reset)

    async with world.database.connection() as connection:
        row = await connection.row("SELECT due_at, retries_used FROM agents WHERE run = %s", [run])
    assert row is not None
    assert reset <= row["due_at"] <= reset + timedelta(seconds=5)
    assert row["retries_used"] == 0
    await clock.advance(seconds=5 * 3600 - 60)
    assert await steering.wake_due(world.database) == []
    await clock.advance(seconds=70)
    assert await steering.wake_due(world.database) == [("run-1", "a")]


async def test_authentication_waits_for_a_person_and_an_answer_wakes_it(world: Any) -> None:
    run = await world.submit({"a": [], "b": ["a"]})
    await world.fail((await world.take("a")).lease, FailureClass.AUTHENTICATION)
    assert await world.states(run) == {"a": S.WAITING, "b": S.BLOCKED}

    await steering.answer(world.database, run, "a", "logged in again")

    assert (await world.take("a")).number == 2
    await world.check_books(run)


async def test_on_failure_stop_cancels_the_rest_and_fails_the_run(world: Any) -> None:
    run = await world.submit({"a": [], "b": [], "c": []}, on_failure="stop")
    first, second = await world.claim(want=2)

    await world.fail(first.lease)

    assert (await world.states(run))["c"] is S.CANCELLED
    assert await world.state(run) is RunState.RUNNING  # b is told to stop and has not obeyed yet
    await world.finish(second.lease, Stopped(StopCause.POLICY))
    assert await world.state(run) is RunState.FAILED
    await world.check_books(run)


@pytest.mark.parametrize("action", ["cancel_all", "pause", "notify_only"])
async def test_the_circuit_breaker_does_what_it_is_told(world: Any, action: str) -> None:
    run = await world.submit({"a": [], "b": [], "c": []}, breaker=(2, action))

    for name in ("a", "b"):
        await world.fail((await world.take(name)).lease)

    expected = {
        "cancel_all": (RunState.FAILED, S.CANCELLED),
        "pause": (RunState.PAUSED, S.READY),
        "notify_only": (RunState.RUNNING, S.READY),
    }[action]
    assert (await world.state(run), (await world.states(run))["c"]) == expected
    assert "circuit_breaker_tripped" in {type_ for _, type_ in await world.events(run)}
    await world.check_books(run)


async def test_defect_09_a_run_ends_although_a_dependency_was_cancelled(world: Any) -> None:
    run = await world.submit({"a": [], "b": ["a"], "c": []})

    await steering.cancel(world.database, run, agent="a")

    assert await world.states(run) == {"a": S.CANCELLED, "b": S.SKIPPED, "c": S.READY}
    await world.finish((await world.take("c")).lease)
    assert await world.state(run) is RunState.CANCELLED
    await world.check_books(run)


async def test_cancelling_a_run_tells_its_running_agents_and_ends_when_they_have_stopped(world: Any) -> None:
    run = await world.submit({"a": [], "b": [], "c": ["a"]})
    held = await world.take("a")

    count = await steering.cancel(world.database, run, agent=None)

    assert count == 3
    assert await world.claim() == []
    assert await world.state(run) is RunState.RUNNING
    await world.finish(held.lease, Stopped(StopCause.USER))
    assert await world.state(run) is RunState.CANCELLED
    await world.check_books(run)


async def test_a_cancelled_run_ends_although_its_worker_died(world: Any, clock: Any) -> None:
    run = await world.submit({"a": []})
    await world.take("a")
    await steering.cancel(world.database, run, agent=None)

    await clock.advance(seconds=31)
    await endings.expire(world.database)

    assert await world.states(run) == {"a": S.CANCELLED}
    assert await world.state(run) is RunState.CANCELLED


async def test_simultaneous_endings_in_random_graphs_keep_the_books(world: Any) -> None:
    agents = {f"n{i}": [f"n{j}" for j in range(max(0, i - 3), i)] for i in range(24)}
    run = await world.submit(agents, limit=4)

    async def work() -> None:
        while (await world.state(run)) not in (RunState.COMPLETED, RunState.FAILED):
            for one in await world.claim(want=2):
                await world.finish(one.lease)

    async with asyncio.timeout(20):
        await asyncio.gather(*(work() for _ in range(4)))

    assert await world.state(run) is RunState.COMPLETED
    await world.check_books(run)


async def test_defect_22_an_ending_and_its_wakeups_are_committed_together_or_not_at_all(world: Any) -> None:
    run = await world.submit({"a": [], "b": ["a"]})
    held = await world.take("a")
    async with world.database.connection() as connection:
        await connection.run(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room here'; END $$"
        )
        await connection.run("CREATE TRIGGER refuse BEFORE INSERT ON outbox EXECUTE FUNCTION refuse()")

    with pytest.raises(psycopg.Error, match="no room here"):
        await world.finish(held.lease)
    assert await world.states(run) == {"a": S.RUNNING, "b": S.BLOCKED}
    await world.check_books(run)

    async with world.database.connection() as connection:
        await connection.run("DROP TRIGGER refuse ON outbox")
    await world.finish(held.lease)
    assert await world.states(run) == {"a": S.COMPLETED, "b": S.READY}
    await world.check_books(run)


async def test_endings_that_come_together_are_settled_as_if_one_by_one(world: Any) -> None:
    run = await world.submit(
        {"a": [], "b": [], "c": [], "d": [], "both": ["a", "b"], "below": ["c"]}, on_failure="continue"
    )
    a, b, c, d = await world.claim(want=4)
    stale = Lease(d.lease.attempt_id, d.lease.token + 1000)

    answers = await endings.finish(
        world.database,
        [
            (c.lease, Failed(Failure(FailureClass.AGENT_ERROR, "it broke"))),
            (a.lease, Succeeded("one")),
            (stale, Succeeded("not mine")),
            (b.lease, Succeeded("two")),
        ],
    )

    assert [type(answer) for answer in answers] == [Settled, Settled, StaleLease, Settled]
    assert await world.states(run) == {
        "a": S.COMPLETED,
        "b": S.COMPLETED,
        "c": S.FAILED,
        "d": S.RUNNING,
        "both": S.READY,
        "below": S.SKIPPED,
    }
    await world.check_books(run)


async def test_a_failure_that_stops_the_run_decides_about_what_fails_with_it(world: Any) -> None:
    run = await world.submit({"first": [], "second": []}, on_failure="stop")
    first, second = await world.claim(want=2)
    lost = Stopped(StopCause.SHUTDOWN)

    await endings.finish(
        world.database,
        [(first.lease, Failed(Failure(FailureClass.AGENT_ERROR, "it broke"))), (second.lease, lost)],
    )

    # Alone it would have been handed back and started again.
    assert await world.states(run) == {"first": S.FAILED, "second": S.CANCELLED}
    assert await world.state(run) is RunState.FAILED
    await world.check_books(run)
