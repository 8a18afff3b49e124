"""From a plan to its compiled form: agent over role over defaults over built-in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import TypeVar

from spawnd.errors import PlanError, Problem
from spawnd.plan import spec
from spawnd.plan.compiled import Check, CompiledAgent, CompiledOrchestration, CompiledPlan
from spawnd.plan.load import Loaded, dotted
from spawnd.plan.roles import BUILT_IN, Role
from spawnd.plan.rules import NOT_YET, check

_T = TypeVar("_T")

#: Programs that call nobody: no network unless the plan asks for it.
_OFFLINE = ("command", "mock")


def validate(loaded: Loaded, *, roles: Mapping[str, Role] = BUILT_IN) -> None:
    """Raise ``PlanError`` with every problem of shape and rules, in the order of the file."""
    problems = list(loaded.problems)
    wrong = {problem.path for problem in problems}
    problems += [
        Problem(dotted(finding.path), finding.message, loaded.line(finding.path), finding.suggestion)
        for finding in check(loaded.plan, roles)
        if not wrong & {dotted(place) for place in (finding.path, *_grounds(finding.path))}
        and not any(path.startswith((f"{dotted(finding.path)}.", f"{dotted(finding.path)}[")) for path in wrong)
    ]
    if problems:
        problems.sort(key=lambda problem: problem.line or 0)
        raise PlanError(problems, origin=loaded.origin)


def _grounds(path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """The fields that a finding at ``path`` was judged by: if one of them is wrong, it may be no problem at all."""
    if path[:1] == ("agents",) and path[2:3] in (("command",), ("acp",), ("mock",), ("codex",)):
        yield (*path[:2], "runtime")
        yield ("defaults", "runtime")
    if "mcp_servers" in path:
        at = path.index("mcp_servers") + 2
        yield (*path[:at], "type")


def compile_plan(loaded: Loaded, *, roles: Mapping[str, Role] = BUILT_IN) -> CompiledPlan:
    """Validate and merge. Raises ``PlanError`` with every problem."""
    validate(loaded, roles=roles)
    plan = loaded.plan
    return CompiledPlan(
        name=plan.name,
        slug=slug(plan.name),
        description=plan.description,
        run_id=plan.run.id if plan.run else None,
        resume=plan.run.resume if plan.run else False,
        cost_budget=plan.cost_budget,
        shared_context=tuple(plan.shared_context),
        orchestration=CompiledOrchestration(
            **{name: getattr(plan.orchestration, name) for name in spec.Orchestration.model_fields}
        ),
        agents=tuple(_agent(plan, agent, roles) for agent in plan.agents),
        on_complete=plan.on_complete,
    )


def require_runnable(plan: CompiledPlan) -> None:
    """Raise ``PlanError`` for agents that this version keeps but cannot run."""
    problems = [
        Problem(f"agents[{number}].runtime", f"this version does not run {agent.runtime} yet")
        for number, agent in enumerate(plan.agents)
        if agent.runtime in NOT_YET
    ]
    problems += [
        Problem(f"agents[{number}].codex.engine", "this version drives codex by its command line: use cli or auto")
        for number, agent in enumerate(plan.agents)
        if agent.runtime == "codex" and agent.codex.engine == "sdk"
    ]
    if problems:
        raise PlanError(problems, hint="Of the runtimes use claude, codex, command or mock.")


def slug(name: str) -> str:
    """``name`` as it may stand in ids, branches and paths; at most 60 characters."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-").lower()
    return words[:60].strip("-") or "run"


def _agent(plan: spec.Plan, agent: spec.Agent, roles: Mapping[str, Role]) -> CompiledAgent:
    defaults = plan.defaults
    role = roles[agent.use_role] if agent.use_role else None
    runtime = agent.runtime or defaults.runtime
    timeout = _or(agent.check_timeout_seconds, defaults.check_timeout_seconds)
    codex = _codex(agent.codex, defaults.codex)
    write_allowed = _or(agent.write_allowed, _or(role.write_allowed if role else None, True))
    if runtime == "codex" and codex.sandbox == "read-only":
        write_allowed = False
    return CompiledAgent(
        name=agent.name,
        type=agent.type,
        role=agent.use_role,
        system_prompt=role.prompt if role else "",
        prompt=agent.prompt,
        depends_on=tuple(agent.depends_on),
        checks=_checks(agent, role, defaults, timeout),
        on_failure=_or(agent.on_failure, defaults.on_failure),
        retry_count=_or(agent.retry_count, defaults.retry_count),
        model=_model(agent, role, defaults, runtime),
        max_cost_usd=_or(agent.max_cost_usd, defaults.max_cost_usd),
        runtime=runtime,
        codex=codex,
        acp=agent.acp,
        command=tuple(agent.command) if isinstance(agent.command, list) else agent.command,
        mock=agent.mock or spec.MockOptions(),
        mcp_servers=_servers(agent.mcp_servers, defaults.mcp_servers),
        write_allowed=write_allowed,
        env=dict(agent.env),
        env_refs=dict(agent.env_refs),
        max_iterations=_or(agent.max_iterations, defaults.max_iterations),
        runtime_timeout_seconds=agent.runtime_timeout_seconds or defaults.runtime_timeout_seconds,
        milestones=tuple(agent.milestones),
        manager=agent.manager,
        labels=tuple(sorted(set(agent.labels))),
        priority=agent.priority,
        resources=agent.resources,
        network=agent.network or ("none" if runtime in _OFFLINE else "full"),
        setup=agent.setup,
        inputs=tuple(agent.inputs),
        outputs=tuple(agent.outputs),
    )


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def _checks(agent: spec.Agent, role: Role | None, defaults: spec.Defaults, timeout: float) -> tuple[Check, ...]:
    if agent.checks:
        return tuple(
            Check(name=one.name, command=one.command, timeout_seconds=one.timeout_seconds or timeout)
            for one in agent.checks
        )
    command = agent.check or (role.check if role else None) or defaults.check
    return (Check(name="check", command=command, timeout_seconds=timeout),)


def _model(agent: spec.Agent, role: Role | None, defaults: spec.Defaults, runtime: str) -> str | None:
    named = agent.model or (role.model if role else None) or defaults.model
    return named or ("sonnet" if runtime == "claude" else None)


def _codex(own: spec.CodexOptions | None, default: spec.CodexOptions | None) -> spec.CodexOptions:
    """Field by field: what the agent sets, over what the defaults set."""
    merged: dict[str, object] = {}
    for options in (default, own):
        if options is not None:
            merged |= {name: getattr(options, name) for name in options.model_fields_set}
    return spec.CodexOptions(**merged)  # type: ignore[arg-type]  # validated values of the same fields


def _servers(own: list[spec.McpServer], defaults: list[spec.McpServer]) -> tuple[spec.McpServer, ...]:
    """The defaults' servers and the agent's; of one name, the agent's."""
    return tuple(({server.name: server for server in defaults} | {server.name: server for server in own}).values())
