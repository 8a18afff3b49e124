"""``spawnd status``."""

from __future__ import annotations

from typing import Annotated

import typer

from spawnd.cli import door, options, output, summary, tables
from spawnd.cli.style import elapsed, money


def status(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run id, a unique beginning of one, or `latest`.")
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option("--status", metavar="STATE", help="Only runs in this state; may be repeated.")
    ] = None,
    before: Annotated[str | None, typer.Option("--before", metavar="RUN", help="The page after this run.")] = None,
    limit: options.Limit = 20,
    json: options.Json = False,
) -> None:
    """The recent runs, or with RUN that run: each agent's state and why, checks, change, tokens and cost.

    \b
    spawnd status
    spawnd status latest
    spawnd status --status running --status paused --json
    """
    if run is None:
        _list(limit, before, state or [], json=json)
        return
    document = door.ask(lambda client: client.run(run))
    if json:
        output.document(document)
    else:
        summary.show(document)


def _list(limit: int, before: str | None, states: list[str], *, json: bool) -> None:
    page = door.ask(lambda client: client.runs(limit=limit, before=before, status=states))
    if json:
        output.document(page)
        return
    if not page.runs:
        output.note('There is no run yet. `spawnd run -p "…"` or `spawnd init` begins one.')
        return
    output.show(
        "RUN",
        "STATE",
        "DONE",
        "ELAPSED",
        "COST",
        "AGE",
        "REPOSITORY",
        rows=(
            (
                row.run_id,
                tables.state_text(row.status),
                f"{row.agents_completed}/{row.agents_total}",
                elapsed(row.started_at, row.finished_at),
                money(row.cost_usd, unknown=row.cost_unknown),
                elapsed(row.created_at, None),
                row.source_repo,
            )
            for row in page.runs
        ),
        right=("DONE", "ELAPSED", "COST", "AGE"),
    )
    if page.next:
        output.note(f"more: spawnd status --before {page.next}")
