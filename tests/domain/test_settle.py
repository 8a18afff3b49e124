"""What every ending means for its agent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spawnd.domain.failures import RULES, Failure, FailureClass, Reaction
from spawnd.domain.settle import Decision, Failed, StopCause, Stopped, Succeeded, Tally, settle
from spawnd.domain.states import (
    AGENT_MOVES,
    ATTEMPT_MOVES,
    LIVE_ATTEMPT_STATES,
    AgentState,
    AttemptState,
    WaitReason,
    is_ended,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CLASSES = list(FailureClass)
SPREADS = st.floats(0, 1, exclude_max=True)
TALLIES = st.builds(
    Tally,
    on_failure=st.sampled_from(["continue", "stop", "retry"]),
    retry_count=st.integers(0, 100),
    retries_used=st.integers(0, 120),
    free_used=st.integers(0, 20),
    losses=st.integers(0, 20),
    quota_parks=st.integers(0, 500),
)


def fails(failure_class: FailureClass, tally: Tally | None = None, *, spread: float = 0.0, **facts: object) -> Decision:
    failure = Failure(failure_class, "it broke", **facts)  # type: ignore[arg-type]
    return settle(tally or Tally("continue", 3), Failed(failure), now=NOW, spread=spread)


def spent(decision: Decision) -> tuple[int, int, int, int]:
    return decision.retries, decision.free, decision.losses, decision.quota_parks


def after(tally: Tally, decision: Decision) -> Tally:
    """The tally with the decision's increments."""
    return replace(
        tally,
        retries_used=tally.retries_used + decision.retries,
        free_used=tally.free_used + decision.free,
        losses=tally.losses + decision.losses,
        quota_parks=tally.quota_parks + decision.quota_parks,
    )


def tries(failure_class: FailureClass, tally: Tally, *, limit: int = 200) -> int:
    """How often an agent runs that always fails like this; ``limit`` if it never ends."""
    for count in range(1, limit):
        decision = fails(failure_class, tally)
        if is_ended(decision.state):
            return count
        tally = after(tally, decision)
    return limit


#: Class → the attempt's state, the agent's next one, what it waits for; for an agent of on_failure: continue.
FIRST = {
    FailureClass.QUOTA: (AttemptState.FAILED, AgentState.WAITING, WaitReason.QUOTA),
    FailureClass.PAYMENT: (AttemptState.FAILED, AgentState.WAITING, WaitReason.HUMAN),
    FailureClass.AUTHENTICATION: (AttemptState.FAILED, AgentState.WAITING, WaitReason.HUMAN),
    FailureClass.OVERLOAD: (AttemptState.FAILED, AgentState.WAITING, WaitReason.BACKOFF),
    FailureClass.NETWORK: (AttemptState.FAILED, AgentState.WAITING, WaitReason.BACKOFF),
    FailureClass.TIMEOUT: (AttemptState.TIMED_OUT, AgentState.TIMED_OUT, None),
    FailureClass.CHECK_FAILED: (AttemptState.FAILED, AgentState.FAILED, None),
    FailureClass.CONFLICT: (AttemptState.FAILED, AgentState.FAILED, None),
    FailureClass.POLICY: (AttemptState.FAILED, AgentState.FAILED, None),
    FailureClass.BUDGET: (AttemptState.FAILED, AgentState.COST_EXCEEDED, None),
    FailureClass.AGENT_ERROR: (AttemptState.FAILED, AgentState.FAILED, None),
    FailureClass.SETUP_FAILED: (AttemptState.FAILED, AgentState.FAILED, None),
    FailureClass.WORKER_LOST: (AttemptState.LOST, AgentState.READY, None),
    FailureClass.DEPENDENCY: (AttemptState.FAILED, AgentState.FAILED, None),
    FailureClass.CANCELLED: (AttemptState.CANCELLED, AgentState.CANCELLED, None),
}
COSTS = {
    FailureClass.QUOTA: (0, 0, 0, 1),
    FailureClass.OVERLOAD: (0, 1, 0, 0),
    FailureClass.NETWORK: (0, 1, 0, 0),
    FailureClass.WORKER_LOST: (0, 0, 1, 0),
}
RETRIED = [
    FailureClass.TIMEOUT,
    FailureClass.CHECK_FAILED,
    FailureClass.AGENT_ERROR,
    FailureClass.SETUP_FAILED,
]


