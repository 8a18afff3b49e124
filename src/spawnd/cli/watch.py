"""``spawnd watch``."""

from __future__ import annotations

import typer

from spawnd.cli import door, options, output, progress, summary
from spawnd.contracts.client import Client
from spawnd.wire.runs import RunDocument


def watch(run: options.Run = "latest", json: options.Json = False) -> None:
    """Follow a run's progress until it ends; it is done by whoever serves it. Ctrl-C only stops watching.

    Exit code 0 if every agent completed, 1 if not.
    """

    async def look(client: Client) -> RunDocument:
        run_id = await client.resolve(run)
        with progress.chosen(quiet=json) as show:
            return await progress.follow(client, run_id, show)

    document = door.ask(look)
    if json:
        output.document(document)
    else:
        summary.show(document)
    raise typer.Exit(summary.exit_code(document))
