"""Why an agent does not run: the one reason that must be cleared first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spawnd.domain.states import AgentState, RunState, WaitReason
from spawnd.domain.waiting import AgentFacts, RunFacts, Server, why

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

LATER = datetime(2026, 1, 2, tzinfo=UTC)
RUNNING = RunFacts(RunState.RUNNING, None, None, None, 0, False)
READY = AgentFacts(AgentState.READY, None, None, None, None, "codex", (), (), None, None)
IDLE = Server((), ("codex", "claude"), draining=False)


def waiting(reason: WaitReason, **facts: Any) -> AgentFacts:
    due = None if reason is WaitReason.HUMAN else LATER
    return replace(READY, state=AgentState.WAITING, wait_reason=reason, due_at=due, **facts)


BLOCKED = replace(READY, state=AgentState.BLOCKED, unmet_names=("parser",))
HUMAN = waiting(WaitReason.HUMAN, failure_class="payment", failure_message="No credit.", next_step="Add credit.")
QUOTA = waiting(WaitReason.QUOTA, failure_class="quota", failure_message="5-hour limit")
BACKOFF = waiting(WaitReason.BACKOFF, failure_class="overload")
WINDOW = replace(READY, quota_until=LATER, quota_message="5-hour limit")
GPU = replace(READY, labels=("gpu", "big"))
PAUSED = replace(RUNNING, state=RunState.PAUSED)
PAUSED_BY_BUDGET = replace(PAUSED, state_reason="budget: $25.00 used up")
ENDING = replace(RUNNING, ending="cancelled")
BROKE = replace(RUNNING, over_budget=True)
FULL = replace(RUNNING, concurrency_limit=2, agents_running=2)
DRAINING = replace(IDLE, draining=True)


@pytest.mark.parametrize(
    ("agent", "run", "servers", "code", "words", "who"),
    [
        (READY, RUNNING, [IDLE], "starting", "free slot", "spawnd"),
        (READY, FULL, [IDLE], "concurrency_limit", "2 of 2", "spawnd"),
        (READY, replace(FULL, agents_running=1), [IDLE], "starting", "free slot", "spawnd"),
        (READY, RUNNING, [DRAINING], "draining", "draining", "operator"),
        (READY, RUNNING, [DRAINING, IDLE], "starting", "free slot", "spawnd"),
        (READY, RUNNING, [], "no_capable_worker", "runtime codex", "you"),
        (READY, RUNNING, [replace(IDLE, runtimes=("claude",))], "no_capable_worker", "spawnd worker", "you"),
        (GPU, RUNNING, [replace(IDLE, labels=("gpu",))], "no_capable_worker", "labels big, gpu", "you"),
        (GPU, RUNNING, [replace(IDLE, labels=("gpu", "big", "eu"))], "starting", "free slot", "spawnd"),
        (READY, BROKE, [IDLE], "budget", "cost_budget", "you"),
        (READY, PAUSED, [IDLE], "paused", "the run is paused", "you"),
        (READY, replace(PAUSED, state_reason="paused by a person"), [IDLE], "paused", "by a person", "you"),
        (READY, PAUSED_BY_BUDGET, [IDLE], "budget", "$25.00", "you"),
        (READY, ENDING, [IDLE], "cancelling", "being ended", "spawnd"),
        (WINDOW, RUNNING, [IDLE], "quota", "5-hour limit", "provider"),
        (BLOCKED, RUNNING, [IDLE], "dependency", "waits for parser", "spawnd"),
        (replace(BLOCKED, unmet_names=tuple("abcd")), RUNNING, [IDLE], "dependency", "a, b, c …", "spawnd"),
        (QUOTA, RUNNING, [IDLE], "quota", "5-hour limit", "provider"),
        (BACKOFF, RUNNING, [IDLE], "backoff", "overload", "spawnd"),
        (HUMAN, RUNNING, [IDLE], "human", "No credit. Add credit.", "you"),
    ],
)
def test_it_says_why_and_who_can_clear_it(
    agent: AgentFacts, run: RunFacts, servers: list[Server], code: str, words: str, who: str
) -> None:
    reason = why(agent, run, servers)

    assert reason is not None
    assert (reason.code, reason.who) == (code, who)
    assert words in reason.text


@pytest.mark.parametrize(
    ("agent", "run", "servers", "code"),
    [
        (HUMAN, ENDING, [], "cancelling"),
        (HUMAN, PAUSED, [], "human"),
        (BLOCKED, PAUSED, [], "dependency"),
        (BLOCKED, BROKE, [], "dependency"),
        (QUOTA, PAUSED, [], "paused"),
        (BACKOFF, PAUSED, [], "paused"),
        (QUOTA, BROKE, [], "quota"),
        (WINDOW, BROKE, [], "quota"),
        (READY, replace(FULL, over_budget=True), [], "budget"),
        (READY, FULL, [], "no_capable_worker"),
        (READY, FULL, [DRAINING], "draining"),
    ],
)
def test_of_several_reasons_the_first_to_be_cleared_is_said(
    agent: AgentFacts, run: RunFacts, servers: list[Server], code: str
) -> None:
    reason = why(agent, run, servers)

    assert reason is not None and reason.code == code


@pytest.mark.parametrize("agent", [QUOTA, BACKOFF, WINDOW])
def test_a_wait_for_a_time_says_until_when(agent: AgentFacts) -> None:
    reason = why(agent, RUNNING, [IDLE])

    assert reason is not None and reason.until == LATER


@pytest.mark.parametrize("agent", [HUMAN, BLOCKED, READY])
def test_a_wait_for_anything_else_names_no_time(agent: AgentFacts) -> None:
    reason = why(agent, RUNNING, [IDLE])

    assert reason is not None and reason.until is None


OPEN = (AgentState.BLOCKED, AgentState.READY, AgentState.WAITING)
CODES = {
    "cancelling",
    "human",
    "dependency",
    "budget",
    "paused",
    "quota",
    "backoff",
    "no_capable_worker",
    "draining",
    "concurrency_limit",
    "starting",
}
RUNS = st.builds(
    RunFacts,
    state=st.sampled_from(list(RunState)),
    ending=st.sampled_from([None, "cancelled"]),
    state_reason=st.sampled_from([None, "budget", "paused by a person"]),
    concurrency_limit=st.none() | st.integers(1, 3),
    agents_running=st.integers(0, 3),
    over_budget=st.booleans(),
)
SERVERS = st.lists(st.builds(Server, st.just(()), st.sampled_from([(), ("codex",)]), st.booleans()), max_size=3)


@unhurried
@given(st.sampled_from([READY, GPU, BLOCKED, HUMAN, QUOTA, BACKOFF, WINDOW]), RUNS, SERVERS)
def test_whoever_does_not_run_is_given_a_reason(agent: AgentFacts, run: RunFacts, servers: list[Server]) -> None:
    reason = why(agent, run, servers)

    assert reason is not None
    assert reason.code in CODES and reason.text
    assert reason.who in ("spawnd", "you", "provider", "operator")


@unhurried
@given(st.sampled_from([state for state in AgentState if state not in OPEN]), RUNS, SERVERS)
def test_whoever_runs_or_has_ended_waits_for_nothing(state: AgentState, run: RunFacts, servers: list[Server]) -> None:
    assert why(replace(READY, state=state), run, servers) is None