def test_success_completes_whatever_happened_before() -> None:
    tired = Tally("stop", 0, retries_used=9, free_used=9, losses=9, quota_parks=9)

    decision = settle(tired, Succeeded("done"), now=NOW, spread=0.5)

    assert decision == Decision(AttemptState.SUCCEEDED, AgentState.COMPLETED)


def test_the_table_names_every_class() -> None:
    assert set(FIRST) == set(FailureClass)


@pytest.mark.parametrize("failure_class", CLASSES)
def test_a_first_failure_means_what_its_class_says(failure_class: FailureClass) -> None:
    decision = fails(failure_class)

    assert (decision.attempt, decision.state, decision.wait_reason) == FIRST[failure_class]
    assert spent(decision) == COSTS.get(failure_class, (0, 0, 0, 0))
    assert decision.failure is not None and decision.failure.failure_class is failure_class


@pytest.mark.parametrize("failure_class", CLASSES)
def test_only_a_timed_wait_has_a_time(failure_class: FailureClass) -> None:
    for on_failure in ("continue", "stop", "retry"):
        decision = fails(failure_class, Tally(on_failure, 3))
        timed = decision.wait_reason in (WaitReason.QUOTA, WaitReason.BACKOFF)
        assert (decision.due_at is not None) == timed
        assert (decision.wait_reason is not None) == (decision.state is AgentState.WAITING)
        if decision.due_at is not None:
            assert decision.due_at > NOW


# Retries of the plan


@pytest.mark.parametrize("failure_class", RETRIED)
def test_with_on_failure_retry_it_is_tried_again_as_often_as_the_plan_says(failure_class: FailureClass) -> None:
    for retry_count in (0, 1, 3, 10):
        assert tries(failure_class, Tally("retry", retry_count)) == 1 + retry_count
        assert tries(failure_class, Tally("continue", retry_count)) == 1
        assert tries(failure_class, Tally("stop", retry_count)) == 1


@pytest.mark.parametrize("failure_class", RETRIED)
def test_a_retry_is_counted_and_waits_a_little_longer_each_time(failure_class: FailureClass) -> None:
    waits = []
    for used in range(8):
        decision = fails(failure_class, Tally("retry", 100, retries_used=used))
        assert (decision.wait_reason, spent(decision)) == (WaitReason.BACKOFF, (1, 0, 0, 0))
        assert decision.due_at is not None
        waits.append((decision.due_at - NOW).total_seconds())

    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("failure_class", sorted(set(FailureClass) - set(RETRIED)))
def test_no_other_class_costs_a_retry(failure_class: FailureClass) -> None:
    tally = Tally("retry", 2)
    for _ in range(20):
        decision = fails(failure_class, tally)
        assert decision.retries == 0
        tally = after(tally, decision)


def test_counters_of_one_kind_do_not_use_up_another() -> None:
    tired = Tally("retry", 3, free_used=99, losses=99, quota_parks=99)
    assert fails(FailureClass.CHECK_FAILED, tired).state is AgentState.WAITING

    retried = Tally("retry", 3, retries_used=3, quota_parks=99)
    assert fails(FailureClass.OVERLOAD, retried).state is AgentState.WAITING
    assert fails(FailureClass.WORKER_LOST, retried).state is AgentState.READY


# Free tries


@pytest.mark.parametrize(("failure_class", "free"), [(FailureClass.OVERLOAD, 8), (FailureClass.NETWORK, 5)])
@pytest.mark.parametrize("on_failure", ["continue", "stop", "retry"])
def test_what_passes_by_itself_is_tried_again_for_free_but_not_for_ever(
    failure_class: FailureClass, free: int, on_failure: str
) -> None:
    assert tries(failure_class, Tally(on_failure, 0)) == 1 + free
    assert tries(failure_class, Tally(on_failure, 100)) == 1 + free


