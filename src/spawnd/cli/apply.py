"""``spawnd apply``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spawnd.cli import door, options, output
from spawnd.cli.style import plural
from spawnd.contracts.client import Client, Result
from spawnd.errors import Refused
from spawnd.git.apply import Applied
from spawnd.git.apply import apply as apply_patch


def apply(
    run: options.Run = "latest",
    agent: options.Agent = None,
    repo: Annotated[Path, typer.Option("--repo", metavar="PATH", help="The repository to apply to.")] = Path(),
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Commit it too, with this message [default: leave it staged].")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether it would apply.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also work that was not accepted.")] = False,
    json: options.Json = False,
) -> None:
    """Bring a run's work onto the branch that is checked out here: three-way, whole or not at all.

    Without -a everything that was accepted, merged; with -a that agent's work and what it builds on. The work is
    staged, not committed, unless -m says so. Refuses a repository with uncommitted changes; a conflict names
    the files and changes nothing.
    """

    async def bring(client: Client) -> tuple[Result, Applied]:
        result = await client.result(run, agent=agent)
        if not result.accepted and not force:
            raise Refused(
                f"The work of {agent} was not accepted: it did not complete.",
                hint=f"`spawnd diff {result.run_id} -a {agent}` shows it; --force applies it all the same.",
            )
        applied = await apply_patch(
            repo.absolute(),
            result.patch,
            mirror=result.mirror,
            head=result.head_sha,
            message=message,
            check_only=check,
        )
        return result, applied

    result, applied = door.ask(bring)
    if json:
        output.document(
            {
                "run_id": result.run_id,
                "agents": list(result.agents),
                "files": list(applied.files),
                "commit": applied.commit,
                "applied": not check,
            }
        )
        return
    if not applied.files:
        output.line("There is nothing to apply: the work changed no file.")
        return
    what = f"the work of {', '.join(result.agents)}"
    count = plural(len(applied.files), "file")
    if check:
        output.line(f"{what} would apply: {count}")
    elif applied.commit:
        output.line(f"applied {what}: {count}, committed as {applied.commit[:12]}")
    else:
        output.line(f"applied {what}: {count}, staged; `git diff --staged` shows them, `git commit` keeps them")
