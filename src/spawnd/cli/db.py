"""``spawnd db upgrade`` and ``status``."""

from __future__ import annotations

import typer

from spawnd import assembly
from spawnd.cli import options, output
from spawnd.settings import Settings

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="The database's schema.")


@app.command()
def upgrade(json: options.Json = False) -> None:
    """Bring the database of SPAWND_DATABASE_URL to this version's schema. The embedded one upgrades by itself.

    Run it once per upgrade, when no older worker is running. Running it again does nothing.
    """
    before, after = assembly.upgrade_database(Settings.load())
    if json:
        output.document({"from": before, "to": after})
    elif before == after:
        output.line(f"The schema is at {after} already.")
    else:
        output.line(f"The schema went from {before or 'nothing'} to {after}.")


@app.command()
def status(json: options.Json = False) -> None:
    """Which schema the database has, and which one this version needs.

    Exit code 1 if they differ; the embedded database upgrades by itself when it is used.
    """
    settings = Settings.load()
    at, head = assembly.database_revision(settings)
    embedded = settings.database_url is None
    if json:
        output.document({"current": at, "needed": head, "embedded": embedded})
    elif at == head:
        output.line(f"at {at}, as this version needs")
    else:
        then = "it upgrades by itself when it is used" if embedded else "run `spawnd db upgrade`"
        output.line(f"at {at or 'nothing'}, needed {head}: {then}")
    raise typer.Exit(0 if at == head or embedded else 1)
