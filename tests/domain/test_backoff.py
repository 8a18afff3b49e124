"""The wait before another try: it grows, it is spread, it has an end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spawnd.domain.backoff import delay

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

TRIES = st.integers(0, 10_000)
SPREADS = st.floats(0, 1, exclude_max=True)
SECONDS = st.floats(0.1, 100_000)


@pytest.mark.parametrize(("tries", "seconds"), [(0, 2), (1, 4), (2, 8), (5, 64), (6, 100), (30, 100), (31, 100)])
def test_the_span_doubles_up_to_its_cap(tries: int, seconds: float) -> None:
    assert delay(tries, spread=0, first_seconds=2, cap_seconds=100) == timedelta(seconds=seconds / 2)
    assert delay(tries, spread=0.5, first_seconds=2, cap_seconds=100) == timedelta(seconds=seconds * 0.75)


@unhurried
@given(TRIES, SPREADS, SECONDS, SECONDS)
def test_it_lies_between_half_and_all_of_the_span(tries: int, spread: float, first: float, cap: float) -> None:
    whole = min(cap, first * 2.0 ** min(tries, 30))

    wait = delay(tries, spread=spread, first_seconds=first, cap_seconds=cap).total_seconds()

    assert whole / 2 - 1e-6 <= wait <= whole + 1e-6


@unhurried
@given(TRIES, SPREADS, SECONDS, SECONDS)
def test_the_next_wait_is_never_shorter(tries: int, spread: float, first: float, cap: float) -> None:
    now, after = (delay(n, spread=spread, first_seconds=first, cap_seconds=cap) for n in (tries, tries + 1))

    assert now <= after


@unhurried
@given(TRIES, SPREADS, SPREADS)
def test_two_that_drew_differently_do_not_wake_together(tries: int, one: float, other: float) -> None:
    first, second = (delay(tries, spread=spread, first_seconds=2, cap_seconds=300) for spread in (one, other))

    assert (first < second) == (one < other) or abs(one - other) < 1e-5
