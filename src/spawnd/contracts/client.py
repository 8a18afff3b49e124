"""What faces may ask of the system: one contract for the CLI, the SDK and the API.

Two implementations are meant: in the same process (``control.Desk``) and over HTTP. Answers are documents of
``wire``. Errors are those of ``errors``: ``NotFound`` for an unknown run or agent, ``Conflict`` for a move that
the state does not allow, ``PlanError`` for a plan, ``Unavailable`` for a backend.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from spawnd.plan.compiled import CompiledPlan
from spawnd.wire.events import EventRow
from spawnd.wire.evidence import ArtifactList, CheckList, ProvenanceList, Trace
from spawnd.wire.runs import ResumePlan, RunDocument, RunList, Submitted
from spawnd.wire.workers import WorkerList


@dataclass(frozen=True, slots=True)
class Result:
    """Work as one patch from ``base_sha`` to ``head_sha``. ``agents`` are those whose work is in it.

    ``accepted`` is False for work that was kept without passing its checks. ``mirror`` is the repository on this
    machine that holds both commits, or None.
    """

    run_id: str
    base_sha: str
    head_sha: str
    agents: tuple[str, ...]
    accepted: bool
    patch: bytes
    mirror: Path | None = None


class Client(Protocol):
    """See the module's text. ``run_id`` may be shortened to a unique prefix, or be ``latest``."""

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
        """Commit a run. The same run id with the same plan and source returns the same run."""
        ...

    async def resolve(self, run_id: str) -> str:
        """The whole run id for a whole one, a unique prefix, or ``latest``."""
        ...

    async def runs(self, *, limit: int = 20, before: str | None = None, status: Sequence[str] = ()) -> RunList: ...

    async def run(self, run_id: str) -> RunDocument: ...

    async def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        limit: int = 100,
        agent: str | None = None,
        newest: bool = False,
    ) -> Sequence[EventRow]:
        """Events with a number above ``after``, ascending. ``newest`` gives the last ``limit`` instead."""
        ...

    def follow(self, run_id: str, *, after: int = 0) -> AsyncIterator[EventRow]:
        """Every event from ``after`` on, each once and in order, until the run has ended."""
        ...

    async def artifacts(self, run_id: str, *, agent: str | None = None, limit: int = 500) -> ArtifactList: ...

    async def artifact_bytes(self, sha256: str) -> bytes: ...

    async def checks(self, run_id: str, *, agent: str | None = None, limit: int = 500) -> CheckList: ...

    async def provenance(self, run_id: str, *, agent: str | None = None, limit: int = 100_000) -> ProvenanceList: ...

    async def result(self, run_id: str, *, agent: str | None = None, own: bool = False) -> Result:
        """The run's accepted work merged into one patch, or the named agent's: with everything that it builds on,
        or with ``own`` its change alone. Raises ``Conflict`` if there is none, ``MergeConflict`` if parts of the
        run that nobody merged change the same lines."""
        ...

    async def trace(self, run_id: str, *, agent: str | None = None, limit: int = 500) -> Trace: ...

    async def cancel(self, run_id: str, *, agent: str | None = None) -> int:
        """End what has not ended; returns how many agents that concerns. Running ones are told to stop."""
        ...

    async def pause(self, run_id: str) -> None:
        """Nothing new starts. Running agents go on."""
        ...

    async def resume(
        self,
        run_id: str,
        *,
        agent: str | None = None,
        now: bool = False,
        budget_usd: Decimal | None = None,
        dry_run: bool = False,
    ) -> ResumePlan:
        """Go on: unpause, wake what waits for a person (with ``now`` what waits for a time too), run again what
        ended without completing. Completed agents are kept. ``dry_run`` only says what would happen."""
        ...

    async def retry(self, run_id: str, *, agent: str | None = None, dry_run: bool = False) -> ResumePlan:
        """Run again the agents that ended without completing, or the named one whatever its end, with what
        depends on it."""
        ...

    async def answer(self, run_id: str, agent: str, text: str) -> None:
        """Say something to an agent that waits for a person, and wake it."""
        ...

    async def workers(self) -> WorkerList: ...

    async def reconcile(self) -> Sequence[tuple[str, str]]:
        """Expire dead leases, wake what is due, recount; returns (run, agent) of everything touched."""
        ...

    async def drain_outbox(self, *, limit: int = 100) -> int:
        """Send pending hints; returns how many."""
        ...
