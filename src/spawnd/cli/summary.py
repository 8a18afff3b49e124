"""What is said when a run has ended: what was done, what was not and why, and where to look further."""

from __future__ import annotations

from spawnd.cli import output, tables
from spawnd.wire.runs import AgentRow, RunDocument

_PROBLEMS_SHOWN = 12


def exit_code(document: RunDocument) -> int:
    """0 if everything completed."""
    return 0 if document.run.status == "completed" else 1


def show(document: RunDocument) -> None:
    """The table, the reasons of what did not complete, and the next commands."""
    run = document.run
    console = output.console()
    console.print(tables.headline(run))
    console.print()
    console.print(tables.agents(document, width=console.width))
    troubled = [agent for agent in document.agents if agent.status not in ("completed", "skipped")]
    if troubled:
        console.print()
    for agent in troubled[:_PROBLEMS_SHOWN]:
        console.print(f"{agent.name}: {_why(agent)}", soft_wrap=True)
    if len(troubled) > _PROBLEMS_SHOWN:
        console.print(f"… and {len(troubled) - _PROBLEMS_SHOWN} more: `spawnd status {run.run_id}`")
    branches = [agent for agent in document.agents if agent.branch and agent.files_changed]
    if branches:
        console.print()
        console.print("Branches, in spawnd's mirror until you apply them:")
        for agent in branches:
            console.print(f"  {agent.branch}  {tables.change(agent)}", soft_wrap=True)
    console.print()
    for command, meaning in _next_steps(document):
        console.print(f"  {command:<{_width(run.run_id)}} {meaning}", soft_wrap=True)


def _why(agent: AgentRow) -> str:
    parts = [agent.status.replace("_", " ")]
    reason = agent.waiting.text if agent.waiting is not None else agent.reason
    if reason:
        parts.append(reason.strip())
    if agent.next_step and agent.waiting is None:
        parts.append(agent.next_step)
    return " - ".join(parts)


def _next_steps(document: RunDocument) -> list[tuple[str, str]]:
    run_id = document.run.run_id
    steps = []
    if any(agent.files_changed and agent.status == "completed" for agent in document.agents):
        steps += [
            (f"spawnd diff {run_id}", "the patch; -a AGENT for one"),
            (f"spawnd apply {run_id}", "onto your branch"),
        ]
    steps += [
        (f"spawnd checks {run_id}", "what decided"),
        (f"spawnd logs {run_id} -a AGENT", "what its program printed"),
    ]
    if document.run.status not in ("completed",):
        steps.append((f"spawnd resume {run_id}", "go on; finished work is kept"))
    return steps


def _width(run_id: str) -> int:
    return len(f"spawnd resume {run_id}") + 10
