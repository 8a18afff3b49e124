"""``spawnd run`` and ``spawnd submit``: from prompts or a plan file to a run, and to its end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from spawnd import assembly
from spawnd.cli import door, foreground, options, output
from spawnd.cli.style import plural
from spawnd.contracts.client import Client
from spawnd.contracts.runtime import Probe
from spawnd.errors import Unavailable, UsageError
from spawnd.git.mirrors import is_remote
from spawnd.plan.compile import compile_plan, require_runnable
from spawnd.plan.compiled import CompiledPlan
from spawnd.plan.inline import inline_plan
from spawnd.plan.load import Loaded, load, load_file
from spawnd.plan.notices import notices
from spawnd.plan.roles import known_roles
from spawnd.settings import Settings
from spawnd.wire.runs import Submitted

#: Which of the installed runtimes an inline run takes first.
_PREFERRED = ("claude", "codex")


def run(
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", metavar="PROMPT", help="An agent's task, as `prompt` or `name: prompt`."),
    ] = None,
    file: options.PlanFile = None,
    check: Annotated[
        str | None, typer.Option("--check", help="The command whose exit code decides whether the work is accepted.")
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="One after the other, each on the work of the one before.")
    ] = False,
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", metavar="GLOB", help="An agent per tracked file that matches; {file} in the prompt."),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="claude, codex, … [default: what is installed and logged in]")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The runtime's name of a model.")] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", min=0, metavar="USD", help="Per agent, over all its attempts.")
    ] = None,
    source_repo: options.SourceRepo = ".",
    source_ref: options.SourceRef = None,
    run_id: options.RunId = None,
    concurrency: options.Concurrency = None,
    mock: Annotated[bool, typer.Option("--mock", help="Play every agent with the mock runtime: no model, no cost.")] = (
        False
    ),
    detach: Annotated[
        bool, typer.Option("--detach", help="Submit and return; `spawnd worker --poll` or `spawnd up` does it.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Run agents on a git repository and show their progress.

    Each agent works in a checkout of its own, in a sandbox; your files are not touched. What passes its check
    is kept as a commit and a patch: `spawnd diff` shows it and `spawnd apply` brings it onto your branch.
    Ctrl-C hands the work back; `spawnd resume` goes on where it was.

    \b
    spawnd run -p "Improve the parser error message" --check "pytest tests/test_parser.py"
    spawnd run -p "api: Document the API" -p "cli: Document the CLI" --runtime codex
    spawnd run -p "Add type hints to {file}" --pattern "src/**/*.py" --check "mypy src"
    spawnd run -f plan.yaml --source-repo . --source-ref HEAD

    Exit code 0 if every agent completed, 1 if not, 130 after Ctrl-C.
    """
    settings = Settings.load()
    inline = _Inline(prompt or [], check, sequential, pattern, runtime, model, max_cost)
    order = _order(settings, inline, file, source_repo, source_ref, mock=mock)
    if detach:
        _detached(order, run_id, json=json)
        return

    async def begin(client: Client) -> foreground.Opened:
        submitted = await _submit(client, order, run_id)
        if not json:
            _announce(order, submitted)
        return foreground.Opened(submitted.run_id)

    slots = concurrency or door.default_slots()
    raise typer.Exit(foreground.work_on(settings, begin, slots=slots, json=json, mock=mock))


def submit(
    file: Annotated[Path, typer.Option("--file", "-f", metavar="PLAN", help="A plan file; - reads it from stdin.")],
    source_repo: options.SourceRepo = ".",
    source_ref: options.SourceRef = None,
    run_id: options.RunId = None,
    json: options.Json = False,
) -> None:
    """Submit a plan and return: `run -f PLAN --detach`.

    The run waits until a worker serves it: `spawnd worker --poll` or `spawnd up`, on this or another machine.
    """
    settings = Settings.load()
    order = _order(settings, _Inline([]), file, source_repo, source_ref, mock=False)
    _detached(order, run_id, json=json)


@dataclass(frozen=True, slots=True)
class _Inline:
    """What was said on the command line instead of in a file."""

    prompts: list[str]
    check: str | None = None
    sequential: bool = False
    pattern: str | None = None
    runtime: str | None = None
    model: str | None = None
    max_cost: float | None = None

    @property
    def extras(self) -> list[str]:
        """The options that only fit prompts."""
        given = {
            "--check": self.check,
            "--sequential": self.sequential,
            "--pattern": self.pattern,
            "--runtime": self.runtime,
            "--model": self.model,
            "--max-cost": self.max_cost,
        }
        return [name for name, value in given.items() if value not in (None, False)]


@dataclass(frozen=True, slots=True)
class _Order:
    """Everything that a submission needs, checked."""

    plan: CompiledPlan
    source_repo: str
    source_ref: str | None
    notices: tuple[str, ...]
    #: said at the start: which runtime was chosen, what of the repository is not in the run
    remarks: tuple[str, ...]


