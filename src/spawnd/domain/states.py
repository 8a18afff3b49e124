"""Every state of a run, an agent and an attempt, and every legal move.

The guards in SQL (``WHERE state = ANY(:sources)``) and the diagram in docs/concepts.md come from these tables;
nothing else in spawnd says which move is legal.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar, assert_never


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"  #: committed; no agent has been claimed yet
    RUNNING = "running"  #: agents run or may be claimed
    PAUSED = "paused"  #: nothing new starts until `spawnd resume`; see runs.state_reason
    COMPLETED = "completed"  #: every agent completed
    FAILED = "failed"  #: ended, and some agent did not complete
    CANCELLED = "cancelled"  #: a person cancelled it
    TIMED_OUT = "timed_out"  #: ended, and only time limits kept agents from completing
    COST_EXCEEDED = "cost_exceeded"  #: ended by its cost_budget


class AgentState(StrEnum):
    """Where an agent stands."""

    BLOCKED = "blocked"  #: waits for its dependencies
    READY = "ready"  #: any capable worker may claim it
    RUNNING = "running"  #: an attempt holds a lease
    WAITING = "waiting"  #: waits for a time (quota, backoff) or a person; see agents.wait_reason
    COMPLETED = "completed"  #: its last attempt succeeded
    FAILED = "failed"  #: gave up; see agents.failure_class
    CANCELLED = "cancelled"  #: cancelled by a person or by the plan's own policy
    TIMED_OUT = "timed_out"  #: its last attempt hit a time limit
    COST_EXCEEDED = "cost_exceeded"  #: a budget ended it
    SKIPPED = "skipped"  #: never ran, because a dependency did not complete


class AttemptState(StrEnum):
    """Where one execution stands. The middle states are progress, in this order."""

    CLAIMED = "claimed"
    PREPARING = "preparing"  #: source, workspace, dependencies, setup
    EXECUTING = "executing"  #: the agent program runs
    CHECKING = "checking"
    DELIVERING = "delivering"  #: snapshot, patch, provenance
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"  #: its lease expired, or its worker handed it back


class WaitReason(StrEnum):
    """Why a WAITING agent waits."""

    QUOTA = "quota"  #: a provider's limit, until agents.due_at
    BACKOFF = "backoff"  #: a retry is due at agents.due_at
    HUMAN = "human"  #: only a person can mend it; due_at is null


_State = TypeVar("_State", RunState, AgentState, AttemptState)

_RUN_OPEN = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.PAUSED})
_RUN_ENDED = frozenset(RunState) - _RUN_OPEN
_AGENT_OPEN = frozenset({AgentState.BLOCKED, AgentState.READY, AgentState.RUNNING, AgentState.WAITING})
_AGENT_ENDED = frozenset(AgentState) - _AGENT_OPEN
_ATTEMPT_STEPS: Final = (
    AttemptState.CLAIMED,
    AttemptState.PREPARING,
    AttemptState.EXECUTING,
    AttemptState.CHECKING,
    AttemptState.DELIVERING,
)
_ATTEMPT_ENDED = frozenset(AttemptState) - frozenset(_ATTEMPT_STEPS)

#: An ended run or agent reopens only by an explicit retry or resume.
RUN_MOVES: Final[Mapping[RunState, frozenset[RunState]]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.PAUSED}) | _RUN_ENDED,
    RunState.RUNNING: frozenset({RunState.PAUSED}) | _RUN_ENDED,
    RunState.PAUSED: frozenset({RunState.RUNNING}) | _RUN_ENDED,
    **{ended: frozenset({RunState.RUNNING}) for ended in _RUN_ENDED},
}

AGENT_MOVES: Final[Mapping[AgentState, frozenset[AgentState]]] = {
    AgentState.BLOCKED: frozenset(
        {AgentState.READY, AgentState.SKIPPED, AgentState.CANCELLED, AgentState.COST_EXCEEDED}
    ),
    AgentState.READY: frozenset(
        {
            AgentState.RUNNING,
            AgentState.BLOCKED,
            AgentState.SKIPPED,
            AgentState.CANCELLED,
            AgentState.COST_EXCEEDED,
        }
    ),
    AgentState.RUNNING: frozenset({AgentState.READY, AgentState.WAITING}) | (_AGENT_ENDED - {AgentState.SKIPPED}),
    AgentState.WAITING: frozenset(
        {AgentState.READY, AgentState.CANCELLED, AgentState.COST_EXCEEDED, AgentState.SKIPPED}
    ),
    **{ended: frozenset({AgentState.READY, AgentState.BLOCKED}) for ended in _AGENT_ENDED},
}

ATTEMPT_MOVES: Final[Mapping[AttemptState, frozenset[AttemptState]]] = {
    **{step: frozenset(_ATTEMPT_STEPS[number + 1 :]) | _ATTEMPT_ENDED for number, step in enumerate(_ATTEMPT_STEPS)},
    **{ended: frozenset() for ended in _ATTEMPT_ENDED},
}

OPEN_RUN_STATES: Final = tuple(sorted(_RUN_OPEN))
ENDED_RUN_STATES: Final = tuple(sorted(_RUN_ENDED))
OPEN_AGENT_STATES: Final = tuple(sorted(_AGENT_OPEN))
ENDED_AGENT_STATES: Final = tuple(sorted(_AGENT_ENDED))
LIVE_ATTEMPT_STATES: Final = _ATTEMPT_STEPS


def sources(target: _State) -> list[_State]:
    """The states that something may be in just before it enters ``target``."""
    moves: Mapping[_State, frozenset[_State]]
    if isinstance(target, RunState):
        moves = RUN_MOVES
    elif isinstance(target, AgentState):
        moves = AGENT_MOVES
    else:
        moves = ATTEMPT_MOVES
    return [state for state, targets in moves.items() if target in targets]


def is_ended(state: RunState | AgentState | AttemptState) -> bool:
    """Whether ``state`` is terminal: only an explicit retry or resume leaves it."""
    match state:
        case RunState():
            return state in _RUN_ENDED
        case AgentState():
            return state in _AGENT_ENDED
        case AttemptState():
            return state in _ATTEMPT_ENDED
        case _:
            assert_never(state)
