"""``spawnd trace``."""

from __future__ import annotations

from spawnd.cli import door, options, output
from spawnd.cli.style import duration

_TEXT = 400


def trace(
    run: options.Run = "latest",
    agent: options.Agent = None,
    limit: options.Limit = 500,
    json: options.Json = False,
) -> None:
    """What the agents' programs did: messages, tool calls, invocations and failures, as the runtimes reported them."""
    found = door.ask(lambda client: client.trace(run, agent=agent, limit=limit))
    if json:
        output.document(found)
        return
    entries = [
        *((row.at, row.agent, row.attempt, row.role, row.text) for row in found.messages),
        *(
            (
                row.at,
                row.agent,
                row.attempt,
                f"tool {row.name}{' (failed)' if row.is_error else ''}",
                f"{row.input} → {row.output if row.ended_at else 'no answer'}",
            )
            for row in found.tool_calls
        ),
        *(
            (
                row["started_at"],
                row["agent"],
                row["attempt"],
                f"ran {row['kind']}",
                f"{duration(row['duration_seconds'])}, exit {row['exit_code']}",
            )
            for row in found.invocations
        ),
        *(
            (row["at"], row["agent"], row["attempt"], f"failure {row['class']}", row["message"])
            for row in found.failures
        ),
    ]
    if not entries:
        output.note("Nothing is on record yet.")
    for at, name, attempt, kind, text in sorted(entries, key=lambda entry: entry[0]):
        words = " ".join(str(text).split())
        shown = words if len(words) <= _TEXT else f"{words[:_TEXT]}…"
        output.line(f"{at.astimezone():%H:%M:%S}  {name}#{attempt}  {kind}: {shown}")
