"""Why is it not running? One leading reason for every agent that has not ended and is not running."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from spawnd.domain.states import AgentState, RunState, WaitReason


@dataclass(frozen=True, slots=True)
class Reason:
    """``code`` is one word; ``who`` can clear it: spawnd, you, provider or operator."""

    code: str
    text: str
    who: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The run as far as it holds agents back."""

    state: RunState
    ending: str | None
    state_reason: str | None
    concurrency_limit: int | None
    agents_running: int
    over_budget: bool


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """The agent as far as it may be held back."""

    state: AgentState
    wait_reason: WaitReason | None
    due_at: datetime | None
    failure_class: str | None
    failure_message: str | None
    runtime: str
    labels: Collection[str]
    unmet_names: Sequence[str]
    quota_until: datetime | None
    quota_message: str | None
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """A live worker: what it can serve."""

    labels: Collection[str]
    runtimes: Collection[str]
    draining: bool


def why(agent: AgentFacts, run: RunFacts, servers: Sequence[Server]) -> Reason | None:
    """The leading reason, the one that must be cleared first; None if it runs or has ended."""
    if agent.state not in (AgentState.BLOCKED, AgentState.READY, AgentState.WAITING):
        return None
    if run.ending is not None:
        return Reason("cancelling", "the run is being ended; running agents are stopping", "spawnd")
    if agent.state is AgentState.WAITING and agent.wait_reason is WaitReason.HUMAN:
        return Reason("human", f"{agent.failure_message or 'it waits for you'} {agent.next_step}".strip(), "you")
    if agent.state is AgentState.BLOCKED:
        names = ", ".join(agent.unmet_names[:3]) + (" …" if len(agent.unmet_names) > 3 else "")
        return Reason("dependency", f"waits for {names}", "spawnd")
    if run.state is RunState.PAUSED:
        text = run.state_reason or "the run is paused"
        return Reason("budget" if text.startswith("budget") else "paused", text, "you")
    if agent.state is AgentState.WAITING and agent.wait_reason is WaitReason.QUOTA:
        return Reason("quota", agent.failure_message or "a provider's limit", "provider", agent.due_at)
    if agent.state is AgentState.WAITING:
        return Reason("backoff", f"tries again ({agent.failure_class})", "spawnd", agent.due_at)
    if agent.quota_until is not None:
        return Reason("quota", agent.quota_message or "a provider's limit", "provider", agent.quota_until)
    if run.over_budget:
        return Reason("budget", "the run's cost_budget is used up", "you")
    capable = [
        server for server in servers if agent.runtime in server.runtimes and set(agent.labels) <= set(server.labels)
    ]
    if not capable:
        needs = f"runtime {agent.runtime}" + (f", labels {', '.join(sorted(agent.labels))}" if agent.labels else "")
        return Reason(
            "no_capable_worker",
            f"no live worker serves {needs}; start one with `spawnd worker --poll`",
            "you",
        )
    if all(server.draining for server in capable):
        return Reason("draining", "every capable worker is draining", "operator")
    if run.concurrency_limit is not None and run.agents_running >= run.concurrency_limit:
        return Reason("concurrency_limit", f"{run.agents_running} of {run.concurrency_limit} already run", "spawnd")
    return Reason("starting", "a worker takes it as soon as it has a free slot", "spawnd")
