"""Tables that more than one command shows: the agents of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from spawnd.cli import output
from spawnd.cli.style import STATE_STYLE, duration, elapsed, money, plural
from spawnd.wire.runs import AgentRow, RunDocument, RunRow

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def state_text(state: str) -> Text:
    from rich.text import Text

    return Text(state.replace("_", " "), style=STATE_STYLE.get(state, ""))


def headline(run: RunRow) -> Text:
    """The run in one line."""
    from rich.text import Text

    parts = [
        f"{run.agents_completed} of {run.agents_total} done",
        elapsed(run.started_at, run.finished_at) or "not started",
        f"{money(run.cost_usd, unknown=run.cost_unknown)} of {money(run.cost_budget_usd)}",
    ]
    reason = f"  {run.status_reason}" if run.status_reason else ""
    return Text.assemble(
        (run.run_id, "bold"),
        "  ",
        state_text(run.status),
        "  ",
        "  ".join(parts),
        (reason, "yellow"),
    )


def agents(document: RunDocument, *, width: int, live: bool = False) -> Table:
    """The agents with state, elapsed, checks, change, cost and why they are as they are, on ``width`` columns."""
    columns = ("AGENT", "STATE", "ELAPSED", "TRY", "CHECKS", "CHANGE", "COST", "LAST EVENT" if live else "NOTE")
    rows = (
        (
            agent.name,
            state_text(agent.status),
            elapsed(agent.started_at, agent.finished_at),
            agent.attempts or "",
            checks(agent),
            change(agent),
            money(agent.cost_usd, unknown=agent.cost_unknown) if agent.attempts else "",
            " ".join(_note(agent, live=live).split()),
        )
        for agent in document.agents
    )
    return output.grid(columns, rows, right=("ELAPSED", "TRY", "COST"), width=width)


def checks(agent: AgentRow) -> str:
    if not agent.checks_passed and not agent.checks_failed:
        return ""
    failed = f", {agent.checks_failed} failed" if agent.checks_failed else ""
    return f"{agent.checks_passed} passed{failed}"


def change(agent: AgentRow) -> str:
    if agent.files_changed is None:
        return ""
    if not agent.files_changed:
        return "none"
    return f"{plural(agent.files_changed, 'file')} +{agent.insertions} -{agent.deletions}"


def _note(agent: AgentRow, *, live: bool) -> str:
    """Why it is as it is; while it runs, what it did last."""
    if agent.waiting is not None:
        if agent.waiting.until is not None:
            left = (agent.waiting.until - datetime.now(UTC)).total_seconds()
            return f"{agent.waiting.text} (in {duration(left)})" if left > 0 else agent.waiting.text
        return agent.waiting.text
    if agent.status == "running":
        return agent.last_event or ""
    if agent.reason and agent.status != "completed":
        return agent.reason
    if live:
        return agent.last_event or ""
    return (agent.final_message or "").strip().split("\n")[0]
