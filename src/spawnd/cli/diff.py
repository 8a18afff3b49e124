"""``spawnd diff``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from spawnd.cli import door, options, output
from spawnd.cli.style import plural
from spawnd.contracts.client import Client, Result
from spawnd.git import patch


def diff(
    run: options.Run = "latest",
    agent: options.Agent = None,
    stat: Annotated[bool, typer.Option("--stat", help="Files and numbers of lines only.")] = False,
    json: options.Json = False,
) -> None:
    """A run's work as a patch that `git apply` takes: everything that was accepted, merged; with -a one agent's
    own change (also if it was kept without being accepted).

    \b
    spawnd diff latest
    spawnd diff latest -a parser --stat
    spawnd diff latest > night.patch
    """

    async def read(client: Client) -> tuple[Result, patch.DiffStat | None]:
        result = await client.result(run, agent=agent, own=True)
        numbers = None
        if (stat or json) and result.mirror is not None:
            numbers = await patch.stat(result.mirror, result.base_sha, result.head_sha)
        return result, numbers

    result, numbers = door.ask(read)
    if not result.accepted:
        output.note(f"The work of {agent} was not accepted: it did not complete.")
    if json:
        output.document(_document(result, numbers))
    elif numbers is not None:
        _print_stat(numbers)
    elif result.patch:
        _print_patch(result.patch)
    else:
        output.note("There is no change.")


def _print_patch(data: bytes) -> None:
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(data)
        return
    from rich.syntax import Syntax

    text = data.decode("utf-8", "replace")
    output.console().print(Syntax(text, "diff", theme="ansi_dark", background_color="default", word_wrap=False))


def _print_stat(numbers: patch.DiffStat) -> None:
    width = max((len(file.path) for file in numbers.files), default=0)
    for file in numbers.files:
        lines = "binary" if file.insertions is None else f"+{file.insertions} -{file.deletions}"
        output.line(f" {file.status} {file.path:<{width}}  {lines}")
    output.line(f" {plural(len(numbers.files), 'file')} changed, +{numbers.insertions} -{numbers.deletions}")


def _document(result: Result, numbers: patch.DiffStat | None) -> dict[str, object]:
    files = numbers.files if numbers is not None else ()
    return {
        "run_id": result.run_id,
        "agents": list(result.agents),
        "accepted": result.accepted,
        "base_sha": result.base_sha,
        "head_sha": result.head_sha,
        "files": [
            {"path": file.path, "status": file.status, "insertions": file.insertions, "deletions": file.deletions}
            for file in files
        ],
        "patch": result.patch.decode("utf-8", "replace"),
    }
