"""``spawnd init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spawnd import assembly
from spawnd.cli import output
from spawnd.errors import Conflict, Unavailable
from spawnd.plan.compile import compile_plan
from spawnd.plan.load import load
from spawnd.plan.starter import starter
from spawnd.settings import Settings

#: A file of a project → the check that fits it.
_CHECKS = {
    "pytest.ini": "pytest",
    "pyproject.toml": "pytest",
    "package.json": "npm test",
    "Makefile": "make test",
}


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")] = Path("plan.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write a commented plan to start from: its runtime is the one that is logged in here, its check fits the project.

    It is valid as it stands: `spawnd plan validate -f plan.yaml`.
    """
    text = starter(runtime=_runtime(), check=_check(path.absolute().parent))
    compile_plan(load(text, origin=str(path)))
    try:
        with path.open("w" if force else "x") as file:
            file.write(text)
    except FileExistsError:
        raise Conflict(f"{path} is there already.", hint="Name another file, or overwrite it with --force.") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}.") from None
    output.line(f"wrote {path}")
    output.note(f"  edit it, then: spawnd plan validate -f {path}    spawnd run -f {path}")


def _runtime() -> str:
    environ = Settings.load().environ
    known = assembly.runtimes()
    ready = [name for name in ("claude", "codex") if name in known and known[name].probe(environ).ready]
    return ready[0] if ready else "claude"


def _check(folder: Path) -> str:
    found = next((check for name, check in _CHECKS.items() if (folder / name).exists()), None)
    return found or '"true"'
