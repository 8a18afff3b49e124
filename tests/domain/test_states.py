"""Which moves are legal, and which never are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

import spawnd
from spawnd.domain.states import (
    AGENT_MOVES,
    ATTEMPT_MOVES,
    ENDED_AGENT_STATES,
    ENDED_RUN_STATES,
    LIVE_ATTEMPT_STATES,
    OPEN_AGENT_STATES,
    OPEN_RUN_STATES,
    RUN_MOVES,
    AgentState,
    AttemptState,
    RunState,
    WaitReason,
    is_ended,
    sources,
)

TABLES: list[tuple[type[StrEnum], Mapping[Any, frozenset[Any]], Any]] = [
    (RunState, RUN_MOVES, RunState.QUEUED),
    (AgentState, AGENT_MOVES, AgentState.BLOCKED),
    (AttemptState, ATTEMPT_MOVES, AttemptState.CLAIMED),
]

#: What may follow, in the words of the record; everything else is refused.
RUN = {
    "queued": "running paused completed failed cancelled timed_out cost_exceeded",
    "running": "paused completed failed cancelled timed_out cost_exceeded",
    "paused": "running completed failed cancelled timed_out cost_exceeded",
    "completed": "running",
    "failed": "running",
    "cancelled": "running",
    "timed_out": "running",
    "cost_exceeded": "running",
}
AGENT = {
    "blocked": "ready skipped cancelled cost_exceeded",
    "ready": "running blocked skipped cancelled cost_exceeded",
    "running": "ready waiting completed failed cancelled timed_out cost_exceeded",
    "waiting": "ready cancelled cost_exceeded skipped",
    "completed": "ready blocked",
    "failed": "ready blocked",
    "cancelled": "ready blocked",
    "timed_out": "ready blocked",
    "cost_exceeded": "ready blocked",
    "skipped": "ready blocked",
}
_ENDS = "succeeded failed timed_out cancelled lost"
ATTEMPT = {
    "claimed": f"preparing executing checking delivering {_ENDS}",
    "preparing": f"executing checking delivering {_ENDS}",
    "executing": f"checking delivering {_ENDS}",
    "checking": f"delivering {_ENDS}",
    "delivering": _ENDS,
    **dict.fromkeys(_ENDS.split(), ""),
}


@pytest.mark.parametrize(("table", "moves"), [(RUN, RUN_MOVES), (AGENT, AGENT_MOVES), (ATTEMPT, ATTEMPT_MOVES)])
def test_these_moves_are_legal_and_no_others(table: dict[str, str], moves: Mapping[Any, frozenset[Any]]) -> None:
    assert {state.value: {one.value for one in targets} for state, targets in moves.items()} == {
        state: set(targets.split()) for state, targets in table.items()
    }


@pytest.mark.parametrize(("states", "moves", "first"), TABLES)
def test_every_state_has_its_moves_and_can_be_reached(
    states: type[StrEnum], moves: Mapping[Any, frozenset[Any]], first: Any
) -> None:
    reached, todo = set(), [first]
    while todo:
        state = todo.pop()
        if state not in reached:
            reached.add(state)
            todo += moves[state]

    assert set(moves) == reached == set(states)


@pytest.mark.parametrize(("states", "moves", "first"), TABLES)
def test_nothing_moves_to_where_it_is(states: type[StrEnum], moves: Mapping[Any, frozenset[Any]], first: Any) -> None:
    assert [state for state in states if state in moves[state]] == []


@pytest.mark.parametrize(("states", "moves", "first"), TABLES)
def test_sources_are_the_moves_seen_from_their_end(
    states: type[StrEnum], moves: Mapping[Any, frozenset[Any]], first: Any
) -> None:
    for target in states:
        assert set(sources(target)) == {state for state in states if target in moves[state]}


@pytest.mark.parametrize(("states", "moves", "first"), TABLES)
def test_whatever_has_not_ended_can_end(states: type[StrEnum], moves: Mapping[Any, frozenset[Any]], first: Any) -> None:
    for state in states:
        if not is_ended(state):
            assert any(is_ended(target) for target in moves[state]), state


def test_an_attempt_that_ended_stays_ended() -> None:
    assert all(not ATTEMPT_MOVES[state] for state in AttemptState if is_ended(state))


def test_an_attempt_never_goes_back() -> None:
    order = {state: number for number, state in enumerate(LIVE_ATTEMPT_STATES)}
    for state in LIVE_ATTEMPT_STATES:
        assert all(order[target] > order[state] for target in ATTEMPT_MOVES[state] if target in order)


def test_an_agent_ends_well_only_by_running() -> None:
    assert sources(AgentState.COMPLETED) == [AgentState.RUNNING]
    assert AgentState.SKIPPED not in AGENT_MOVES[AgentState.RUNNING]


def test_an_ended_agent_is_never_running_without_having_been_ready() -> None:
    assert sources(AgentState.RUNNING) == [AgentState.READY]


def test_open_and_ended_states_are_all_states() -> None:
    assert {*OPEN_RUN_STATES, *ENDED_RUN_STATES} == set(RunState)
    assert {*OPEN_AGENT_STATES, *ENDED_AGENT_STATES} == set(AgentState)
    assert all(is_ended(state) for state in (*ENDED_RUN_STATES, *ENDED_AGENT_STATES))
    assert not any(is_ended(state) for state in (*OPEN_RUN_STATES, *OPEN_AGENT_STATES, *LIVE_ATTEMPT_STATES))


@pytest.mark.parametrize(
    ("table", "column", "states"),
    [
        ("runs", "state", RunState),
        ("agents", "state", AgentState),
        ("attempts", "state", AttemptState),
        ("agents", "wait_reason", WaitReason),
    ],
)
def test_the_database_knows_the_same_states(table: str, column: str, states: type[StrEnum]) -> None:
    sql = (Path(spawnd.__file__).parent / "store" / "migrations" / "0001_foundation.sql").read_text()
    body = sql.split(f"CREATE TABLE {table} (")[1]
    (listed,) = re.findall(rf"^    {column} +text[^(]*CHECK \({column} IN\s+\(([^)]*)\)", body, re.MULTILINE)[:1]

    assert set(re.findall(r"'(\w+)'", listed)) == {state.value for state in states}
