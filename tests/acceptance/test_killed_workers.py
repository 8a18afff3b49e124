"""Whole runs over several worker processes, killed while they work."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from systems import System, one, plan, processes_of
from worker_actors import Fleet

pytestmark = pytest.mark.acceptance

AGENTS = 200
LIMIT = 7


async def test_200_agents_over_4_workers_killed_at_random_each_succeed_exactly_once(
    system: System, workers: Fleet
) -> None:
    agents: list[dict[str, Any]] = []
    for number in range(AGENTS):
        parents = random.sample(range(number), k=min(number, random.choice((0, 0, 1, 2, 3))))
        agents.append(
            one(
                f"a{number}",
                runtime="mock",
                depends_on=[f"a{parent}" for parent in parents],
                mock={"seconds": 0.02, "cost_usd": 0.001, "write": {f"out/{number}.txt": f"{number}\n"}},
            )
        )
    run_id = await system.submit(plan(*agents, orchestration={"concurrency_limit": LIMIT}))
    fleet = [workers.start(slots=3) for _ in range(4)]
    samples: list[int] = []
    completed = 0
    deaths = sorted(random.sample(range(10, 170), k=5))

    async with asyncio.timeout(240):
        async for event in system.client.follow(run_id):
            if event.type == "agent_claimed":
                (row,) = await system.rows("SELECT count(*) AS n FROM leases")
                samples.append(row["n"])
            completed += event.type == "agent_completed"
            if deaths and completed >= deaths[0]:
                deaths.pop(0)
                victim = random.choice(fleet)
                fleet.remove(victim)
                workers.kill(victim)
                fleet.append(workers.start(slots=3))
    assert workers.stop() == [0, 0, 0, 0], workers.said

    document = await system.client.run(run_id)
    assert (document.run.status, deaths) == ("completed", [])
    succeeded = [attempt.agent for attempt in document.attempts if attempt.status == "succeeded"]
    assert sorted(succeeded) == sorted(f"a{number}" for number in range(AGENTS))
    assert {attempt.status for attempt in document.attempts} <= {"succeeded", "lost"}
    assert {row.retries_used for row in document.agents} == {0}
    assert max(samples) <= LIMIT
    assert await at_once(system, run_id) == LIMIT
    await nothing_started_before_its_dependencies(system)
    await the_facts_agree(system, run_id)
    await system.check_books(run_id)
    assert processes_of(run_id) == set()


async def at_once(system: System, run_id: str) -> int:
    """How many attempts held the right to run at one moment, by what is on record of each."""
    running = most = 0
    held: set[tuple[str | None, int | None]] = set()
    for event in await system.events(run_id):
        if event.type == "agent_claimed":
            assert (event.agent, event.attempt) not in held
            held.add((event.agent, event.attempt))
            running += 1
        elif "attempt_state" in event.data:  # an attempt ended
            held.remove((event.agent, event.attempt))
            running -= 1
        most = max(most, running)
    assert not held
    return most


async def nothing_started_before_its_dependencies(system: System) -> None:
    rows = await system.rows(
        "SELECT c.name FROM edges e JOIN agents p ON p.id = e.parent JOIN agents c ON c.id = e.child"
        " JOIN attempts t ON t.agent = c.id WHERE t.claimed_at < p.finished_at"
    )
    assert rows == []


async def the_facts_agree(system: System, run_id: str) -> None:
    """Rows that tell of one thing in several tables tell the same."""
    accepted = await system.rows(
        "SELECT t.id, t.state FROM attempts t JOIN provenance p ON p.attempt = t.id AND p.accepted"
    )
    # A worker that died between its delivery and its ending leaves an accepted row of an attempt that was lost.
    assert len([row for row in accepted if row["state"] == "succeeded"]) == AGENTS
    costs = await system.rows(
        "SELECT a.name FROM agents a WHERE a.cost_usd <> (SELECT coalesce(sum(cost_usd), 0) FROM usage u"
        " WHERE u.agent = a.id)"
    )
    assert costs == []
    unended = await system.rows(
        "SELECT id FROM attempts WHERE (ended_at IS NULL) OR state NOT IN ('succeeded', 'lost')"
    )
    assert unended == []
    result = await system.client.result(run_id)
    assert sorted(system.tree(result.head_sha)) == sorted(
        ["README.md", *(f"out/{number}.txt" for number in range(AGENTS))]
    )


async def test_work_of_a_killed_worker_is_kept_and_the_next_attempt_goes_on_from_it(
    system: System, workers: Fleet
) -> None:
    setup = {"command": "echo x >> $SPAWND_SETUP_CACHE_DIR/count", "cache": True}
    command = (
        "if test -f half; then cat half > whole; else echo half > half; git add half; echo more > untracked;"
        " echo begun; setsid sleep 1000; fi"
    )
    run_id = await system.submit(plan(one("a", command=command), orchestration={"worktree_setup": setup}))
    first = workers.start()
    await system.event(run_id, "message", text="begun")

    workers.kill(first)
    workers.start()
    document = await system.ended(run_id)

    assert [attempt.status for attempt in document.attempts] == ["lost", "succeeded"]
    assert (document.run.status, document.agents[0].retries_used) == ("completed", 0)
    files = await system.files(run_id, "a")
    assert (files["half"], files["whole"], files["untracked"]) == ("half\n", "half\n", "more\n")
    (cache,) = system.settings.setup_caches.iterdir()
    assert (cache / "count").read_text() == "x\nx\n"
    assert processes_of(run_id) == set()
    assert not system.workspace(run_id, "a").exists()
    assert workers.stop() == [0]
    await system.check_books(run_id)
