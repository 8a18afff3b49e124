"""``spawnd doctor``: one screen that says what is present, what is missing and how to get it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from spawnd import __version__, assembly
from spawnd.cli import options, output
from spawnd.cli.style import size
from spawnd.errors import SpawndError
from spawnd.settings import Settings

_OLDEST_GIT = (2, 38)  # the first with `git merge-tree --write-tree`
_LITTLE_SPACE = 2 * 1000**3

OK, WARN, BAD = "ok", "warning", "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``state`` is ok, warning or missing; ``fix`` says how to get it."""

    name: str
    state: str
    text: str
    fix: str = ""


def doctor(json: options.Json = False) -> None:
    """Look at everything that the main job needs: git, sandbox, agent programs and their logins, database, space.

    Exit code 0 if `spawnd run` can work here, 1 if something that it needs is missing.
    """
    findings = list(_findings())
    bad = any(finding.state == BAD for finding in findings)
    if json:
        output.document({"version": __version__, "ok": not bad, "findings": [asdict(finding) for finding in findings]})
        raise typer.Exit(1 if bad else 0)
    console = output.console()
    console.print(f"spawnd {__version__}, Python {sys.version.split()[0]}, {sys.platform}")
    styles = {OK: "green", WARN: "yellow", BAD: "red"}
    for finding in findings:
        console.print(f"  {finding.state:<8}", style=styles[finding.state], end="")
        console.print(f"{finding.name:<14} {finding.text}", soft_wrap=True)
        if finding.fix:
            console.print(f"  {'':<8}{'':<14} → {finding.fix}", style="bright_black", soft_wrap=True)
    console.print("The main job can run here." if not bad else "The main job cannot run here yet: see what is missing.")
    raise typer.Exit(1 if bad else 0)


def _findings() -> Iterator[Finding]:
    try:
        settings = Settings.load()
    except SpawndError as error:
        yield Finding("settings", BAD, error.message, error.hint or "")
        return
    yield from _guarded("git", _git)
    yield from _guarded("sandbox", lambda: _sandbox(settings))
    yield from _guarded("runtimes", lambda: _runtimes(settings))
    yield from _guarded("data", lambda: _space(settings))
    yield from _paths(settings)
    yield from _guarded("database", lambda: _database(settings))


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A thing that cannot even be looked at is a finding, not the end of the report."""
    try:
        yield from look()
    except SpawndError as error:
        hint = (error.hint or "").replace(", or run `spawnd doctor`", "")
        yield Finding(name, BAD, error.message, hint)
    except OSError as error:
        yield Finding(name, BAD, str(error))


def _git() -> Iterator[Finding]:
    import asyncio

    from spawnd.git.command import version

    found = asyncio.run(version())
    shown = ".".join(map(str, found))
    if found < _OLDEST_GIT:
        yield Finding("git", BAD, f"{shown} is too old", "spawnd needs git 2.38 or newer")
    else:
        yield Finding("git", OK, shown)


def _sandbox(settings: Settings) -> Iterator[Finding]:
    chosen = assembly.choose_sandbox(settings)
    if chosen.isolates:
        yield Finding("sandbox", OK, chosen.name)
        return
    problems = [one.problem() for one in assembly.sandboxes().values() if one.isolates]
    why = "; ".join(problem for problem in problems if problem)
    text = f"none: agents can read and change what you can{f' ({why})' if why else ''}"
    fix = "apt-get install bubblewrap (or dnf); on an isolated machine: SPAWND_RUNTIME_ISOLATION=container|jail|vm"
    if settings.runtime_isolation:
        yield Finding("sandbox", OK, f"none, and you declared this a {settings.runtime_isolation}")
    else:
        yield Finding("sandbox", WARN, f"{text}; model-driven runtimes refuse to run", fix)


def _runtimes(settings: Settings) -> Iterator[Finding]:
    ready = False
    for name, runtime in sorted(assembly.runtimes().items()):
        probe = runtime.probe(settings.environ)
        if not runtime.autonomous:
            yield Finding(name, OK, probe.detail or "built in")
            continue
        facts = ", ".join(part for part in (probe.version, str(probe.program or ""), probe.detail) if part)
        if probe.ready:
            ready = True
            yield Finding(name, OK, facts)
        elif probe.installed:
            yield Finding(name, WARN, f"{facts}; not logged in", _login(name))
        else:
            yield Finding(name, WARN, probe.detail or "not installed", f"pip install 'spawnd[{name}]'")
    for name, why in sorted(assembly.runtime_problems().items()):
        yield Finding(name, WARN, f"cannot be loaded: {why}")
    if not ready:
        text = "no agent program is installed and logged in; plans with runtime command or mock work all the same"
        yield Finding("agents", WARN, text, "install and log in to one of those above")


def _login(name: str) -> str:
    keys = {"claude": "set ANTHROPIC_API_KEY, or run `claude` once and log in"}
    return keys.get(name, f"set OPENAI_API_KEY, or run `{name} login`")


def _space(settings: Settings) -> Iterator[Finding]:
    for name, path in (("data", settings.home), ("scratch", settings.workspaces), ("mirrors", settings.mirrors)):
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield Finding(name, BAD, f"{path} cannot be written", "Set SPAWND_HOME to a directory of your own.")
            continue
        free = shutil.disk_usage(there).free
        state = OK if free > _LITTLE_SPACE else WARN
        yield Finding(name, state, f"{path}, {size(free)} free", "" if state == OK else "free some space")


def _paths(settings: Settings) -> Iterator[Finding]:
    for name in ("codex_auth_dir", "claude_auth_dir", "prices_file", "git_askpass"):
        path = getattr(settings, name)
        if path is not None and not path.exists():
            variable = f"SPAWND_{name.upper()}"
            yield Finding("settings", WARN, f"{variable}: there is no {path}", f"correct or unset {variable}")


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.database_url is not None:
        at, head = assembly.database_revision(settings)
        if at == head:
            yield Finding("database", OK, f"external (SPAWND_DATABASE_URL), schema {at}")
        else:
            yield Finding("database", BAD, f"external, schema {at or 'not there'}, needed {head}", "spawnd db upgrade")
        return
    if not _writable(settings.home):
        return  # said above
    at, head = assembly.database_revision(settings)
    yield Finding(
        "database", OK, f"embedded in {settings.home}, schema {at or head}; started and stopped for this look"
    )


def _writable(path: Path) -> bool:
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return os.access(there, os.W_OK | os.X_OK)
