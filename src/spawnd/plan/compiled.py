"""The compiled plan: defaults, role and agent merged, everything explicit, immutable from submission on.

Workers execute this and nothing else. It round-trips through JSON, since Postgres keeps it so.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from spawnd.plan import spec


class Compiled(BaseModel):
    """The base: frozen, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Check(Compiled):
    """A check with its time limit in seconds."""

    name: str
    command: str
    timeout_seconds: float


class CompiledAgent(Compiled):
    """One agent, whole. ``system_prompt`` is the role's text; ``prompt`` is the task."""

    name: str
    type: str
    role: str | None
    system_prompt: str
    prompt: str
    depends_on: tuple[str, ...]
    checks: tuple[Check, ...]
    on_failure: str
    retry_count: int
    model: str | None
    max_cost_usd: float | None
    runtime: str
    codex: spec.CodexOptions
    acp: spec.AcpOptions | None
    command: tuple[str, ...] | str | None
    mock: spec.MockOptions
    mcp_servers: tuple[spec.McpServer, ...]
    write_allowed: bool
    env: dict[str, str]
    env_refs: dict[str, str]
    max_iterations: int
    runtime_timeout_seconds: float | None
    milestones: tuple[spec.Milestone, ...]
    manager: spec.Manager | None
    labels: tuple[str, ...]
    priority: int
    resources: spec.Resources
    network: str
    setup: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class CompiledOrchestration(Compiled):
    """Everything about how the run is run, with nothing left to default."""

    event_injection: bool
    circuit_breaker: spec.CircuitBreaker | None
    dependency_context: spec.DependencyContext
    worktree_source: spec.WorktreeSource
    worktree_setup: spec.WorktreeSetup | None
    telemetry: spec.TelemetryOptions
    artifacts: spec.ArtifactOptions
    git: spec.GitOptions
    command_policy: spec.CommandPolicy
    cleanup: spec.Cleanup
    runtime_isolation: spec.RuntimeIsolation
    concurrency_limit: int | None
    stuck_threshold: int | None


class CompiledPlan(Compiled):
    """A whole plan. ``slug`` is the name as it may stand in ids and branches."""

    name: str
    slug: str
    description: str
    run_id: str | None
    resume: bool
    cost_budget: spec.CostBudget
    shared_context: tuple[str, ...]
    orchestration: CompiledOrchestration
    agents: tuple[CompiledAgent, ...]
    on_complete: str

    def digest(self) -> str:
        """sha-256 of the canonical JSON: two plans with one digest ask for the same."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