def test_waits_for_a_provider_grow_from_seconds_to_minutes() -> None:
    waits = [
        (fails(FailureClass.OVERLOAD, Tally("continue", 0, free_used=used)).due_at or NOW) - NOW for used in range(8)
    ]

    assert [wait.total_seconds() for wait in waits] == [1, 2, 4, 8, 16, 32, 64, 128]


def test_an_agent_whose_worker_died_is_taken_by_another_at_once_five_times() -> None:
    tally = Tally("retry", 3)
    for _ in range(5):
        decision = fails(FailureClass.WORKER_LOST, tally)
        assert (decision.state, decision.due_at, spent(decision)) == (AgentState.READY, None, (0, 0, 1, 0))
        tally = after(tally, decision)

    last = fails(FailureClass.WORKER_LOST, tally)
    assert (last.attempt, last.state, last.hits_breaker) == (AttemptState.LOST, AgentState.FAILED, True)


# Quota


@unhurried
@given(SPREADS, st.integers(1, 10 * 86400))
def test_a_named_reset_is_waited_for_and_hardly_longer(spread: float, seconds: int) -> None:
    reset_at = NOW + timedelta(seconds=seconds)

    due = fails(FailureClass.QUOTA, spread=spread, reset_at=reset_at).due_at

    assert due is not None and reset_at <= due <= reset_at + timedelta(seconds=5)


@unhurried
@given(SPREADS, st.integers(0, 5000), st.none() | st.integers(0, 86400))
def test_without_a_time_to_come_it_backs_off_up_to_an_hour(spread: float, parks: int, ago: int | None) -> None:
    reset_at = None if ago is None else NOW - timedelta(seconds=ago)

    decision = fails(FailureClass.QUOTA, Tally("continue", 0, quota_parks=parks), spread=spread, reset_at=reset_at)

    assert decision.due_at is not None
    assert timedelta(seconds=15) <= decision.due_at - NOW <= timedelta(hours=1)
    assert decision.failure is not None and decision.failure.reset_at == reset_at


def test_a_limit_is_waited_for_longer_each_time_and_costs_nothing_of_the_plan() -> None:
    tally, waits = Tally("retry", 3), []
    for _ in range(10):
        decision = fails(FailureClass.QUOTA, tally)
        assert (decision.state, spent(decision)) == (AgentState.WAITING, (0, 0, 0, 1))
        assert decision.due_at is not None
        waits.append((decision.due_at - NOW).total_seconds())
        tally = after(tally, decision)

    assert waits == [15, 30, 60, 120, 240, 480, 960, 1800, 1800, 1800]


# A person


@pytest.mark.parametrize("failure_class", [FailureClass.PAYMENT, FailureClass.AUTHENTICATION])
def test_what_only_a_person_can_mend_waits_for_one_and_costs_nothing(failure_class: FailureClass) -> None:
    for on_failure in ("continue", "stop", "retry"):
        decision = fails(failure_class, Tally(on_failure, 0, retries_used=9))
        assert (decision.state, decision.wait_reason) == (AgentState.WAITING, WaitReason.HUMAN)
        assert (decision.due_at, spent(decision), decision.stops_run) == (None, (0, 0, 0, 0), False)


# What an end means for the run


@unhurried
@given(TALLIES, st.sampled_from(CLASSES), SPREADS)
def test_only_an_end_counts_for_the_breaker_or_stops_the_run(
    tally: Tally, failure_class: FailureClass, spread: float
) -> None:
    decision = fails(failure_class, tally, spread=spread)

    gave_up = is_ended(decision.state) and failure_class is not FailureClass.CANCELLED
    assert decision.hits_breaker == gave_up
    assert decision.stops_run == (gave_up and tally.on_failure == "stop")


# Stopped from outside


