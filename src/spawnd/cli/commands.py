"""The table of commands. `spawnd --help` is printed from it, so that it imports none of them."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer._click import Command, Context, HelpFormatter  # typer vendors click and has no public name for these
from typer.core import TyperArgument, TyperGroup, TyperOption

from spawnd import __version__


class Entry(NamedTuple):
    """Where a command is, and its line in the help."""

    target: str
    help: str


#: Section → command → where it is. The order is that of the help.
SECTIONS: Final[dict[str, dict[str, Entry]]] = {
    "Work": {
        "run": Entry("run:run", "Run agents on a repository: prompts with -p, or a plan file with -f."),
        "submit": Entry("run:submit", "Submit a plan and return; a worker does it."),
        "watch": Entry("watch:watch", "Follow a run's progress until it ends."),
        "diff": Entry("diff:diff", "The run's work, or one agent's, as a patch."),
        "apply": Entry("apply:apply", "Bring the work onto your branch: three-way, whole or not at all."),
    },
    "Look": {
        "status": Entry("status:status", "The recent runs, or one run with its agents."),
        "events": Entry("events:events", "What happened in a run, in order."),
        "live-events": Entry("events:live_events", "The same, followed until the run ends."),
        "logs": Entry("logs:logs", "What the agents' programs printed."),
        "checks": Entry("checks:checks", "The checks that ran, and how they ended."),
        "artifacts": Entry("artifacts:artifacts", "What is stored of a run; --get writes one out."),
        "trace": Entry("trace:trace", "Messages, tool calls, invocations and failures."),
        "provenance": Entry("provenance:provenance", "Which commits the work came from and where it is."),
    },
    "Steer": {
        "cancel": Entry("steer:cancel", "Stop a run or an agent; the work so far is kept."),
        "pause": Entry("steer:pause", "Start nothing new; what runs goes on."),
        "resume": Entry("steer:resume", "Go on with what has not completed; finished work is kept."),
        "retry": Entry("steer:retry", "Run again what failed, or one agent and what builds on it."),
        "answer": Entry("steer:answer", "Answer an agent that waits for a person."),
    },
    "Plans": {
        "init": Entry("init:init", "Write a commented plan.yaml to start from."),
        "plan": Entry("plan:app", "Validate, compile, or print the schema of plans."),
        "roles": Entry("roles:roles", "The roles that agents can take on."),
    },
    "Fleet": {
        "worker": Entry("worker:worker", "Serve runs from this machine."),
        "up": Entry("worker:up", "Worker, relay and reaper in one process, until stopped."),
        "workers": Entry("fleet:workers", "The workers, the queue and closed provider limits."),
        "worker-heartbeat": Entry("fleet:worker_heartbeat", "Whether a worker is alive, for health checks."),
        "reconcile": Entry("fleet:reconcile", "Free agents of dead workers and wake what is due, now."),
        "drain-outbox": Entry("fleet:drain_outbox", "Send pending wakeups, now."),
    },
    "House": {
        "doctor": Entry("doctor:doctor", "What is present, what is missing and how to get it."),
        "db": Entry("db:app", "The database's schema: upgrade, status."),
        "salvage": Entry("salvage:app", "Work that was kept of any attempt: list, restore."),
    },
}
COMMANDS: Final = {name: entry for section in SECTIONS.values() for name, entry in section.items()}

_PLACEHOLDERS: Final = (("int", "N"), ("float", "SECONDS"), ("path", "PATH"))

_INTRO = """\
Run fleets of coding agents on git repositories: durably, in isolation, under budgets, everything on record.

  spawnd run -p "Improve the parser error message" --check "pytest tests/test_parser.py"
  spawnd run -f plan.yaml            a plan of many agents
  spawnd diff latest | less          what they did
  spawnd apply latest                onto your branch"""


class _Commands(TyperGroup):
    """Loads a command when it is asked for."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else load(cmd_name, entry)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            nearest = get_close_matches(args[0], COMMANDS, n=1)
            known = f"Did you mean {nearest[0]!r}?" if nearest else "`spawnd --help` lists them."
            ctx.fail(f"There is no command {args[0]!r}. {known}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        formatter.write(f"Usage: spawnd COMMAND [OPTIONS]\n\n{_INTRO}\n")
        for title, section in SECTIONS.items():
            formatter.write(f"\n{title}\n")
            for name, entry in section.items():
                formatter.write(f"  {name:<17} {entry.help}\n")
        formatter.write(
            "\nRUN is a run's id, a unique beginning of it, or `latest`. Every command that reads takes --json.\n"
            "`spawnd COMMAND --help` says more. Shell completion: `spawnd --install-completion`.\n"
        )


def load(name: str, entry: Entry) -> Command:
    """The command as typer makes it from its function, or from a module's own ``app`` of subcommands."""
    module, _, attribute = entry.target.partition(":")
    found: Any = getattr(import_module(f"spawnd.cli.{module}"), attribute)
    app = found
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name, short_help=entry.help)(found)
    command = typer.main.get_command(app)
    command.name = name
    _plain(command)
    return command


def _plain(command: Command) -> None:
    """Placeholders in the help in words (N, TEXT) instead of Python's types (<int range>, <str>)."""
    for sub in getattr(command, "commands", {}).values():
        _plain(sub)
    ctx = Context(command)
    for param in command.params:
        if isinstance(param, TyperArgument):
            param.display_type_rich = lambda ctx: ""  # type: ignore[method-assign]  # typer has no option
        elif isinstance(param, TyperOption) and param.metavar is None and not param.is_flag:
            param.metavar = next((words for name, words in _PLACEHOLDERS if name in param.display_type(ctx)), "TEXT")


def program() -> Command:
    """The whole command line."""
    app = typer.Typer(cls=_Commands, rich_markup_mode=None, no_args_is_help=True)

    @app.callback(invoke_without_command=False)
    def top(
        version: bool = typer.Option(False, "--version", help="Print the version.", callback=_version, is_eager=True),
    ) -> None:
        """Run fleets of coding agents on git repositories."""

    return typer.main.get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"spawnd {__version__}")
        raise typer.Exit
