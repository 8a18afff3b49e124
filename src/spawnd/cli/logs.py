"""``spawnd logs``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from spawnd.cli import door, options, output
from spawnd.contracts.client import Client
from spawnd.errors import NotFound
from spawnd.wire.evidence import ArtifactRow

#: What a program printed, by the step that it was printed in.
_STEPS = {"setup": "setup-output", "runtime": "transcript", "check": "check-output"}


def logs(
    run: options.Run = "latest",
    agent: options.Agent = None,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="Only this attempt [default: all].")] = None,
    step: Annotated[str | None, typer.Option("--step", help="setup, runtime or check [default: all].")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The last so many lines of each [default: all].")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="What agents say and do as it happens.")] = False,
    json: options.Json = False,
) -> None:
    """What the agents' programs printed: setup, the agent's own program, checks. Secrets are redacted.

    Logs are stored when a step ends; --follow shows messages and tool calls while it runs. With --json one
    document {"logs": [{agent, attempt, step, text, …}]}.
    """
    if step is not None and step not in _STEPS:
        raise typer.BadParameter(f"{step!r} is not one of {', '.join(_STEPS)}.", param_hint="--step")
    if follow:
        from spawnd.cli.events import live_events

        live_events(run, agent, 0, json)
        return
    kinds = {_STEPS[step]} if step else set(_STEPS.values())

    async def read(client: Client) -> list[tuple[ArtifactRow, bytes]]:
        rows = (await client.artifacts(run, agent=agent, limit=100_000)).artifacts
        wanted = [row for row in rows if row.kind in kinds and attempt in (None, row.attempt)]
        return [(row, _last(await client.artifact_bytes(row.sha256), limit)) for row in wanted]

    found = door.ask(read)
    if json:
        entries = [
            {
                "agent": row.agent,
                "attempt": row.attempt,
                "step": next(name for name, kind in _STEPS.items() if kind == row.kind),
                "name": row.name,
                "truncated": row.truncated,
                "text": data.decode("utf-8", "replace"),
            }
            for row, data in found
        ]
        output.document({"logs": entries})
        return
    if not found:
        raise NotFound("Nothing is logged yet.", hint="Logs are stored as each step ends; --follow shows it live.")
    for row, data in found:
        name = f" {row.name}" if row.name else ""
        output.line(f"==> {row.agent}, attempt {row.attempt}: {row.kind}{name} <==")
        sys.stdout.flush()
        sys.stdout.buffer.write(data if data.endswith(b"\n") or not data else data + b"\n")
        if row.truncated:
            output.line("[cut here: it was longer than is stored]")


def _last(data: bytes, lines: int | None) -> bytes:
    return data if lines is None else b"".join(data.splitlines(keepends=True)[-lines:])
