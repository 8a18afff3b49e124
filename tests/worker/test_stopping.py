"""What cuts a running agent short from outside: budgets, provider limits, shutdown, a lost lease."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from spawnd import assembly
from spawnd.contracts.control_plane import Directive, Lease
from spawnd.control.plane import DirectPlane
from spawnd.domain.settle import StopCause
from spawnd.errors import Unavailable
from spawnd.worker.leases import LeaseKeeper
from spawnd.worker.stopping import Stop
from systems import System, one, plan, processes_of


def spending(*costs: float) -> str:
    """A command that spends, then goes on for ever."""
    reports = "; ".join(
        "echo '" + f'::spawnd {{"type": "usage", "input_tokens": 10, "cost_usd": {cost}}}' + "'" for cost in costs
    )
    return f"echo half > half; {reports}; sleep 1000"


async def test_an_agent_over_its_max_cost_is_ended_while_it_runs_and_its_cost_counts(system: System) -> None:
    document = await system.finish(plan(one("a", command=spending(0.5, 2.5), max_cost_usd=1)))

    (agent,) = document.agents
    assert (agent.status, agent.failure_class) == ("cost_exceeded", "budget")
    assert (float(agent.cost_usd), float(document.run.cost_usd)) == (2.5, 2.5)
    assert (await system.files(document.run.run_id, "a"))["half"] == "half\n"
    assert processes_of(document.run.run_id) == set()
    await system.check_books(document.run.run_id)


async def test_a_cost_budget_that_cancels_ends_the_run_while_agents_run(system: System) -> None:
    text = plan(
        one("a", command=spending(2)),
        one("b", command="sleep 1000"),
        one("c", command="true", depends_on=["a"]),
        cost_budget={"total_usd": 1, "on_exceed": "cancel"},
    )
    document = await system.finish(text)

    assert document.run.status == "cost_exceeded"
    assert {row.status for row in document.agents} == {"cost_exceeded"}
    await system.check_books(document.run.run_id)


async def test_a_cost_budget_that_pauses_keeps_the_work_and_goes_on_with_a_higher_one(system: System) -> None:
    command = f"if test -f half; then echo resumed > done; else {spending(2)}; fi"
    run_id = await system.submit(plan(one("a", command=command), cost_budget={"total_usd": 1, "on_exceed": "pause"}))
    async with system.worker():
        await system.event(run_id, "run_paused")
        handed = await system.event(run_id, "agent_ready", agent="a")
        reason = (await system.agent(run_id, "a")).waiting
        await system.client.resume(run_id, budget_usd=Decimal(10))
        document = await system.ended(run_id)

    assert handed.data["attempt_state"] == "lost"
    assert reason is not None and reason.code == "budget"
    assert document.run.status == "completed"
    assert (document.agents[0].retries_used, document.agents[0].attempts) == (0, 2)
    assert (await system.files(run_id, "a")).keys() >= {"half", "done"}


async def test_a_cost_that_nobody_knows_is_said_once_and_is_not_nothing(system: System) -> None:
    used = '::spawnd {"type": "usage", "input_tokens": %d, "model": "model-without-a-price"}'
    command = "; ".join(f"echo '{used % count}'" for count in (10, 20))
    document = await system.finish(plan(one("a", command=command), cost_budget={"total_usd": 1}))

    assert (document.run.cost_unknown, document.agents[0].cost_unknown) == (True, True)
    notices = [event.data["message"] for event in await system.events(document.run.run_id) if event.type == "notice"]
    assert [
        message for message in notices if "SPAWND_PRICES_FILE" in message and "model-without-a-price" in message
    ] == [notices[0]]


async def test_a_cost_budget_that_warns_only_says_so(system: System) -> None:
    command = "echo '" + '::spawnd {"type": "usage", "input_tokens": 1, "cost_usd": 2}' + "'"
    text = plan(one("a", command=command), cost_budget={"total_usd": 1, "on_exceed": "warn"})
    document = await system.finish(text)

    assert document.run.status == "completed"
    warned = [event for event in await system.events(document.run.run_id) if event.type == "run_budget_exceeded"]
    assert [event.data["action"] for event in warned] == ["warn"]


async def test_a_provider_limit_parks_every_agent_of_the_credential_at_no_cost_and_resumes(system: System) -> None:
    first = one("a", runtime="mock", mock={"outcomes": ["quota", "completed"], "reset_after_seconds": 3600})
    second = one("b", runtime="mock", depends_on=["c"])
    third = one("c", command="while ! test -f go; do sleep 0.05; done")
    run_id = await system.submit(plan(first, second, third))
    async with system.worker():
        parked = await system.event(run_id, "agent_waiting", agent="a", reason="quota")
        (system.workspace(run_id, "c") / "go").touch()
        await system.event(run_id, "agent_ready", agent="b")
        reasons = {name: (await system.agent(run_id, name)).waiting for name in "ab"}
        due = datetime.fromisoformat(parked.data["due_at"])
        assert (await system.agent(run_id, "b")).attempts == 0
        await system.advance(3700)
        document = await system.ended(run_id)

    assert {reason.code for reason in reasons.values() if reason} == {"quota"}
    assert timedelta(minutes=59) < due - datetime.now(UTC) < timedelta(minutes=61)
    assert document.run.status == "completed"
    assert [(row.retries_used, row.attempts) for row in document.agents] == [(0, 2), (0, 1), (0, 1)]


async def test_a_worker_that_stops_hands_back_and_the_next_goes_on_from_its_work(system: System) -> None:
    command = "if test -f half; then echo whole > whole; else echo half > half; echo begun; sleep 1000; fi"
    run_id = await system.submit(plan(one("a", command=command)))
    async with system.worker():
        await system.event(run_id, "message", text="begun")
    handed = await system.event(run_id, "agent_ready", agent="a")
    assert (await system.client.workers()).workers == ()
    async with system.worker():
        document = await system.ended(run_id)

    assert handed.data["attempt_state"] == "lost"
    assert [attempt.status for attempt in document.attempts] == ["lost", "succeeded"]
    assert (document.agents[0].retries_used, document.run.status) == (0, "completed")
    assert (await system.files(run_id, "a")).keys() >= {"half", "whole"}
    assert processes_of(run_id) == set()
    await system.check_books(run_id)


async def test_a_worker_that_is_cancelled_outright_hands_back_too(system: System) -> None:
    run_id = await system.submit(plan(one("a", command="echo half > half; echo begun; sleep 1000")))
    async with assembly.open_worker(system.settings, slots=1, backends=system.backends) as worker:
        serving = asyncio.create_task(worker.run())
        await system.event(run_id, "message", text="begun")
        serving.cancel()
        await asyncio.wait([serving])

    assert serving.cancelled()
    await system.event(run_id, "agent_ready", agent="a", attempt_state="lost")
    assert (await system.files(run_id, "a"))["half"] == "half\n"
    assert processes_of(run_id) == set()


async def test_what_is_claimed_while_the_worker_is_told_to_stop_is_handed_back_at_once(system: System) -> None:
    run_id = await system.submit(plan(one("a", command="sleep 1000")))
    async with system.worker() as worker:
        claim = worker._plane.claim

        async def slow(*args: Any, **more: Any) -> Any:
            claimed = await claim(*args, **more)
            worker.stop()  # the answer is under way when somebody says stop
            return claimed

        worker._plane.claim = slow  # type: ignore[method-assign]
        worker._wake.set()
        await system.event(run_id, "agent_ready", agent="a", attempt_state="lost")

    assert (await system.agent(run_id, "a")).retries_used == 0


async def test_defect_05_a_lost_lease_stops_the_attempt_and_nobody_elses(system: System) -> None:
    command = "if test -f half; then echo whole > whole; else echo half > half; echo begun; sleep 1000; fi"
    run_id = await system.submit(plan(one("a", command=command), one("b", command="sleep 0.5; echo done")))
    async with system.worker():
        await system.event(run_id, "message", text="begun")
        # As if this worker had been cut off for too long: its lease runs out under it, and the reaper comes.
        await system.execute(
            "UPDATE leases SET expires_at = clock() - interval '1 second'"
            " WHERE agent = (SELECT id FROM agents WHERE name = 'a')"
        )
        lost = await system.event(run_id, "agent_ready", agent="a")
        document = await system.ended(run_id)

    assert (lost.data["attempt_state"], lost.data["class"]) == ("lost", "worker_lost")
    assert {row.name: (row.status, row.attempts) for row in document.agents} == {
        "a": ("completed", 2),
        "b": ("completed", 1),
    }
    assert document.agents[0].retries_used == 0
    assert processes_of(run_id) == set()
    await system.check_books(run_id)


async def test_losses_are_bounded_and_cost_no_retry(system: System) -> None:
    run_id = await system.submit(plan(one("a", command="echo begun; sleep 1000", on_failure="retry")))
    async with system.worker():
        after = 0
        for _ in range(6):
            begun = await system.event(run_id, "message", text="begun", after=after)
            after = begun.seq
            await system.execute("UPDATE leases SET expires_at = clock() - interval '1 second'")
            await system.client.reconcile()
            await system.when(run_id, lambda one: one.type in ("agent_ready", "agent_failed"), after=after)
        document = await system.ended(run_id)

    assert (document.agents[0].status, document.agents[0].failure_class) == ("failed", "worker_lost")
    assert (document.agents[0].attempts, document.agents[0].retries_used) == (6, 0)


class AwayPlane:
    """A system that answers renewals as it is told."""

    def __init__(self) -> None:
        self.away = False
        self.renewals = 0

    async def renew(self, leases: Sequence[Lease], *, lease_seconds: float) -> Sequence[Directive]:
        self.renewals += 1
        if self.away:
            raise Unavailable("gone")
        return [Directive(None) for _ in leases]


async def test_defect_04_leases_are_renewed_whatever_step_their_attempts_are_in(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The keeper renews by itself, not the steps: several lease times pass while the check runs.
    system.settings = system.settings.model_copy(update={"lease_seconds": 0.6})
    run_id = await system.submit(plan(one("a", command="true", check="while ! test -f go; do sleep 0.05; done")))
    renewed = asyncio.Semaphore(0)
    renew = DirectPlane.renew

    async def counted(self: DirectPlane, leases: Sequence[Lease], *, lease_seconds: float) -> Sequence[Directive]:
        answer = await renew(self, leases, lease_seconds=lease_seconds)
        renewed.release()
        return answer

    monkeypatch.setattr(DirectPlane, "renew", counted)
    async with system.worker():
        await system.event(run_id, "step_entered", state="checking")
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < 1.5:
            await renewed.acquire()
        (system.workspace(run_id, "a") / "go").touch()
        document = await system.ended(run_id)

    assert document.run.status == "completed"
    assert [attempt.status for attempt in document.attempts] == ["succeeded"]


async def test_a_lease_that_cannot_be_renewed_is_given_up_when_its_time_is_over_and_not_before() -> None:
    plane, stop, lease = AwayPlane(), Stop(), Lease(1, 1)
    keeper = LeaseKeeper(plane, lease_seconds=0.6)  # type: ignore[arg-type]  # the one call that it makes
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(keeper.run())
        work = group.create_task(asyncio.Event().wait())
        stop.attach(work)
        keeper.hold(lease, stop)
        began, plane.away = loop.time(), True
        await asyncio.wait([work], timeout=5)
        took = loop.time() - began
        running.cancel()

    assert stop.cause is StopCause.LEASE_LOST
    assert work.cancelled()
    assert 0.55 <= took < 0.9
    assert plane.renewals >= 1


async def test_an_attempt_of_the_same_number_of_another_installation_is_left_alone(
    system: System, neighbour: System
) -> None:
    # Without a sandbox, what belongs to an attempt is found by its mark alone.
    for one_of_them in (system, neighbour):
        one_of_them.settings = one_of_them.settings.model_copy(update={"sandbox": "none"})
    ours = await system.submit(plan(one("a", command="echo begun; sleep 1000")))
    theirs = await neighbour.submit(plan(one("a", command="echo begun; while ! test -f go; do sleep 0.05; done")))
    async with system.worker(), neighbour.worker():
        await system.event(ours, "message", text="begun")
        await neighbour.event(theirs, "message", text="begun")
        numbers = [await each.rows("SELECT id, token FROM attempts") for each in (system, neighbour)]
        assert numbers[0] == numbers[1]

        await system.client.cancel(ours)
        await system.ended(ours)
        assert processes_of(theirs)
        (neighbour.workspace(theirs, "a") / "go").touch()
        document = await neighbour.ended(theirs)

    assert document.run.status == "completed"
    assert processes_of(ours) == set()
