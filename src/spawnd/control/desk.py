"""The faces' door in the same process: ``contracts.client`` straight over the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal

from spawnd.contracts.artifacts import ArtifactStore
from spawnd.contracts.bus import Bus, Hint, Topic
from spawnd.contracts.client import Result
from spawnd.control import results
from spawnd.control.plane import Relay
from spawnd.control.submit import submit
from spawnd.domain.resume import Action, Item, plan_resume, plan_retry
from spawnd.domain.states import RunState, is_ended
from spawnd.errors import NotFound, Unavailable, UsageError
from spawnd.git.mirrors import Mirrors
from spawnd.plan.compiled import CompiledAgent, CompiledPlan
from spawnd.store import endings, events, outbox, reads, runs, steering, workers
from spawnd.store.database import Database
from spawnd.wire.events import EventRow
from spawnd.wire.evidence import ArtifactList, CheckList, ProvenanceList, Trace
from spawnd.wire.runs import ResumeItem, ResumePlan, RunDocument, RunList, Submitted
from spawnd.wire.workers import WorkerList

_FOLLOW_POLL_SECONDS = 2.0
_FOLLOW_PAGE = 500
_AWAY_SECONDS = 1.0

log = logging.getLogger(__name__)


class Desk:
    """Everything that a person or a program may ask for."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        artifacts: ArtifactStore,
        relay: Relay,
        mirrors: Mirrors,
        *,
        credential_of: Callable[[CompiledAgent], str | None],
    ) -> None:
        self._database = database
        self._bus = bus
        self._artifacts = artifacts
        self._relay = relay
        self._mirrors = mirrors
        self._credential_of = credential_of

    async def submit(
        self,
        plan: CompiledPlan,
        *,
        source_repo: str,
        source_ref: str | None,
        run_id: str | None = None,
        notices: Sequence[str] = (),
        via: str = "cli",
    ) -> Submitted:
        submitted = await submit(
            self._database,
            plan,
            source_repo=source_repo,
            source_ref=source_ref,
            run_id=run_id,
            notices=notices,
            via=via,
            credential_of=self._credential_of,
        )
        self._relay.nudge(Hint(Topic.WORK))
        return submitted

    async def resolve(self, run_id: str) -> str:
        async with self._database.connection() as connection:
            if run_id == "latest":
                found = await runs.matching(connection, "", limit=1)
                if not found:
                    raise NotFound("There is no run yet.", hint="`spawnd run -f plan.yaml` makes one.")
                return found[0]
            if await runs.find(connection, run_id):
                return run_id
            found = await runs.matching(connection, run_id, limit=6) if run_id else []
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{run_id!r} is short for several runs: {', '.join(found[:5])}.")
        raise NotFound(f"There is no run {run_id!r}.", hint="`spawnd status` lists the recent ones.")

    async def runs(self, *, limit: int = 20, before: str | None = None, status: Sequence[str] = ()) -> RunList:
        unknown = set(status) - {state.value for state in RunState}
        if unknown:
            known = ", ".join(state.value for state in RunState)
            raise UsageError(f"No such status: {', '.join(sorted(unknown))}.", hint=f"Known: {known}.")
        page, cursor = await reads.runs(self._database, limit=limit, before=before, status=status)
        return RunList(runs=tuple(page), next=cursor)

    async def run(self, run_id: str) -> RunDocument:
        return await reads.run(self._database, await self._key(run_id))

    async def events(
        self, run_id: str, *, after: int = 0, limit: int = 100, agent: str | None = None, newest: bool = False
    ) -> Sequence[EventRow]:
        key = await self._key(run_id, agent)
        async with self._database.connection() as connection:
            return await events.read(connection, key, after=after, limit=limit, agent=agent, newest=newest)

    async def follow(self, run_id: str, *, after: int = 0) -> AsyncIterator[EventRow]:
        run_id = await self.resolve(run_id)
        key = await self._key(run_id)
        async with self._bus.listen([Topic.RUN]) as ear:
            while True:
                try:
                    # The state first: if it has ended, the page read after it holds the last event.
                    ended = await self._ended(run_id)
                    async with self._database.connection() as connection:
                        page = await events.read(connection, key, after=after, limit=_FOLLOW_PAGE)
                except Unavailable as error:
                    if not error.retryable:
                        raise
                    log.warning("events wait", extra={"error": error.message})
                    await asyncio.sleep(_AWAY_SECONDS)
                    continue
                for event in page:
                    yield event
                    after = event.seq
                if len(page) == _FOLLOW_PAGE:
                    continue
                if ended:
                    return
                mine = {Hint(Topic.RUN, run_id), Hint(Topic.RUN)}
                heard = await ear.wait(timeout_seconds=_FOLLOW_POLL_SECONDS)
                while heard and not heard & mine:
                    heard = await ear.wait(timeout_seconds=_FOLLOW_POLL_SECONDS)

    async def artifacts(self, run_id: str, *, agent: str | None = None, limit: int = 500) -> ArtifactList:
        key = await self._key(run_id, agent)
        rows = await reads.artifacts(self._database, key, agent=agent, limit=limit)
        return ArtifactList(artifacts=tuple(rows))

    async def artifact_bytes(self, sha256: str) -> bytes:
        return await self._artifacts.get(sha256)

    async def checks(self, run_id: str, *, agent: str | None = None, limit: int = 500) -> CheckList:
        key = await self._key(run_id, agent)
        return CheckList(checks=tuple(await reads.checks(self._database, key, agent=agent, limit=limit)))

    async def provenance(self, run_id: str, *, agent: str | None = None, limit: int = 100_000) -> ProvenanceList:
        key = await self._key(run_id, agent)
        rows = await reads.provenance(self._database, key, agent=agent, limit=limit)
        return ProvenanceList(provenance=tuple(rows))

    async def result(self, run_id: str, *, agent: str | None = None, own: bool = False) -> Result:
        run_id = await self.resolve(run_id)
        rows = (await self.provenance(run_id, agent=agent)).provenance
        if agent is not None:
            return await results.one_agent(self._mirrors, run_id, agent, rows, own=own)
        return await results.whole_run(self._mirrors, await self.run(run_id), rows)

    async def trace(self, run_id: str, *, agent: str | None = None, limit: int = 500) -> Trace:
        key = await self._key(run_id, agent)
        return await reads.trace(self._database, key, agent=agent, limit=limit)

    async def cancel(self, run_id: str, *, agent: str | None = None) -> int:
        count = await steering.cancel(self._database, await self._key(run_id), agent=agent)
        self._relay.nudge()
        return count

    async def pause(self, run_id: str) -> None:
        await steering.pause(self._database, await self._key(run_id))
        self._relay.nudge()

    async def resume(
        self,
        run_id: str,
        *,
        agent: str | None = None,
        now: bool = False,
        budget_usd: Decimal | None = None,
        dry_run: bool = False,
    ) -> ResumePlan:
        run_id = await self.resolve(run_id)
        key = await self._key(run_id, agent)
        async with self._database.connection() as connection:
            standing, _ = await steering.standings(connection, key)
        items = plan_resume(standing, only=agent, now=now)
        if not dry_run:
            if now:
                woken = [item.agent for item in items if item.action in (Action.WAKE, Action.START)]
                await steering.open_windows(self._database, key, names=woken)
            await steering.reopen(
                self._database,
                key,
                items,
                budget_usd=budget_usd,
                whole_run=agent is None or budget_usd is not None,
            )
            self._relay.nudge()
        return _resume_plan(run_id, items, applied=not dry_run)

    async def retry(self, run_id: str, *, agent: str | None = None, dry_run: bool = False) -> ResumePlan:
        run_id = await self.resolve(run_id)
        key = await self._key(run_id, agent)
        async with self._database.connection() as connection:
            standing, _ = await steering.standings(connection, key)
        items = plan_retry(standing, only=agent)
        if not dry_run:
            await steering.reopen(self._database, key, items, budget_usd=None, whole_run=agent is None)
            self._relay.nudge()
        return _resume_plan(run_id, items, applied=not dry_run)

    async def answer(self, run_id: str, agent: str, text: str) -> None:
        await steering.answer(self._database, await self._key(run_id), agent, text)
        self._relay.nudge()

    async def workers(self) -> WorkerList:
        depth, rows, quotas = await workers.fleet(self._database)
        return WorkerList(queue_depth=depth, workers=tuple(rows), quotas=tuple(quotas))

    async def reconcile(self) -> Sequence[tuple[str, str]]:
        touched = await endings.expire(self._database, limit=1000)
        touched += await steering.wake_due(self._database, limit=1000)
        await self._bus.publish([Hint(Topic.WORK)])
        self._relay.nudge()
        return touched

    async def drain_outbox(self, *, limit: int = 100) -> int:
        hints = await outbox.take(self._database, limit=limit)
        await self._bus.publish(hints)
        return len(hints)

    async def _key(self, run_id: str, agent: str | None = None) -> int:
        whole = await self.resolve(run_id)
        async with self._database.connection() as connection:
            row = await runs.find(connection, whole)
        assert row is not None
        key = int(row["id"])
        if agent is not None:
            names = await reads.agent_names(self._database, key)
            if agent not in names:
                raise NotFound(f"{whole} has no agent {agent!r}.", hint=f"It has: {', '.join(names[:20])}.")
        return key

    async def _ended(self, run_id: str) -> bool:
        async with self._database.connection() as connection:
            row = await runs.find(connection, run_id)
        return row is None or is_ended(RunState(row["state"]))


def _resume_plan(run_id: str, items: Sequence[Item], *, applied: bool) -> ResumePlan:
    return ResumePlan(
        run_id=run_id,
        items=tuple(ResumeItem(agent=item.agent, action=item.action.value, reason=item.reason) for item in items),
        applied=applied,
    )
