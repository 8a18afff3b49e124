"""Facts: written once, under the lease, and budgets held against usage while it is reported."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from spawnd.domain import facts as f
from spawnd.domain.failures import FailureClass
from spawnd.domain.settle import StopCause, Stopped
from spawnd.domain.states import AgentState, AttemptState, RunState
from spawnd.domain.usage import Usage
from spawnd.errors import StaleLease
from spawnd.store import endings, events, reads, steering


def used(cost: str, tokens: int = 100) -> f.Used:
    return f.Used(Usage(input_tokens=tokens, output_tokens=10, cost_usd=Decimal(cost), cost_source="provider"))


async def test_a_batch_sent_twice_is_written_once(world: Any) -> None:
    run = await world.submit({"a": []})
    held = await world.take("a")
    batch = [f.Said("assistant", "hello"), f.Noted("progress", {"text": "half"})]

    await world.record(held.lease, 1, batch)
    await world.record(held.lease, 1, [*batch, f.Said("assistant", "more")])

    trace = await reads.trace(world.database, run, agent="a", limit=10)
    assert [message.text for message in trace.messages] == ["hello", "more"]
    assert [type_ for _, type_ in await world.events(run)][-3:] == ["message", "progress", "message"]
    await world.check_books(run)


async def test_nul_characters_and_huge_json_survive(world: Any) -> None:
    run = await world.submit({"a": []})
    held = await world.take("a")

    await world.record(
        held.lease,
        1,
        [f.Said("assistant", "nul \x00 here"), f.ToolCalled("1", "Bash", {"command": "a\x00b"})],
    )

    trace = await reads.trace(world.database, run, agent=None, limit=10)
    assert trace.messages[0].text == "nul \ufffd here"
    assert trace.tool_calls[0].input == {"command": "a\ufffdb"}


async def test_a_lost_lease_records_nothing(world: Any, clock: Any) -> None:
    run = await world.submit({"a": []})
    held = await world.take("a")
    await clock.advance(seconds=31)
    await endings.expire(world.database)
    before = await world.events(run)

    with pytest.raises(StaleLease):
        await world.record(held.lease, 1, [f.Said("assistant", "late"), used("1")])

    assert await world.events(run) == before
    assert (await world.row(run))["spent_usd"] == 0


async def test_defect_06_failed_attempts_count_their_cost_and_retries_add_up(world: Any, clock: Any) -> None:
    run = await world.submit({"a": []}, on_failure="retry")
    first = await world.take("a")
    await world.record(first.lease, 1, [used("0.40"), used("0.50", 200)])
    await world.fail(first.lease, FailureClass.CHECK_FAILED)
    await clock.advance(seconds=61)
    await steering.wake_due(world.database)
    second = await world.take("a")
    await world.record(second.lease, 1, [used("0.25", 50)])
    await world.finish(second.lease)

    document = await reads.run(world.database, run)

    assert document.run.cost_usd == Decimal("0.75")
    assert document.agents[0].cost_usd == Decimal("0.75")
    assert document.agents[0].input_tokens == 250


async def test_an_agent_over_its_own_budget_is_told_to_stop_while_it_runs(world: Any) -> None:
    run = await world.submit({"a": []}, max_cost_usd=Decimal(1))
    held = await world.take("a")

    assert await world.record(held.lease, 1, [used("0.99")]) is None
    assert await world.record(held.lease, 2, [used("1.01")]) is StopCause.BUDGET

    await world.finish(held.lease, Stopped(StopCause.BUDGET))
    assert (await world.states(run))["a"] is AgentState.COST_EXCEEDED
    assert await world.state(run) is RunState.COST_EXCEEDED


@pytest.mark.parametrize(
    ("on_exceed", "told", "run_state", "idle"),
    [
        ("pause", StopCause.PAUSE, RunState.PAUSED, AgentState.READY),
        ("cancel", StopCause.BUDGET, RunState.COST_EXCEEDED, AgentState.COST_EXCEEDED),
        ("warn", None, RunState.RUNNING, AgentState.READY),
    ],
)
async def test_the_runs_budget_is_held_while_agents_run(
    world: Any, on_exceed: str, told: StopCause | None, run_state: RunState, idle: AgentState
) -> None:
    run = await world.submit({"a": [], "b": []}, budget="1", on_exceed=on_exceed)
    held = await world.take("a")

    assert await world.record(held.lease, 1, [used("1.50")]) is told

    if told is not None:
        assert await world.claim() == []
        await world.finish(held.lease, Stopped(told))
    assert (await world.states(run))["b"] is idle
    assert await world.state(run) is run_state
    await world.check_books(run)


async def test_a_run_paused_by_its_budget_resumes_with_a_higher_one(world: Any) -> None:
    run = await world.submit({"a": []}, budget="1")
    held = await world.take("a")
    await world.record(held.lease, 1, [used("1.50")])
    await world.finish(held.lease, Stopped(StopCause.PAUSE))

    await steering.reopen(world.database, run, [], budget_usd=Decimal(5), whole_run=True)

    assert (await world.take("a")).number == 2


async def test_events_of_many_writers_are_gapless_and_a_reader_never_sees_a_gap(world: Any) -> None:
    run = await world.submit({f"a{i}": [] for i in range(8)})
    held = await world.claim(want=8)
    seen: list[int] = []
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set() or len(seen) < (await world.row(run))["last_seq"]:
            async with world.database.connection() as connection:
                page = await events.read(connection, run, after=len(seen), limit=50)
            seen.extend(event.seq for event in page)

    async def write(lease: Any) -> None:
        for number in range(20):
            await world.record(lease, number + 1, [f.Noted("tick", {"n": number})])

    async def write_all() -> None:
        await asyncio.gather(*(write(one.lease) for one in held))
        done.set()

    async with asyncio.timeout(30):
        await asyncio.gather(read(), write_all())

    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == 1 + 1 + 8 + 160
    await world.check_books(run)


async def test_steps_only_move_forward(world: Any) -> None:
    run = await world.submit({"a": []})
    held = await world.take("a")

    await world.record(held.lease, 1, [f.Entered(AttemptState.CHECKING), f.Entered(AttemptState.PREPARING)])

    assert (await reads.run(world.database, run)).attempts[0].status == "checking"


async def test_every_kind_of_fact_becomes_a_row_that_can_be_read(world: Any) -> None:
    from datetime import UTC, datetime

    from spawnd.domain.failures import Failure

    run = await world.submit({"a": []})
    held = await world.take("a")
    sha = "ab" * 32
    await world.record(
        held.lease,
        1,
        [
            f.SessionOpened("claude", "s-1", resumed=False, model="m"),
            f.Invoked("runtime", datetime.now(UTC), 1.5, 0),
            f.ToolCalled("1", "Bash", {"command": "ls"}),
            f.ToolReturned("1", "files", exit_code=0),
            f.Stored("patch", sha, 10, "text/x-diff"),
            f.Checked("check", "true", True, 0, 0.1, "", sha),
            f.Erred("setup", Failure(FailureClass.SETUP_FAILED, "no")),
            f.Delivered(
                "1" * 40,
                "1" * 40,
                "2" * 40,
                "refs/x",
                "spawnd/r/a",
                True,
                sha,
                None,
                ({"path": "x"},),
                1,
                0,
                0,
            ),
        ],
    )

    trace = await reads.trace(world.database, run, agent="a", limit=10)
    document = await reads.run(world.database, run)

    assert (trace.tool_calls[0].output, trace.invocations[0]["kind"], trace.failures[0]["source"]) == (
        "files",
        "runtime",
        "setup",
    )
    assert (document.agents[0].session_id, document.agents[0].checks_passed) == ("s-1", 1)
    assert document.agents[0].branch == "spawnd/r/a"
    assert [row.kind for row in await reads.artifacts(world.database, run, agent=None, limit=5)] == ["patch"]
    assert [row.passed for row in await reads.checks(world.database, run, agent="a", limit=5)] == [True]
    assert [row.head_sha for row in await reads.provenance(world.database, run, agent=None, limit=10)] == ["2" * 40]
