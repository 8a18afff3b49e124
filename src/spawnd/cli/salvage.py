"""``spawnd salvage list`` and ``restore``: nothing that an agent made is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from spawnd import assembly
from spawnd.cli import options, output
from spawnd.cli.style import elapsed
from spawnd.errors import NotFound
from spawnd.git import salvage
from spawnd.settings import Settings

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Work that was kept of any attempt: succeeded, failed, cancelled or lost.",
)

RunFilter = Annotated[str | None, typer.Argument(metavar="RUN", help="Only this run (its whole id).")]


@app.command("list")
def list_(run: RunFilter = None, json: options.Json = False) -> None:
    """Every attempt's last state of its files, the newest first."""
    found = asyncio.run(_kept(run))
    if json:
        output.document(
            {
                "kept": [
                    {
                        "run_id": one.run_id,
                        "agent": one.agent,
                        "attempt": one.attempt,
                        "sha": one.sha,
                        "ref": one.ref,
                        "repository": str(one.mirror),
                        "at": one.at.isoformat(),
                    }
                    for one in found
                ]
            }
        )
        return
    if not found:
        output.note("Nothing is kept.")
        return
    output.show(
        "RUN",
        "AGENT",
        "TRY",
        "COMMIT",
        "AGE",
        rows=((one.run_id, one.agent, one.attempt, one.sha[:12], elapsed(one.at, None)) for one in found),
        right=("TRY",),
    )


@app.command()
def restore(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The whole id of the run.")],
    agent: Annotated[str, typer.Argument(metavar="AGENT")],
    destination: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where to put the files.")],
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="[default: the last]")] = None,
) -> None:
    """Check an attempt's files out into a new directory, as a git repository of its own."""
    mine = [one for one in asyncio.run(_kept(run)) if one.agent == agent and attempt in (None, one.attempt)]
    if not mine:
        raise NotFound(f"Nothing is kept of {run}/{agent}.", hint="`spawnd salvage list` shows what is.")
    last = max(mine, key=lambda one: one.attempt)
    sha = asyncio.run(salvage.restore(last.mirror, last.ref, destination.absolute()))
    output.line(f"{destination}: attempt {last.attempt} of {agent} at {sha[:12]}")


async def _kept(run: str | None) -> list[salvage.Kept]:
    mirrors = assembly.mirrors(Settings.load())
    found = [one for mirror in mirrors.all() for one in await salvage.kept(mirror, run)]
    return sorted(found, key=lambda one: one.at, reverse=True)
