"""What a resume or retry keeps and what it runs again: decided here, listed before it is done.

Completed work is never run again by a resume. A retry of a named agent runs it whatever its end, with everything
that was built on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from spawnd.domain.states import AgentState, WaitReason, is_ended


class Action(StrEnum):
    """What happens to one agent."""

    KEEP = "keep"  #: completed; its result is used as it is
    RUN_AGAIN = "run_again"  #: a new attempt, from the work that its last one left
    START = "start"  #: it has never run and starts when its dependencies are there
    WAKE = "wake"  #: it waits, and is woken now
    NONE = "none"  #: nothing changes: it runs, or waits for a time


@dataclass(frozen=True, slots=True)
class Standing:
    """An agent as a resume sees it."""

    name: str
    state: AgentState
    wait_reason: WaitReason | None
    attempts: int
    failure_class: str | None
    parents: Sequence[str]


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the plan."""

    agent: str
    action: Action
    reason: str


def plan_resume(agents: Sequence[Standing], *, only: str | None, now: bool) -> list[Item]:
    """What ``resume`` does, for every agent in the order given."""
    wanted = _with_ended_parents(agents, only)
    items = []
    for agent in agents:
        if agent.name not in wanted:
            items.append(Item(agent.name, Action.NONE, "not asked for"))
        else:
            items.append(_item(agent, now=now))
    return items


def plan_retry(agents: Sequence[Standing], *, only: str | None) -> list[Item]:
    """What ``retry`` does: as resume, but a named agent runs again even if it completed, and what builds on it."""
    if only is None:
        return plan_resume(agents, only=None, now=True)
    by_name = {agent.name: agent for agent in agents}
    again = _startable(agents, _downstream(agents, only) | _ended_above(by_name, only), only)
    items = []
    for agent in agents:
        if agent.name not in again:
            items.append(Item(agent.name, Action.NONE, "not asked for"))
        elif agent.state is AgentState.RUNNING:
            items.append(Item(agent.name, Action.NONE, "it is running"))
        elif not is_ended(agent.state):
            items.append(_item(agent, now=True))
        elif agent.attempts == 0:
            items.append(Item(agent.name, Action.START, f"it never ran ({agent.state.value})"))
        elif agent.name == only:
            items.append(Item(agent.name, Action.RUN_AGAIN, f"asked for; it had {_ended(agent)}"))
        elif agent.name not in _downstream(agents, only):
            items.append(_item(agent, now=True))
        else:
            items.append(Item(agent.name, Action.RUN_AGAIN, f"it builds on {only}; it had {_ended(agent)}"))
    return items


def _item(agent: Standing, *, now: bool) -> Item:
    match agent.state:
        case AgentState.COMPLETED:
            return Item(agent.name, Action.KEEP, "completed")
        case AgentState.RUNNING:
            return Item(agent.name, Action.NONE, "it is running")
        case AgentState.READY | AgentState.BLOCKED:
            return Item(agent.name, Action.START, "it has not started" if not agent.attempts else "it is next")
        case AgentState.WAITING:
            if agent.wait_reason is WaitReason.HUMAN:
                return Item(agent.name, Action.WAKE, f"it waits for a person ({agent.failure_class})")
            if now:
                return Item(agent.name, Action.WAKE, f"without waiting any longer ({agent.failure_class})")
            return Item(agent.name, Action.NONE, f"it resumes by itself ({agent.failure_class})")
        case _:
            if agent.attempts == 0:
                return Item(agent.name, Action.START, f"it never ran ({agent.state.value})")
            return Item(agent.name, Action.RUN_AGAIN, f"it had {_ended(agent)}")


def _ended(agent: Standing) -> str:
    state = agent.state.value.replace("_", " ")
    return f"{state} ({agent.failure_class})" if agent.failure_class else state


def _with_ended_parents(agents: Sequence[Standing], only: str | None) -> Collection[str]:
    """Everything; or the named agent with what it needs and what was skipped because of it."""
    if only is None:
        return {agent.name for agent in agents}
    by_name = {agent.name: agent for agent in agents}
    below = {
        name for name in _downstream(agents, only) if by_name[name].state in (AgentState.SKIPPED, AgentState.BLOCKED)
    }
    return _startable(agents, _ended_above(by_name, only) | below, only)


def _startable(agents: Sequence[Standing], wanted: Collection[str], only: str) -> set[str]:
    """``wanted`` without what would wait for ever: it needs something that ended badly and is not run again."""
    by_name = {agent.name: agent for agent in agents}
    kept = set(wanted)
    while stuck := {
        name
        for name in kept
        if name != only
        and is_ended(by_name[name].state)
        and any(
            is_ended(by_name[parent].state) and by_name[parent].state is not AgentState.COMPLETED and parent not in kept
            for parent in by_name[name].parents
        )
    }:
        kept -= stuck
    return kept


def _ended_above(by_name: Mapping[str, Standing], only: str) -> set[str]:
    """The named agent, and whatever above it ended without completing."""
    wanted: set[str] = set()
    todo = [only]
    while todo:
        name = todo.pop()
        if name in wanted:
            continue
        wanted.add(name)
        todo += [
            parent
            for parent in by_name[name].parents
            if is_ended(by_name[parent].state) and by_name[parent].state is not AgentState.COMPLETED
        ]
    return wanted


def _downstream(agents: Sequence[Standing], root: str) -> set[str]:
    children: Mapping[str, list[str]] = {agent.name: [] for agent in agents}
    for agent in agents:
        for parent in agent.parents:
            children[parent].append(agent.name)
    reached: set[str] = set()
    todo = [root]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += children[name]
    return reached
