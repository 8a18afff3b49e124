"""What a resume or a retry keeps, and what it runs again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spawnd.domain.resume import Action, Item, Standing, plan_resume, plan_retry
from spawnd.domain.states import AgentState, WaitReason, is_ended

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

REOPENED = (Action.RUN_AGAIN, Action.START)


def standing(
    name: str,
    state: AgentState = AgentState.COMPLETED,
    *parents: str,
    wait: WaitReason | None = None,
    attempts: int | None = None,
    failure: str | None = None,
) -> Standing:
    never = state in (AgentState.SKIPPED, AgentState.BLOCKED, AgentState.READY)
    return Standing(name, state, wait, (0 if never else 1) if attempts is None else attempts, failure, parents)


def actions(items: list[Item]) -> dict[str, str]:
    return {item.agent: item.action.value for item in items}


@pytest.mark.parametrize(
    ("agent", "now", "action", "words"),
    [
        (standing("a"), False, Action.KEEP, "completed"),
        (standing("a", AgentState.RUNNING), True, Action.NONE, "running"),
        (standing("a", AgentState.READY), False, Action.START, "has not started"),
        (standing("a", AgentState.READY, attempts=2), False, Action.START, "next"),
        (standing("a", AgentState.BLOCKED), False, Action.START, "has not started"),
        (standing("a", AgentState.WAITING, wait=WaitReason.HUMAN, failure="payment"), False, Action.WAKE, "payment"),
        (standing("a", AgentState.WAITING, wait=WaitReason.QUOTA, failure="quota"), False, Action.NONE, "by itself"),
        (standing("a", AgentState.WAITING, wait=WaitReason.QUOTA, failure="quota"), True, Action.WAKE, "quota"),
        (standing("a", AgentState.WAITING, wait=WaitReason.BACKOFF, failure="network"), False, Action.NONE, "network"),
        (standing("a", AgentState.WAITING, wait=WaitReason.BACKOFF, failure="network"), True, Action.WAKE, "network"),
        (standing("a", AgentState.FAILED, failure="check_failed"), False, Action.RUN_AGAIN, "failed (check_failed)"),
        (standing("a", AgentState.TIMED_OUT, failure="timeout"), False, Action.RUN_AGAIN, "timed out (timeout)"),
        (standing("a", AgentState.COST_EXCEEDED, failure="budget"), False, Action.RUN_AGAIN, "cost exceeded (budget)"),
        (standing("a", AgentState.CANCELLED), False, Action.RUN_AGAIN, "cancelled"),
        (standing("a", AgentState.CANCELLED, attempts=0), False, Action.START, "never ran (cancelled)"),
        (standing("a", AgentState.SKIPPED), False, Action.START, "never ran (skipped)"),
        (standing("a", AgentState.COST_EXCEEDED, attempts=0), False, Action.START, "never ran (cost_exceeded)"),
    ],
)
def test_a_resume_decides_by_where_the_agent_stands(agent: Standing, now: bool, action: Action, words: str) -> None:
    (item,) = plan_resume([agent], only=None, now=now)

    assert item.action is action
    assert words in item.reason


# parser ─┬─ docs ── notes          tests: alone
#         └─ api
FAILED_PARSER = [
    standing("parser", AgentState.FAILED),
    standing("docs", AgentState.SKIPPED, "parser"),
    standing("api", AgentState.SKIPPED, "parser"),
    standing("notes", AgentState.SKIPPED, "docs"),
    standing("tests", AgentState.FAILED),
]
DONE = [
    standing("parser"),
    standing("docs", AgentState.COMPLETED, "parser"),
    standing("api", AgentState.RUNNING, "parser"),
    standing("notes", AgentState.COMPLETED, "docs"),
    standing("tests"),
]


def test_resuming_one_agent_takes_along_what_was_skipped_because_of_it() -> None:
    assert actions(plan_resume(FAILED_PARSER, only="parser", now=False)) == {
        "parser": "run_again",
        "docs": "start",
        "api": "start",
        "notes": "start",
        "tests": "none",
    }


def test_resuming_one_agent_takes_along_what_it_needs() -> None:
    assert actions(plan_resume(FAILED_PARSER, only="notes", now=False)) == {
        "parser": "run_again",
        "docs": "start",
        "api": "none",
        "notes": "start",
        "tests": "none",
    }


def test_resuming_never_runs_completed_work_again() -> None:
    assert set(actions(plan_resume(DONE, only=None, now=True)).values()) == {"keep", "none"}
    assert actions(plan_resume(DONE, only="docs", now=True))["docs"] == "keep"


def test_retrying_one_agent_runs_it_again_with_everything_built_on_it() -> None:
    items = plan_retry(DONE, only="parser")

    assert actions(items) == {
        "parser": "run_again",
        "docs": "run_again",
        "api": "none",
        "notes": "run_again",
        "tests": "none",
    }
    reasons = {item.agent: item.reason for item in items}
    assert reasons["parser"] == "asked for; it had completed"
    assert reasons["notes"] == "it builds on parser; it had completed"
    assert reasons["api"] == "it is running"


def test_retrying_a_run_wakes_what_waits_and_keeps_what_completed() -> None:
    waits = standing("a", AgentState.WAITING, wait=WaitReason.QUOTA, failure="quota")

    assert actions(plan_retry([waits, standing("b"), standing("c", AgentState.FAILED)], only=None)) == {
        "a": "wake",
        "b": "keep",
        "c": "run_again",
    }


def test_retrying_one_agent_takes_along_what_it_needs() -> None:
    agents = [standing("parser", AgentState.FAILED), standing("docs", AgentState.SKIPPED, "parser")]

    assert actions(plan_retry(agents, only="docs")) == {"parser": "run_again", "docs": "start"}


TWO_PARENTS = [
    standing("a", AgentState.FAILED),
    standing("c", AgentState.FAILED),
    standing("d", AgentState.SKIPPED, "a", "c"),
    standing("e", AgentState.SKIPPED, "d"),
]


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(lambda agents: plan_resume(agents, only="a", now=False), id="resume"),
        pytest.param(lambda agents: plan_retry(agents, only="a"), id="retry"),
    ],
)
def test_what_also_needs_something_that_stays_failed_is_left_alone(
    plan: Callable[[list[Standing]], list[Item]],
) -> None:
    assert actions(plan(TWO_PARENTS)) == {"a": "run_again", "c": "none", "d": "none", "e": "none"}


@st.composite
def graphs(draw: st.DrawFn) -> list[Standing]:
    """Agents as a run leaves them: nothing has run whose dependencies did not complete."""
    agents: list[Standing] = []
    for number in range(draw(st.integers(1, 6))):
        parents = draw(st.lists(st.sampled_from(agents), unique_by=lambda one: one.name)) if agents else []
        if any(is_ended(one.state) and one.state is not AgentState.COMPLETED for one in parents):
            state = AgentState.SKIPPED
        elif any(one.state is not AgentState.COMPLETED for one in parents):
            state = AgentState.BLOCKED
        else:
            state = draw(st.sampled_from(sorted(set(AgentState) - {AgentState.SKIPPED, AgentState.BLOCKED})))
        wait = draw(st.sampled_from(list(WaitReason))) if state is AgentState.WAITING else None
        agents.append(standing(f"a{number}", state, *(one.name for one in parents), wait=wait))
    return agents


PLANS = [
    lambda agents, only: plan_resume(agents, only=only, now=False),
    lambda agents, only: plan_resume(agents, only=only, now=True),
    lambda agents, only: plan_retry(agents, only=only),
]


@unhurried
@given(st.data(), graphs(), st.sampled_from(PLANS))
def test_nothing_is_reopened_that_could_never_start(
    data: st.DataObject, agents: list[Standing], plan: Callable[[list[Standing], str | None], list[Item]]
) -> None:
    only = data.draw(st.none() | st.sampled_from([agent.name for agent in agents]))

    done = {item.agent: item.action for item in plan(agents, only)}

    by_name = {agent.name: agent for agent in agents}
    for agent in agents:
        if done[agent.name] in REOPENED and is_ended(agent.state):
            for parent in (by_name[name] for name in agent.parents):
                there = parent.state is AgentState.COMPLETED or not is_ended(parent.state)
                assert there or done[parent.name] in REOPENED, (agent.name, parent.name)


@unhurried
@given(st.data(), graphs(), st.sampled_from(PLANS))
def test_every_agent_is_listed_once_in_the_order_of_the_plan_with_a_reason(
    data: st.DataObject, agents: list[Standing], plan: Callable[[list[Standing], str | None], list[Item]]
) -> None:
    only = data.draw(st.none() | st.sampled_from([agent.name for agent in agents]))

    items = plan(agents, only)

    assert [item.agent for item in items] == [agent.name for agent in agents]
    assert all(item.reason for item in items)


@unhurried
@given(graphs(), st.booleans())
def test_a_resume_of_everything_leaves_nothing_ended_but_what_completed(agents: list[Standing], now: bool) -> None:
    for agent, item in zip(agents, plan_resume(agents, only=None, now=now), strict=True):
        if is_ended(agent.state):
            assert item.action is (Action.KEEP if agent.state is AgentState.COMPLETED else item.action)
            assert (item.action in REOPENED) == (agent.state is not AgentState.COMPLETED)
