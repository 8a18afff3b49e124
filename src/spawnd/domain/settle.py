"""What an attempt's ending means for its agent: the one place where that is decided.

``settle`` is pure: a snapshot of the agent and an outcome go in, a decision comes out, and store applies it in
one transaction. It never looks at a message, only at the outcome's class and the counters.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from spawnd.domain.backoff import delay
from spawnd.domain.failures import RULES, Failure, FailureClass, Reaction
from spawnd.domain.states import AgentState, AttemptState, WaitReason


class StopCause(StrEnum):
    """Why a worker is told to stop an attempt that it still holds."""

    USER = "user"  #: cancel
    PAUSE = "pause"  #: the run was paused in a way that stops running agents
    BUDGET = "budget"  #: max_cost_usd or cost_budget
    POLICY = "policy"  #: on_failure: stop or the circuit breaker of another agent
    LEASE_LOST = "lease_lost"  #: the lease is gone; whatever is written now changes nothing
    SHUTDOWN = "shutdown"  #: the worker is going away and hands its agents back


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The agent ended well and its checks passed."""

    final_message: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Stopped:
    """It was stopped from outside. ``SHUTDOWN`` hands it back at no cost."""

    cause: StopCause


Outcome = Succeeded | Failed | Stopped


@dataclass(frozen=True, slots=True)
class Tally:
    """What an agent has used up. ``retries_used`` counts against the plan, ``free_used`` against each rule."""

    on_failure: str
    retry_count: int
    retries_used: int = 0
    free_used: int = 0
    losses: int = 0
    quota_parks: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write. ``state`` is the agent's next state, ``attempt`` the attempt's last one.

    ``due_at`` is set for timed waits; ``hits_breaker`` says whether the failure counts for the circuit breaker;
    ``stops_run`` is ``on_failure: stop``. The counters are increments.
    """

    attempt: AttemptState
    state: AgentState
    failure: Failure | None = None
    wait_reason: WaitReason | None = None
    due_at: datetime | None = None
    retries: int = 0
    free: int = 0
    losses: int = 0
    quota_parks: int = 0
    hits_breaker: bool = False
    stops_run: bool = False


_ENDINGS = {
    FailureClass.TIMEOUT: AgentState.TIMED_OUT,
    FailureClass.BUDGET: AgentState.COST_EXCEEDED,
    FailureClass.CANCELLED: AgentState.CANCELLED,
}


def settle(tally: Tally, outcome: Outcome, *, now: datetime, spread: float) -> Decision:
    """Decide. ``now`` is the database's clock; ``spread`` in [0, 1) is the jitter, drawn by the caller."""
    match outcome:
        case Succeeded():
            return Decision(AttemptState.SUCCEEDED, AgentState.COMPLETED)
        case Failed(failure=failure):
            return _failed(tally, failure, now, spread)
        case Stopped(cause=cause):
            return _stopped(tally, cause, now, spread)
        case _:
            assert_never(outcome)


def _stopped(tally: Tally, cause: StopCause, now: datetime, spread: float) -> Decision:
    match cause:
        case StopCause.SHUTDOWN | StopCause.PAUSE:
            return Decision(AttemptState.LOST, AgentState.READY)
        case StopCause.LEASE_LOST:
            return _failed(tally, Failure(FailureClass.WORKER_LOST, "Its worker lost the lease."), now, spread)
        case StopCause.BUDGET:
            return _failed(tally, Failure(FailureClass.BUDGET, "A budget ended it."), now, spread)
        case StopCause.USER | StopCause.POLICY:
            failure = Failure(FailureClass.CANCELLED, f"Stopped ({cause.value}).")
            return Decision(AttemptState.CANCELLED, AgentState.CANCELLED, failure=failure)
        case _:
            assert_never(cause)


def _failed(tally: Tally, failure: Failure, now: datetime, spread: float) -> Decision:
    rule = RULES[failure.failure_class]
    attempt = {
        FailureClass.TIMEOUT: AttemptState.TIMED_OUT,
        FailureClass.CANCELLED: AttemptState.CANCELLED,
        FailureClass.WORKER_LOST: AttemptState.LOST,
    }.get(failure.failure_class, AttemptState.FAILED)

    match rule.reaction:
        case Reaction.PARK:
            # A time that has passed already is as good as none: do not spin on it.
            if failure.reset_at is not None and failure.reset_at > now:
                due = failure.reset_at + timedelta(seconds=spread * 5)
            else:
                due = now + delay(tally.quota_parks, spread=spread, first_seconds=30, cap_seconds=3600)
            return Decision(
                attempt, AgentState.WAITING, failure, wait_reason=WaitReason.QUOTA, due_at=due, quota_parks=1
            )
        case Reaction.ASK:
            return Decision(attempt, AgentState.WAITING, failure, wait_reason=WaitReason.HUMAN)
        case Reaction.BACKOFF if failure.failure_class is FailureClass.WORKER_LOST:
            if tally.losses < rule.free_tries:
                return Decision(attempt, AgentState.READY, failure, losses=1)
        case Reaction.BACKOFF:
            if tally.free_used < rule.free_tries:
                due = now + delay(tally.free_used, spread=spread, first_seconds=2, cap_seconds=300)
                return Decision(
                    attempt, AgentState.WAITING, failure, wait_reason=WaitReason.BACKOFF, due_at=due, free=1
                )
        case Reaction.RETRY:
            if tally.on_failure == "retry" and tally.retries_used < tally.retry_count:
                due = now + delay(tally.retries_used, spread=spread, first_seconds=1, cap_seconds=60)
                return Decision(
                    attempt,
                    AgentState.WAITING,
                    failure,
                    wait_reason=WaitReason.BACKOFF,
                    due_at=due,
                    retries=1,
                )
        case Reaction.FAIL:
            pass

    return Decision(
        attempt,
        _ENDINGS.get(failure.failure_class, AgentState.FAILED),
        failure,
        hits_breaker=failure.failure_class is not FailureClass.CANCELLED,
        stops_run=tally.on_failure == "stop" and failure.failure_class is not FailureClass.CANCELLED,
    )
