"""The worker's door in the same process: ``contracts.control_plane`` straight over the store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from pydantic import ValidationError

from spawnd.contracts.artifacts import ArtifactStore
from spawnd.contracts.bus import Ear, Hint
from spawnd.contracts.control_plane import (
    Assignment,
    Capability,
    Directive,
    Lease,
    Settled,
    WorkerInfo,
)
from spawnd.control.merging import Merging
from spawnd.domain.facts import Fact
from spawnd.domain.failures import Failure, FailureClass
from spawnd.domain.settle import Failed, Outcome, StopCause
from spawnd.errors import StaleLease
from spawnd.plan.compiled import CompiledAgent, CompiledOrchestration
from spawnd.store import assignments, claims, endings, records, workers
from spawnd.store.database import Database


class Relay(Protocol):
    """What the relay of this process offers to its writers; see ``maintenance.relay``."""

    def nudge(self, *hints: Hint) -> None:
        """The outbox has something: send it now, first of all ``hints``, which are known to be in it."""
        ...

    def run_changed(self, run_id: str) -> None:
        """Events were appended: tell followers, merged with what else changed."""
        ...


class DirectPlane:
    """A worker's view of the system, without a network between.

    ``ear`` hears WORK hints. The relay is told after commits that wrote hints, so that they are sent at once
    instead of at its next poll.
    """

    def __init__(self, database: Database, artifacts: ArtifactStore, ear: Ear, relay: Relay) -> None:
        self._database = database
        self._artifacts = artifacts
        self._ear = ear
        self._relay = relay
        self._run_ids: dict[int, str] = {}
        self._finish = Merging[str | int, tuple[Lease, Outcome], Settled](partial(endings.finish, database))
        self._record = Merging[str | int, records.Batch, StopCause | None](partial(records.record, database))

    async def register(self, info: WorkerInfo) -> None:
        await workers.beat(self._database, info)

    async def unregister(self, worker_id: str) -> None:
        await workers.remove(self._database, worker_id)

    async def claim(self, capability: Capability, *, want: int, lease_seconds: float) -> Sequence[Assignment]:
        claimed = await claims.claim(self._database, capability, want=want, lease_seconds=lease_seconds)
        if not claimed:
            return []
        async with self._database.connection() as connection:
            background = await assignments.background(connection, claimed)
        for one in claimed:
            self._run_ids[one.lease.attempt_id] = one.run_id
        self._relay.run_changed(claimed[0].run_id)
        taken = []
        for one in claimed:
            try:
                taken.append(_assignment(one, background[one.agent_key]))
            except ValidationError as error:
                await self._give_up(one, error)
        return taken

    async def wait_for_work(self, *, timeout_seconds: float) -> None:
        await self._ear.wait(timeout_seconds=timeout_seconds)

    async def renew(self, leases: Sequence[Lease], *, lease_seconds: float) -> Sequence[Directive]:
        if not leases:
            return []
        stops = await claims.renew(self._database, leases, lease_seconds=lease_seconds)
        return [Directive(stop) for stop in stops]

    async def pin_source(self, lease: Lease, sha: str) -> str:
        return await assignments.pin_source(self._database, lease, sha)

    async def record(self, lease: Lease, first_number: int, facts: Sequence[Fact]) -> Directive:
        stop = await self._record(self._together(lease), records.Batch(lease, first_number, facts))
        if (run_id := self._run_ids.get(lease.attempt_id)) is not None:
            self._relay.run_changed(run_id)
        if stop is not None:
            self._relay.nudge()  # a budget may have told others to stop
        return Directive(stop)

    async def finish(self, lease: Lease, outcome: Outcome) -> Settled:
        try:
            settled = await self._finish(self._together(lease), (lease, outcome))
        except StaleLease:
            self._run_ids.pop(lease.attempt_id, None)
            raise
        self._run_ids.pop(lease.attempt_id, None)
        self._relay.nudge()
        return settled

    async def put_artifact(self, data: bytes) -> str:
        return await self._artifacts.put(data)

    async def get_artifact(self, sha256: str) -> bytes:
        return await self._artifacts.get(sha256)

    async def is_live(self, attempt_id: int) -> bool:
        async with self._database.connection() as connection:
            return await claims.is_live(connection, attempt_id)

    def _together(self, lease: Lease) -> str | int:
        """What calls are merged by: the run, or the attempt alone if it was not claimed here."""
        return self._run_ids.get(lease.attempt_id, lease.attempt_id)

    async def _give_up(self, one: claims.Claimed, error: ValidationError) -> None:
        """What another version compiled and this one cannot read must end here, not take one worker after another."""
        where = ", ".join(sorted({".".join(map(str, problem["loc"])) for problem in error.errors()})[:5])
        message = (
            f"Its worker's version of spawnd does not understand the plan's {where}: run the workers of one version."
        )
        await self.finish(one.lease, Failed(Failure(FailureClass.POLICY, message)))


def _assignment(one: claims.Claimed, background: assignments.Background) -> Assignment:
    return Assignment(
        lease=one.lease,
        run_id=one.run_id,
        run_name=one.run_name,
        agent=one.agent,
        attempt=one.number,
        spec=CompiledAgent.model_validate(one.spec),
        orchestration=CompiledOrchestration.model_validate(one.plan["orchestration"]),
        shared_context=tuple(one.plan.get("shared_context", ())),
        source_repo=one.source_repo,
        source_ref=one.source_ref,
        source_sha=one.source_sha,
        lease_expires_at=one.expires_at,
        dependencies=background.dependencies,
        earlier=background.earlier,
        answers=background.answers,
    )
