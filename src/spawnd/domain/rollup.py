"""What a run's agents make of the run."""

from __future__ import annotations

from collections.abc import Mapping

from spawnd.domain.states import AgentState, RunState


def ending_state(counts: Mapping[str, int], ending: str | None) -> RunState:
    """The final state of a run whose agents have all ended.

    ``counts`` is the number of agents by state; ``ending`` is what the run was being ended as, if it was. A run
    in which everything completed before a cancellation took hold is still completed: nothing was cut off.
    """
    bad = {
        AgentState(state)
        for state, count in counts.items()
        if count and state not in (AgentState.COMPLETED, AgentState.SKIPPED)
    }
    skipped = counts.get(AgentState.SKIPPED, 0)
    if not bad and not skipped:
        return RunState.COMPLETED
    if ending is not None:
        return RunState(ending)
    if bad == {AgentState.TIMED_OUT}:
        return RunState.TIMED_OUT
    if bad == {AgentState.CANCELLED}:
        return RunState.CANCELLED
    if bad == {AgentState.COST_EXCEEDED}:
        return RunState.COST_EXCEEDED
    return RunState.FAILED
