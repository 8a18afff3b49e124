"""``spawnd provenance``."""

from __future__ import annotations

from spawnd.cli import door, options, output
from spawnd.cli.style import plural


def provenance(
    run: options.Run = "latest",
    agent: options.Agent = None,
    limit: options.Limit = 500,
    json: options.Json = False,
) -> None:
    """Which commits each piece of work came from, where it is kept, and its patch: what a review or an audit needs."""
    found = door.ask(lambda client: client.provenance(run, agent=agent, limit=limit))
    if json:
        output.document(found)
        return
    if not found.provenance:
        output.note("No work is on record yet.")
    for row in found.provenance:
        verdict = "accepted" if row.accepted else "kept, not accepted"
        output.line(f"{row.agent}, attempt {row.attempt}: {verdict}")
        output.line(f"  source   {row.source_sha} of {row.source_repo}")
        output.line(f"  started  {row.base_sha}")
        own = f" (with {plural(row.commits, 'commit')} of the agent's own)" if row.commits else ""
        output.line(f"  result   {row.head_sha}{own}")
        output.line(f"  branch   {row.branch}")
        output.line(f"  change   {plural(len(row.files), 'file')}, +{row.insertions} -{row.deletions}")
        if row.patch_sha256:
            output.line(f"  patch    sha256:{row.patch_sha256}")
