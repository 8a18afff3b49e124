"""Arguments and options that many commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run id, a unique beginning of one, or `latest`.")]
Agent = Annotated[str | None, typer.Option("--agent", "-a", metavar="NAME", help="Only this agent.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
JsonLines = Annotated[bool, typer.Option("--json", help="One JSON document a line on standard output.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")]
PlanFile = Annotated[
    Path | None, typer.Option("--file", "-f", metavar="PLAN", help="A plan file (YAML or JSON); - reads it from stdin.")
]
SourceRepo = Annotated[
    str, typer.Option("--source-repo", metavar="PATH|URL", help="The git repository that the agents work on.")
]
SourceRef = Annotated[
    str | None, typer.Option("--source-ref", metavar="REV", help="The revision they start from [default: HEAD].")
]
RunId = Annotated[
    str | None, typer.Option("--run-id", metavar="ID", help="The id of the run; the same id and plan is the same run.")
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", "-j", min=1, max=500, help="Agents at once in this process."),
]