def _order(
    settings: Settings, inline: _Inline, file: Path | None, source_repo: str, source_ref: str | None, *, mock: bool
) -> _Order:
    if (file is None) == (not inline.prompts):
        raise UsageError(
            "Give either prompts with -p or a plan with -f.",
            hint='As in: spawnd run -p "Fix the failing test" --check pytest    or: spawnd run -f plan.yaml',
        )
    remarks: list[str] = []
    if file is None:
        loaded = _from_prompts(settings, inline, source_repo, mock=mock, remarks=remarks)
    elif inline.extras:
        raise UsageError(f"{', '.join(inline.extras)} fit prompts (-p); in a plan file they are fields of the agents.")
    else:
        loaded = load(sys.stdin.buffer.read(), origin="standard input") if str(file) == "-" else load_file(file)
    plan = compile_plan(loaded, roles=known_roles(settings.roles))
    if not mock:
        require_runnable(plan)
        _require_installed(plan)
    repo, dirty = asyncio.run(_source(settings, source_repo, plan.orchestration.worktree_source.base_ref or source_ref))
    if dirty:
        remarks.append(f"{repo} has uncommitted changes: they are not part of the run.")
    return _Order(plan, repo, source_ref, tuple(notices(loaded.plan)), tuple(remarks))


def _from_prompts(settings: Settings, inline: _Inline, source_repo: str, *, mock: bool, remarks: list[str]) -> Loaded:
    runtime = inline.runtime
    variables: tuple[str, ...] = ()
    if not mock:
        runtime, probe = _choose(settings, inline.runtime)
        remarks.append(_chosen_words(runtime, probe))
        variables = probe.variables
    files = _matching(settings, source_repo, inline.pattern) if inline.pattern else None
    return inline_plan(
        inline.prompts,
        check=inline.check,
        sequential=inline.sequential,
        runtime="mock" if mock else runtime,
        model=inline.model,
        max_cost_usd=inline.max_cost,
        files=files,
        env_refs=dict(zip(variables, variables, strict=True)),
    )


def _choose(settings: Settings, named: str | None) -> tuple[str, Probe]:
    """The runtime for prompts: the named one, or the first that is installed and logged in."""
    known = assembly.runtimes()
    if named is not None:
        if named not in known:
            raise UsageError(f"There is no runtime {named!r}.", hint=f"Known: {', '.join(sorted(known))}.")
        if named == "command":
            raise UsageError("An agent with runtime command has a command, not a prompt.", hint="Write a plan file.")
        return named, known[named].probe(settings.environ)
    probes = {name: known[name].probe(settings.environ) for name in _PREFERRED if name in known}
    for name, probe in probes.items():
        if probe.ready:
            return name, probe
    found = "; ".join(f"{name}: {_state(probe)}" for name, probe in probes.items()) or "none is registered"
    raise Unavailable(
        f"No agent program is installed and logged in ({found}).",
        hint="Install one with pip install 'spawnd[claude]' or 'spawnd[codex]' and set ANTHROPIC_API_KEY or"
        " OPENAI_API_KEY, or log in with its own program. `spawnd doctor` says more; --mock tries a plan without one.",
    )


def _state(probe: Probe) -> str:
    return "not installed" if not probe.installed else f"not logged in{f' ({probe.detail})' if probe.detail else ''}"


def _chosen_words(name: str, probe: Probe) -> str:
    facts = ", ".join(part for part in (probe.version, probe.detail) if part)
    return f"runtime {name}{f' ({facts})' if facts else ''}"


def _require_installed(plan: CompiledPlan) -> None:
    """Refuse early what no worker of this installation could run. Another machine's might: only unknown names fail."""
    known = assembly.runtimes()
    problems = assembly.runtime_problems()
    for name in sorted({agent.runtime for agent in plan.agents}):
        if name not in known:
            why = problems.get(name, "it is not registered")
            raise Unavailable(f"The runtime {name} cannot be used here: {why}.", hint="`spawnd doctor` says more.")


async def _source(settings: Settings, source_repo: str, ref: str | None) -> tuple[str, bool]:
    """The repository's root or address, and whether it has uncommitted changes. Raises ``SourceError``."""
    mirrors = assembly.mirrors(settings)
    if is_remote(source_repo):
        return source_repo, False
    revision = await mirrors.resolve(source_repo, ref)
    top = Path(revision.source)
    return revision.source, await mirrors.is_dirty(top)


def _matching(settings: Settings, source_repo: str, pattern: str) -> Sequence[str]:
    if is_remote(source_repo):
        raise UsageError("--pattern needs a local repository.", hint="Clone it, or list the agents in a plan file.")
    files = asyncio.run(assembly.mirrors(settings).tracked(Path(source_repo), pattern))
    if not files:
        raise UsageError(
            f"No tracked file matches {pattern!r}.", hint="Patterns are relative to the repository's root."
        )
    return files


async def _submit(client: Client, order: _Order, run_id: str | None) -> Submitted:
    return await client.submit(
        order.plan,
        source_repo=order.source_repo,
        source_ref=order.source_ref,
        run_id=run_id,
        notices=order.notices,
    )


def _announce(order: _Order, submitted: Submitted) -> None:
    runtimes = ", ".join(sorted({agent.runtime for agent in order.plan.agents}))
    again = "" if submitted.created else " (it was there already)"
    output.note(f"run {submitted.run_id}{again}: {plural(len(order.plan.agents), 'agent')}, {runtimes}")
    for remark in order.remarks:
        output.note(f"  {remark}")
    for notice in submitted.notices:
        output.note(f"  this version does not act on {notice}")


def _detached(order: _Order, run_id: str | None, *, json: bool) -> None:
    submitted = door.ask(lambda client: _submit(client, order, run_id))
    if json:
        output.document({"run_id": submitted.run_id})
        return
    _announce(order, submitted)
    output.line(submitted.run_id)
    output.note("  spawnd worker --poll      serve it here (or `spawnd up`)")
    output.note(f"  spawnd watch {submitted.run_id}      follow it")