@pytest.mark.parametrize(
    ("cause", "attempt", "state", "failure_class"),
    [
        (StopCause.USER, AttemptState.CANCELLED, AgentState.CANCELLED, FailureClass.CANCELLED),
        (StopCause.POLICY, AttemptState.CANCELLED, AgentState.CANCELLED, FailureClass.CANCELLED),
        (StopCause.BUDGET, AttemptState.FAILED, AgentState.COST_EXCEEDED, FailureClass.BUDGET),
        (StopCause.LEASE_LOST, AttemptState.LOST, AgentState.READY, FailureClass.WORKER_LOST),
        (StopCause.SHUTDOWN, AttemptState.LOST, AgentState.READY, None),
        (StopCause.PAUSE, AttemptState.LOST, AgentState.READY, None),
    ],
)
def test_a_stop_means_what_its_cause_says(
    cause: StopCause, attempt: AttemptState, state: AgentState, failure_class: FailureClass | None
) -> None:
    decision = settle(Tally("stop", 0), Stopped(cause), now=NOW, spread=0.5)

    assert (decision.attempt, decision.state) == (attempt, state)
    assert (decision.failure.failure_class if decision.failure else None) is failure_class
    assert decision.hits_breaker == decision.stops_run == (cause is StopCause.BUDGET)


@pytest.mark.parametrize("cause", [StopCause.SHUTDOWN, StopCause.PAUSE])
def test_an_agent_that_is_handed_back_has_lost_nothing_however_often(cause: StopCause) -> None:
    tired = Tally("stop", 0, retries_used=9, free_used=9, losses=99, quota_parks=9)

    decision = settle(tired, Stopped(cause), now=NOW, spread=0.5)

    assert decision == Decision(AttemptState.LOST, AgentState.READY)


def test_every_cause_is_decided() -> None:
    for cause in StopCause:
        settle(Tally("continue", 0), Stopped(cause), now=NOW, spread=0)


# Always


OUTCOMES = st.one_of(
    st.just(Succeeded()),
    st.builds(Stopped, st.sampled_from(list(StopCause))),
    st.builds(Failed, st.builds(Failure, st.sampled_from(CLASSES), st.just("it broke"))),
)


@unhurried
@given(TALLIES, OUTCOMES, SPREADS)
def test_every_decision_is_a_legal_move(tally: Tally, outcome: Succeeded | Failed | Stopped, spread: float) -> None:
    decision = settle(tally, outcome, now=NOW, spread=spread)

    assert decision.state in AGENT_MOVES[AgentState.RUNNING]
    assert all(decision.attempt in ATTEMPT_MOVES[step] for step in LIVE_ATTEMPT_STATES)
    assert sum(spent(decision)) <= 1
    assert all(number >= 0 for number in spent(decision))
    if is_ended(decision.state):
        assert spent(decision) == (0, 0, 0, 0)


BOUNDED = [one for one in CLASSES if RULES[one].reaction not in (Reaction.PARK, Reaction.ASK)]


@unhurried
@given(st.lists(st.sampled_from(BOUNDED), min_size=40, max_size=40), st.integers(0, 10))
def test_no_mixture_of_failures_goes_on_for_ever(failures: list[FailureClass], retry_count: int) -> None:
    tally = Tally("retry", retry_count)
    count = 0
    for failure_class in failures:
        count += 1
        decision = fails(failure_class, tally)
        if is_ended(decision.state):
            break
        tally = after(tally, decision)

    free = max(rule.free_tries for rule in RULES.values())
    losses = RULES[FailureClass.WORKER_LOST].free_tries
    assert is_ended(decision.state)
    assert count <= 1 + retry_count + free + losses


def test_the_words_of_a_failure_decide_nothing() -> None:
    for failure_class in FailureClass:
        decisions = {
            (one.state, one.wait_reason, one.due_at)
            for one in (
                settle(Tally("retry", 1), Failed(Failure(failure_class, words)), now=NOW, spread=0)
                for words in ("", "rate limit", "401 unauthorized", "cancelled")
            )
        }
        assert len(decisions) == 1
