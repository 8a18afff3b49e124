"""How a command ends badly: one line that says what, one that says what to do, and the exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import typer
from typer._click.exceptions import ClickException  # typer vendors click; there is no public name for its errors

from spawnd.cli.style import dim, red
from spawnd.errors import PlanError, SpawndError

INTERRUPTED = 130


@dataclass(slots=True)
class Ended:
    """The exit code of a command."""

    code: int = 0


@contextmanager
def reported(words: Sequence[str]) -> Iterator[Ended]:
    """Turn whatever a command raises into words on standard error and an exit code."""
    ended = Ended()
    try:
        yield ended
        sys.stdout.flush()
    except SpawndError as error:
        ended.code = error.exit_code
        if "--json" in words:
            _say_json(error)
        else:
            say(error)
    except ClickException as error:
        ended.code = error.exit_code
        error.show()
    except typer.Exit as error:
        ended.code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        ended.code = INTERRUPTED
        sys.stderr.write("\ninterrupted\n")
    except BrokenPipeError:
        # Whoever read us has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if isinstance(leaf := _leaf(error), SpawndError):
            ended.code = leaf.exit_code
            say(leaf)
            return
        ended.code = 1
        if os.environ.get("SPAWND_TRACEBACK"):
            traceback.print_exc()
        sys.stderr.write(
            f"{red('error:')} spawnd met something it did not expect: {type(error).__name__}: {error}\n"
            f"{dim('Run it again with SPAWND_TRACEBACK=1 and report what it prints.')}\n"
        )


def say(error: SpawndError) -> None:
    """The error for people."""
    sys.stderr.write(f"{red('error:')} {error.message}\n")
    if error.hint:
        sys.stderr.write(f"{dim(error.hint)}\n")


def _leaf(error: BaseException) -> BaseException:
    """The first thing that went wrong in a group of tasks."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _say_json(error: SpawndError) -> None:
    """The error for programs, on standard error: standard output holds the one document or nothing."""
    import json

    document: dict[str, object] = {"code": error.code, "message": error.message, "hint": error.hint}
    if isinstance(error, PlanError):
        document["problems"] = [
            {
                "path": problem.path,
                "line": problem.line,
                "message": problem.message,
                "suggestion": problem.suggestion,
            }
            for problem in error.problems
        ]
    sys.stderr.write(json.dumps({"error": document}) + "\n")
