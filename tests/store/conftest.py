"""Short words for building runs straight in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from spawnd.contracts.control_plane import Capability, Lease
from spawnd.domain.facts import Fact
from spawnd.domain.failures import Failure, FailureClass
from spawnd.domain.settle import Failed, Outcome, StopCause, Succeeded
from spawnd.domain.states import AgentState, RunState
from spawnd.errors import StaleLease
from spawnd.store import claims, endings, records, runs
from spawnd.store.database import Database

WORKER = Capability("w1", frozenset(), frozenset({"mock"}), 16)


class World:
    """A database seen through short words."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._count = 0

    async def submit(
        self,
        agents: Mapping[str, Sequence[str]],
        *,
        limit: int | None = None,
        budget: str = "25",
        on_exceed: str = "pause",
        breaker: tuple[int, str] | None = None,
        **of_each: Any,
    ) -> int:
        """A run of agents, each with the names it depends on; returns the run's key."""
        names = list(agents)
        self._count += 1
        fields = {
            "spec": {},
            "runtime": "mock",
            "labels": (),
            "priority": 0,
            "credential": None,
            "on_failure": "continue",
            "retry_count": 3,
            "max_cost_usd": Decimal(5),
        }
        new = runs.NewRun(
            run_id=f"run-{self._count}",
            name="test",
            plan={},
            plan_sha256="0" * 64,
            notices=(),
            source_repo="/nowhere",
            source_ref=None,
            via="test",
            concurrency_limit=limit,
            cost_budget_usd=Decimal(budget),
            on_exceed=on_exceed,
            breaker_threshold=breaker[0] if breaker else None,
            breaker_action=breaker[1] if breaker else None,
            agents=[
                runs.NewAgent(
                    name=name,
                    parents=[names.index(parent) for parent in parents],
                    **{
                        **fields,
                        "spec": {"type": "worker", "depends_on": list(parents)},
                        **{
                            key: value[name] if isinstance(value, dict) else value
                            for key, value in of_each.items()
                            if not isinstance(value, dict) or name in value
                        },
                    },
                )
                for name, parents in agents.items()
            ],
        )
        async with self.database.transaction() as tx:
            key = await runs.insert(tx, new)
        assert key is not None
        return key

    async def claim(
        self, *, want: int = 1, who: Capability = WORKER, lease_seconds: float = 30
    ) -> list[claims.Claimed]:
        return await claims.claim(self.database, who, want=want, lease_seconds=lease_seconds)

    async def take(self, name: str) -> claims.Claimed:
        """Claim exactly the agent ``name``, which must be the next."""
        (claimed,) = await self.claim()
        assert claimed.agent == name
        return claimed

    async def record(self, lease: Lease, first_number: int, facts: Sequence[Fact]) -> StopCause | None:
        (answer,) = await records.record(self.database, [records.Batch(lease, first_number, facts)])
        if isinstance(answer, StaleLease):
            raise answer
        return answer

    async def finish(self, lease: Lease, outcome: Outcome | None = None) -> Any:
        (settled,) = await endings.finish(self.database, [(lease, outcome or Succeeded())])
        if isinstance(settled, StaleLease):
            raise settled
        return settled

    async def fail(self, lease: Lease, class_: FailureClass = FailureClass.AGENT_ERROR, **more: Any) -> Any:
        return await self.finish(lease, Failed(Failure(class_, "it broke", **more)))

    async def states(self, run: int) -> dict[str, AgentState]:
        async with self.database.connection() as connection:
            rows = await connection.rows("SELECT name, state FROM agents WHERE run = %s ORDER BY position", [run])
        return {row["name"]: AgentState(row["state"]) for row in rows}

    async def state(self, run: int) -> RunState:
        return RunState((await self.row(run))["state"])

    async def row(self, run: int) -> dict[str, Any]:
        async with self.database.connection() as connection:
            row = await connection.row("SELECT * FROM runs WHERE id = %s", [run])
        assert row is not None
        return row

    async def events(self, run: int) -> list[tuple[int, str]]:
        async with self.database.connection() as connection:
            rows = await connection.rows("SELECT seq, type FROM events WHERE run = %s ORDER BY seq", [run])
        return [(row["seq"], row["type"]) for row in rows]

    async def check_books(self, run: int) -> None:
        """Every counter in the run's row equals what its agents say, and its events are gapless."""
        row = await self.row(run)
        states = list((await self.states(run)).values())
        open_states = {AgentState.BLOCKED, AgentState.READY, AgentState.RUNNING, AgentState.WAITING}
        assert row["agents_total"] == len(states)
        assert row["agents_open"] == sum(state in open_states for state in states)
        assert row["agents_ready"] == states.count(AgentState.READY)
        assert row["agents_running"] == states.count(AgentState.RUNNING)
        assert [seq for seq, _ in await self.events(run)] == list(range(1, row["last_seq"] + 1))
        async with self.database.connection() as connection:
            leases = await connection.row("SELECT count(*) AS n FROM leases WHERE run = %s", [run])
        assert leases is not None and leases["n"] == row["agents_running"]


@pytest.fixture
def world(database: Database) -> World:
    return World(database)
