"""``spawnd checks``."""

from __future__ import annotations

from typing import Annotated

import typer

from spawnd.cli import door, options, output
from spawnd.cli.style import duration

_TAIL_LINES = 12


def checks(
    run: options.Run = "latest",
    agent: options.Agent = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed.")] = False,
    limit: options.Limit = 500,
    json: options.Json = False,
) -> None:
    """The checks that decided whether work was accepted: command, exit code, time, and the end of what failed."""
    found = door.ask(lambda client: client.checks(run, agent=agent, limit=limit))
    rows = tuple(row for row in found.checks if not (failed and row.passed))
    if json:
        output.document(found.model_copy(update={"checks": rows}))
        return
    if not rows:
        output.note("No check has failed." if failed else "No check has run yet.")
        return
    console = output.console()
    for row in rows:
        verdict = "passed" if row.passed else "timed out" if row.exit_code is None else f"exit {row.exit_code}"
        style = "green" if row.passed else "red"
        head = f"{row.agent:<16} try {row.attempt}  {row.name:<12} "
        console.print(head, end="")
        console.print(f"{verdict:<9}", style=style, end="")
        console.print(f" {duration(row.duration_seconds):>7}  {row.command}", soft_wrap=True)
        if not row.passed:
            for line in row.output_tail.splitlines()[-_TAIL_LINES:]:
                console.print(f"    {line}", style="bright_black", soft_wrap=True)
