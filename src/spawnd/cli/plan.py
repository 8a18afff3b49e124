"""``spawnd plan validate``, ``compile`` and ``schema``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spawnd.cli import options, output
from spawnd.cli.style import plural
from spawnd.plan.compile import compile_plan
from spawnd.plan.compiled import CompiledPlan
from spawnd.plan.load import Loaded, load, load_file
from spawnd.plan.notices import notices
from spawnd.plan.roles import known_roles
from spawnd.plan.spec import plan_schema
from spawnd.settings import Settings

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Validate, compile, or print the schema."
)

File = Annotated[Path, typer.Option("--file", "-f", metavar="PLAN", help="A plan file; - reads it from stdin.")]


@app.command()
def validate(file: File = Path("plan.yaml"), json: options.Json = False) -> None:
    """Say every error of a plan at once, each with its path, its line and the nearest known name."""
    loaded = _load(file)
    plan = _compiled(loaded)
    later = notices(loaded.plan)
    if json:
        output.document({"valid": True, "name": plan.name, "agents": len(plan.agents), "notices": later})
        return
    output.line(f"{loaded.origin}: valid, {plural(len(plan.agents), 'agent')}")
    for notice in later:
        output.note(f"  this version does not act on {notice}")


@app.command()
def compile(file: File = Path("plan.yaml")) -> None:
    """Print the plan as it is run, as JSON: agent over role over defaults over built-in, nothing left open."""
    output.document(_compiled(_load(file)))


@app.command()
def schema() -> None:
    """Print the JSON Schema of plans, for editors.

    \b
    spawnd plan schema > plan.schema.json
    # yaml-language-server: $schema=plan.schema.json      (the first line of plan.yaml)
    """
    output.document(plan_schema())


def _compiled(loaded: Loaded) -> CompiledPlan:
    return compile_plan(loaded, roles=known_roles(Settings.load().roles))


def _load(file: Path) -> Loaded:
    return load(sys.stdin.buffer.read(), origin="standard input") if str(file) == "-" else load_file(file)
