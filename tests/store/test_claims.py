"""Claims and leases: one holder at a time, limits held in Postgres, nothing starved."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from spawnd.contracts.control_plane import Capability
from spawnd.domain.failures import FailureClass
from spawnd.domain.settle import StopCause, Stopped
from spawnd.domain.states import AgentState, RunState
from spawnd.errors import StaleLease
from spawnd.store import claims, endings


async def test_an_agent_is_claimed_by_exactly_one_of_many_workers(world: Any) -> None:
    run = await world.submit({f"a{i}": [] for i in range(20)})

    taken = await asyncio.gather(*(world.claim(want=3) for _ in range(12)))

    names = [one.agent for batch in taken for one in batch]
    assert sorted(names) == sorted(set(names))
    assert len(names) == 20
    await world.check_books(run)


async def test_the_concurrency_limit_holds_across_simultaneous_claims(world: Any) -> None:
    run = await world.submit({f"a{i}": [] for i in range(20)}, limit=7)

    taken = await asyncio.gather(*(world.claim(want=5) for _ in range(8)))

    assert sum(len(batch) for batch in taken) == 7
    assert (await world.row(run))["agents_running"] == 7
    assert await world.claim() == []


async def test_defect_03_a_failing_agent_frees_its_slot_for_its_queued_peers(world: Any) -> None:
    run = await world.submit({"a": [], "b": []}, limit=1)
    first = await world.take("a")

    await world.fail(first.lease)

    assert (await world.take("b")).run == run
    async with world.database.connection() as connection:
        hints = await connection.rows("SELECT topic FROM outbox")
    assert "work" in {hint["topic"] for hint in hints}


async def test_a_claim_prefers_priority_and_then_the_run_served_longest_ago(world: Any) -> None:
    first = await world.submit({"a": [], "b": []})
    second = await world.submit({"c": [], "d": []})
    urgent = await world.submit({"u": []}, priority=5)

    order = [(await world.claim())[0].run for _ in range(5)]

    assert order == [urgent, first, second, first, second]


async def test_a_worker_without_the_label_or_runtime_gets_nothing_and_blocks_nobody(world: Any) -> None:
    await world.submit({"gpu": []}, labels=("gpu",))
    await world.submit({"plain": []})
    able = Capability("w2", frozenset({"gpu"}), frozenset({"mock"}), 1)
    other = Capability("w3", frozenset({"gpu"}), frozenset({"codex"}), 1)

    assert await world.claim(who=other) == []
    assert (await world.take("plain")).agent == "plain"
    assert [one.agent for one in await world.claim(who=able)] == ["gpu"]


async def test_an_expired_lease_makes_the_agent_ready_again_at_no_cost_in_retries(world: Any, clock: Any) -> None:
    run = await world.submit({"a": []})
    stale = await world.take("a")

    await clock.advance(seconds=31)
    expired = await endings.expire(world.database)

    assert expired == [("run-1", "a")]
    assert (await world.states(run))["a"] is AgentState.READY
    again = await world.take("a")
    assert again.number == 2
    assert again.lease.token > stale.lease.token
    await world.check_books(run)


async def test_a_stale_token_changes_nothing(world: Any, clock: Any) -> None:
    run = await world.submit({"a": []})
    stale = await world.take("a")
    await clock.advance(seconds=31)
    await endings.expire(world.database)
    fresh = await world.take("a")

    with pytest.raises(StaleLease):
        await world.finish(stale.lease)
    assert await claims.renew(world.database, [stale.lease, fresh.lease], lease_seconds=30) == [
        StopCause.LEASE_LOST,
        None,
    ]

    assert (await world.states(run))["a"] is AgentState.RUNNING


async def test_an_expired_lease_cannot_be_renewed_even_before_the_reaper_came(world: Any, clock: Any) -> None:
    await world.submit({"a": []})
    held = await world.take("a")

    await clock.advance(seconds=31)

    assert await claims.renew(world.database, [held.lease], lease_seconds=30) == [StopCause.LEASE_LOST]


async def test_a_renewed_lease_outlives_its_first_term(world: Any, clock: Any) -> None:
    await world.submit({"a": []})
    held = await world.take("a")

    for _ in range(5):
        await clock.advance(seconds=20)
        assert await claims.renew(world.database, [held.lease], lease_seconds=30) == [None]

    assert await endings.expire(world.database) == []


async def test_losses_are_bounded(world: Any, clock: Any) -> None:
    run = await world.submit({"a": []})

    for _ in range(6):
        await world.take("a")
        await clock.advance(seconds=31)
        await endings.expire(world.database)

    assert (await world.states(run))["a"] is AgentState.FAILED
    assert await world.state(run) is RunState.FAILED


async def test_a_worker_that_shuts_down_hands_its_agent_back(world: Any) -> None:
    run = await world.submit({"a": []})
    held = await world.take("a")

    await world.finish(held.lease, Stopped(StopCause.SHUTDOWN))

    assert (await world.states(run))["a"] is AgentState.READY
    async with world.database.connection() as connection:
        row = await connection.row("SELECT losses, retries_used FROM agents WHERE run = %s", [run])
    assert row == {"losses": 0, "retries_used": 0}


async def test_a_quota_parks_every_agent_of_the_credential_until_the_reset(world: Any, clock: Any) -> None:
    run = await world.submit({"a": [], "b": [], "c": []}, credential={"a": "claude:login", "b": "claude:login"})
    held = await world.take("a")

    await world.fail(held.lease, FailureClass.QUOTA)

    assert (await world.states(run))["a"] is AgentState.WAITING
    assert [one.agent for one in await world.claim(want=5)] == ["c"]
    await clock.advance(seconds=3600)
    assert "b" in [one.agent for one in await world.claim(want=5)]


async def test_the_cost_of_a_claim_does_not_grow_with_finished_waiting_or_blocked_agents(world: Any) -> None:
    # 3,000 agents that cannot be claimed stand beside one that can; the plan must not read them.
    agents: dict[str, list[str]] = {"root": []}
    agents |= {f"blocked{i}": ["root"] for i in range(3000)}
    run = await world.submit(agents)
    async with world.database.connection() as connection:
        await connection.run("ANALYZE agents")
        rows = await connection.rows(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + claims._HOLD,
            {"labels": [], "runtimes": ["mock"], "only": None},
        )
    plan = rows[0]["QUERY PLAN"][0]["Plan"]
    scanned: list[tuple[str, float]] = []

    def walk(node: dict[str, Any]) -> None:
        if node.get("Relation Name") == "agents":
            scanned.append((node.get("Index Name", node["Node Type"]), node.get("Rows Removed by Filter", 0)))
        for child in node.get("Plans", []):
            walk(child)

    walk(plan)
    assert scanned == [("agents_ready", 0)]
    assert (await world.take("root")).run == run


async def test_the_limit_holds_while_others_finish_and_nobody_meets_an_error(world: Any) -> None:
    # A claim in one statement would read the counters as they were before it had the run's row.
    names = [f"a{number}" for number in range(300)]
    parents = {name: [names[at - 1]] if at % 3 == 0 and at else [] for at, name in enumerate(names)}
    run = await world.submit(parents, limit=7)

    async def serve() -> None:
        idle = 0
        while idle < 20:
            claimed = await world.claim(want=3)
            idle = 0 if claimed else idle + 1
            for one in claimed:
                await world.finish(one.lease)
            if not claimed:
                await asyncio.sleep(0.01)

    await asyncio.gather(*(serve() for _ in range(14)))

    assert await world.state(run) is RunState.COMPLETED
    await world.check_books(run)
