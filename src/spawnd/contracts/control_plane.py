"""What a worker may ask of the system: the only door between workers and the record.

Two implementations are meant: direct (over the store, in the same process) and remote (HTTP). Every write
carries the attempt's lease; a stale one raises ``errors.StaleLease`` and changes nothing. ``record``,
``finish`` and ``release`` are idempotent, so that a lost answer is mended by asking again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from spawnd.domain.facts import Fact
from spawnd.domain.settle import Decision, Outcome, StopCause

if TYPE_CHECKING:  # the plan's models cost more to import than everything else here
    from spawnd.plan.compiled import CompiledAgent, CompiledOrchestration


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for an attempt. ``token`` is the fencing token; it grows with every claim."""

    attempt_id: int
    token: int


@dataclass(frozen=True, slots=True)
class Capability:
    """What a worker can serve: its labels, the runtimes it can run, and how many agents at once.

    With ``run_id`` it serves that run alone, as the worker inside `spawnd run` does.
    """

    worker_id: str
    labels: frozenset[str] = frozenset()
    runtimes: frozenset[str] = frozenset()
    slots: int = 1
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Contribution:
    """The accepted result of a dependency. ``bundle_sha256`` carries its commits to other mirrors."""

    agent: str
    base_sha: str
    head_sha: str
    ref: str
    bundle_sha256: str | None
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the agent's last attempt left, for the next one to build on."""

    attempt: int
    state: str
    session_id: str | None
    head_sha: str | None
    base_sha: str | None
    ref: str | None
    bundle_sha256: str | None
    failure_class: str | None
    failure_message: str | None
    failed_checks: tuple[tuple[str, str], ...] = ()  #: (name, end of its output)
    worker_id: str | None = None
    fresh_since: int = 0  #: the agent's last attempt that succeeded: what came before is not built on


@dataclass(frozen=True, slots=True)
class Assignment:
    """Everything that a worker needs for one attempt."""

    lease: Lease
    run_id: str
    run_name: str
    agent: str
    attempt: int
    spec: CompiledAgent
    orchestration: CompiledOrchestration
    shared_context: tuple[str, ...]
    source_repo: str
    source_ref: str | None
    source_sha: str | None  #: fixed by the first attempt of the run; None until then
    lease_expires_at: datetime
    dependencies: tuple[Contribution, ...] = ()
    earlier: Earlier | None = None
    answers: tuple[str, ...] = ()  #: what people said to it since its last attempt


@dataclass(frozen=True, slots=True)
class Directive:
    """What the system wants of a running attempt. ``stop`` None means: carry on."""

    stop: StopCause | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """How an ending was taken."""

    decision: Decision
    already: bool = False  #: it had been recorded before; this call changed nothing


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker says about itself when it registers and with each heartbeat."""

    capability: Capability
    hostname: str
    pid: int
    version: str
    state: str = "active"  #: active or draining
    detail: Mapping[str, str] = field(default_factory=dict)


class ControlPlane(Protocol):
    """See the module's text."""

    async def register(self, info: WorkerInfo) -> None:
        """Appear, or refresh the heartbeat. Cheap; called every few seconds."""
        ...

    async def unregister(self, worker_id: str) -> None: ...

    async def claim(self, capability: Capability, *, want: int, lease_seconds: float) -> Sequence[Assignment]:
        """Take up to ``want`` agents that this worker can serve, the best first. Never waits."""
        ...

    async def wait_for_work(self, *, timeout_seconds: float) -> None:
        """Return at a hint that there may be work, or after the timeout. Hints may be lost or false."""
        ...

    async def renew(self, leases: Sequence[Lease], *, lease_seconds: float) -> Sequence[Directive]:
        """Prolong; one answer per lease, in order. A lost lease answers ``stop=LEASE_LOST``."""
        ...

    async def pin_source(self, lease: Lease, sha: str) -> str:
        """Fix the run's source commit. The first caller wins; returns the commit that holds."""
        ...

    async def record(self, lease: Lease, first_number: int, facts: Sequence[Fact]) -> Directive:
        """Write facts, numbered ``first_number`` onwards within the attempt (from 1); known ones are skipped."""
        ...

    async def finish(self, lease: Lease, outcome: Outcome) -> Settled:
        """End the attempt, release dependents, settle the run. Durable on return."""
        ...

    async def put_artifact(self, data: bytes) -> str:
        """Store bytes (redacted already), return their sha-256. Durable on return."""
        ...

    async def get_artifact(self, sha256: str) -> bytes: ...

    async def is_live(self, attempt_id: int) -> bool:
        """Whether some worker holds a live lease on the attempt. Decides if leftovers may be salvaged."""
        ...
