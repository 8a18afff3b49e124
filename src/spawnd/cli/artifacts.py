"""``spawnd artifacts``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spawnd.cli import door, options, output
from spawnd.cli.style import size
from spawnd.contracts.client import Client
from spawnd.errors import NotFound
from spawnd.wire.evidence import ArtifactRow


def artifacts(
    run: options.Run = "latest",
    agent: options.Agent = None,
    get: Annotated[
        int | None, typer.Option("--get", metavar="ID", help="Write this artifact to standard output or --output.")
    ] = None,
    destination: Annotated[Path | None, typer.Option("--output", "-o", help="A file for --get.")] = None,
    limit: options.Limit = 500,
    json: options.Json = False,
) -> None:
    """What is stored of a run: patches, transcripts, output of setup and checks, final messages.

    Artifacts are named by the sha-256 of their bytes and hold no secret that spawnd knows of.

    \b
    spawnd artifacts latest
    spawnd artifacts latest --get 12 > change.patch
    """
    if get is not None:
        data = door.ask(lambda client: _bytes(client, run, get))
        if destination is None:
            sys.stdout.buffer.write(data)
        else:
            destination.write_bytes(data)
        return
    found = door.ask(lambda client: client.artifacts(run, agent=agent, limit=limit))
    if json:
        output.document(found)
        return
    output.show(
        "ID",
        "AGENT",
        "TRY",
        "KIND",
        "NAME",
        "SIZE",
        "SHA-256",
        rows=(
            (
                row.id,
                row.agent,
                row.attempt,
                row.kind,
                row.name,
                f"{size(row.size_bytes)}{' (cut)' if row.truncated else ''}",
                row.sha256[:16],
            )
            for row in found.artifacts
        ),
        right=("ID", "TRY", "SIZE"),
    )


async def _bytes(client: Client, run: str, id_: int) -> bytes:
    rows = (await client.artifacts(run, limit=100_000)).artifacts
    row: ArtifactRow | None = next((row for row in rows if row.id == id_), None)
    if row is None:
        raise NotFound(f"The run has no artifact {id_}.", hint=f"`spawnd artifacts {run}` lists them.")
    return await client.artifact_bytes(row.sha256)
