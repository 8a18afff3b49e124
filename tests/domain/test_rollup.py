"""What its agents make of a run."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spawnd.domain.rollup import ending_state
from spawnd.domain.states import ENDED_AGENT_STATES, RunState, is_ended

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

COUNTS = st.dictionaries(st.sampled_from([state.value for state in ENDED_AGENT_STATES]), st.integers(0, 3))
ENDINGS = st.sampled_from([None, "failed", "cancelled", "cost_exceeded"])


@pytest.mark.parametrize(
    ("agents", "ending", "expected"),
    [
        ("completed completed", None, RunState.COMPLETED),
        ("completed failed", None, RunState.FAILED),
        ("completed timed_out", None, RunState.TIMED_OUT),
        ("completed cancelled", None, RunState.CANCELLED),
        ("completed cost_exceeded", None, RunState.COST_EXCEEDED),
        ("timed_out skipped", None, RunState.TIMED_OUT),
        ("cancelled skipped", None, RunState.CANCELLED),
        ("completed skipped", None, RunState.FAILED),
        ("timed_out cancelled", None, RunState.FAILED),
        ("timed_out cost_exceeded", None, RunState.FAILED),
        ("failed timed_out cancelled", None, RunState.FAILED),
        ("completed completed", "cancelled", RunState.COMPLETED),
        ("completed completed", "failed", RunState.COMPLETED),
        ("completed cancelled", "cancelled", RunState.CANCELLED),
        ("completed skipped", "cancelled", RunState.CANCELLED),
        ("failed cancelled", "cancelled", RunState.CANCELLED),
        ("failed cancelled", "failed", RunState.FAILED),
        ("cost_exceeded cancelled", "cost_exceeded", RunState.COST_EXCEEDED),
    ],
)
def test_a_run_ends_as_its_agents_and_its_ending_say(agents: str, ending: str | None, expected: RunState) -> None:
    names = agents.split()
    counts = {name: names.count(name) for name in names}

    assert ending_state(counts, ending) is expected


@unhurried
@given(COUNTS, ENDINGS)
def test_a_run_is_completed_only_if_every_agent_is(counts: dict[str, int], ending: str | None) -> None:
    state = ending_state(counts, ending)

    assert is_ended(state)
    others = sum(count for name, count in counts.items() if name != "completed")
    assert (state is RunState.COMPLETED) == (others == 0)


@unhurried
@given(COUNTS, ENDINGS)
def test_states_that_no_agent_is_in_change_nothing(counts: dict[str, int], ending: str | None) -> None:
    there = {name: count for name, count in counts.items() if count}

    assert ending_state(counts, ending) is ending_state(there, ending)
