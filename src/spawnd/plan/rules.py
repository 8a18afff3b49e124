"""What a plan must fulfil beyond its shape: names, references, runtimes, MCP servers, commands.

Each rule yields problems; nothing stops at the first. Paths are tuples, as ``("agents", 2, "check")``.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spawnd.domain.secrets import secret_in
from spawnd.plan import spec
from spawnd.plan.commands import refusal
from spawnd.plan.graph import find_cycle
from spawnd.plan.roles import Role

#: Runtimes whose behaviour belongs to a later version: their plans are validated and kept, not run.
NOT_YET = ("openai", "acp")

_RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem at a path, before it has a line."""

    path: tuple[str | int, ...]
    message: str
    suggestion: str | None = None


def check(plan: spec.Plan, roles: Mapping[str, Role]) -> Iterator[Finding]:
    """Every finding, rule by rule."""
    yield from _names(plan)
    yield from _dependencies(plan)
    yield from _paths(plan)
    for number, agent in enumerate(plan.agents):
        yield from _agent(plan, agent, number, roles)
    for_codex = "codex" in {plan.defaults.runtime, *(agent.runtime for agent in plan.agents)}
    yield from _servers(plan.defaults.mcp_servers, ("defaults", "mcp_servers"), for_codex)
    yield from _commands(plan, roles)
    yield from _secrets(plan.model_dump(exclude_unset=True), ())


def _secrets(part: object, path: tuple[str | int, ...]) -> Iterator[Finding]:
    """A plan is on record as it is written: no part of it may hold a secret."""
    if isinstance(part, str):
        if shown := secret_in(part):
            yield Finding(
                path, f"it holds what looks like a secret ({shown}); name it in env_refs or header_refs instead"
            )
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from _secrets(value, (*path, key))
    elif isinstance(part, list):
        for number, value in enumerate(part):
            yield from _secrets(value, (*path, number))


def _names(plan: spec.Plan) -> Iterator[Finding]:
    if not re.search(r"[A-Za-z0-9]", plan.name):
        yield Finding(("name",), "it needs a letter or a digit")
    if plan.run is not None and plan.run.id is not None and not valid_run_id(plan.run.id):
        yield Finding(("run", "id"), f"{plan.run.id!r} cannot be a run id: letters, digits, '-', '_', '.', at most 120")
    if not plan.agents:
        yield Finding(("agents",), "a plan needs at least one agent")
    first: dict[str, tuple[int, str]] = {}
    for number, agent in enumerate(plan.agents):
        path = ("agents", number, "name")
        if problem := bad_name(agent.name):
            yield Finding(path, f"{agent.name!r} {problem}")
        if agent.name.lower() in first:
            at, other = first[agent.name.lower()]
            same = "is" if other == agent.name else f"differs only in case from {other!r},"
            yield Finding(path, f"{agent.name!r} {same} the name of agents[{at}] too")
        first.setdefault(agent.name.lower(), (number, agent.name))


def bad_name(name: str) -> str | None:
    """Why an agent cannot be called this: its name stands in branches and paths. None if it can."""
    if name.startswith(("-", ".")):
        return f"must not begin with {name[0]!r}: it is part of a branch's name"
    if name.endswith((".", ".lock")) or ".." in name:
        return "must not end with '.' or '.lock' nor contain '..': it is part of a branch's name"
    return None


def valid_run_id(run_id: str) -> bool:
    """Whether a run can be called this."""
    return bool(_RUN_ID.fullmatch(run_id)) and bad_name(run_id) is None


def _dependencies(plan: spec.Plan) -> Iterator[Finding]:
    names = [agent.name for agent in plan.agents]
    for number, agent in enumerate(plan.agents):
        for place, parent in enumerate(agent.depends_on):
            path = ("agents", number, "depends_on", place)
            if parent == agent.name:
                yield Finding(path, "it depends on itself")
            elif parent not in names:
                nearest = difflib.get_close_matches(parent, names, n=1, cutoff=0.6)
                yield Finding(path, f"there is no agent {parent!r}", nearest[0] if nearest else None)
            elif parent in agent.depends_on[:place]:
                yield Finding(path, f"{parent!r} is named twice")
    parents = {agent.name: [parent for parent in agent.depends_on if parent != agent.name] for agent in plan.agents}
    while cycle := find_cycle(parents):
        for name in cycle:
            parents.pop(name, None)
        number = names.index(cycle[0])
        yield Finding(("agents", number, "depends_on"), f"they depend on each other: {' → '.join(cycle)}")


def _paths(plan: spec.Plan) -> Iterator[Finding]:
    places: list[tuple[tuple[str | int, ...], str]] = [
        (("shared_context", number), path) for number, path in enumerate(plan.shared_context)
    ]
    for number, agent in enumerate(plan.agents):
        for name in ("inputs", "outputs"):
            places += [(("agents", number, name, at), path) for at, path in enumerate(getattr(agent, name))]
    context = plan.orchestration.dependency_context
    for name in ("include_paths", "exclude_paths"):
        where = ("orchestration", "dependency_context", name)
        places += [((*where, at), path) for at, path in enumerate(getattr(context, name))]
    for path, text in places:
        if not text.strip() or text.startswith(("/", "~")) or ".." in text.split("/") or "\x00" in text:
            yield Finding(path, f"{text!r} must be a path inside the repository")
    for name in ("include_paths", "exclude_paths"):
        if context.mode != "paths" and getattr(context, name):
            yield Finding(
                ("orchestration", "dependency_context", name), f"it goes with mode: paths, not {context.mode}"
            )
    if context.mode == "paths" and not context.include_paths and not context.exclude_paths:
        yield Finding(("orchestration", "dependency_context"), "mode paths needs include_paths or exclude_paths")


def _agent(plan: spec.Plan, agent: spec.Agent, number: int, roles: Mapping[str, Role]) -> Iterator[Finding]:
    here = ("agents", number)
    runtime = agent.runtime or plan.defaults.runtime
    if agent.use_role is not None and agent.use_role not in roles:
        nearest = difflib.get_close_matches(agent.use_role, list(roles), n=1, cutoff=0.5)
        yield Finding((*here, "use_role"), f"there is no role {agent.use_role!r}", nearest[0] if nearest else None)
    if not agent.prompt.strip():
        yield Finding((*here, "prompt"), "it is blank")
    if agent.check is not None and agent.checks:
        yield Finding((*here, "checks"), "give check or checks, not both")
    for name, count in Counter(check.name for check in agent.checks).items():
        if count > 1:
            yield Finding((*here, "checks"), f"{count} checks are called {name!r}")
    yield from _runtime_fields(agent, here, runtime)
    if agent.network == "allowlist":
        yield Finding((*here, "network"), "allowlist is not built yet: use none or full")
    elif agent.network_allow:
        yield Finding((*here, "network_allow"), "it goes with network: allowlist, which is not built yet")
    if agent.manager is not None and agent.type != "manager":
        yield Finding((*here, "manager"), "it goes with type: manager")
    for variable in set(agent.env) & set(agent.env_refs):
        yield Finding((*here, "env_refs", variable), "it is in env too")
    role = roles.get(agent.use_role or "")
    writes = agent.write_allowed if agent.write_allowed is not None else role.write_allowed if role else None
    if runtime == "codex" and writes is False and agent.codex is not None and agent.codex.dangerous_bypass:
        yield Finding((*here, "codex", "dangerous_bypass"), "it contradicts write_allowed: false")
    yield from _servers(agent.mcp_servers, (*here, "mcp_servers"), runtime == "codex")


def _runtime_fields(agent: spec.Agent, here: tuple[str | int, ...], runtime: str) -> Iterator[Finding]:
    if runtime == "command":
        if agent.command is None or not (agent.command if isinstance(agent.command, list) else agent.command.strip()):
            yield Finding((*here, "command"), "runtime command needs a command")
        elif isinstance(agent.command, list) and not agent.command[0].strip():
            yield Finding((*here, "command"), "its first word, the program, is blank")
    elif agent.command is not None:
        yield Finding((*here, "command"), f"it goes with runtime command, not {runtime}")
    if runtime == "acp":
        if agent.acp is None or (agent.acp.agent is None) == (agent.acp.command is None):
            yield Finding((*here, "acp"), "runtime acp needs either acp.agent or acp.command")
    elif agent.acp is not None:
        yield Finding((*here, "acp"), f"it goes with runtime acp, not {runtime}")
    if agent.mock is not None:
        if runtime != "mock":
            yield Finding((*here, "mock"), f"it goes with runtime mock, not {runtime}")
        elif not agent.mock.outcomes:
            yield Finding((*here, "mock", "outcomes"), "it needs at least one")
    if agent.codex is not None and runtime != "codex":
        yield Finding((*here, "codex"), f"it goes with runtime codex, not {runtime}")


def _servers(servers: list[spec.McpServer], here: tuple[str | int, ...], for_codex: bool) -> Iterator[Finding]:
    for name, count in Counter(server.name for server in servers).items():
        if count > 1:
            yield Finding(here, f"{count} servers are called {name!r}")
    for number, server in enumerate(servers):
        path = (*here, number)
        if server.name == "spawnd":
            yield Finding((*path, "name"), "the name spawnd is reserved")
        if server.type == "stdio" and not server.command:
            yield Finding((*path, "command"), "a stdio server needs a command")
        if server.type != "stdio" and not server.url:
            yield Finding((*path, "url"), f"a server of type {server.type} needs a url")
        elif server.url and not re.match(r"https?://\S+$", server.url):
            yield Finding((*path, "url"), "it must begin with http:// or https://")
        if server.type == "stdio" and (server.headers or server.header_refs or server.url):
            yield Finding(path, "url and headers go with http and sse, not stdio")
        if server.type != "stdio" and (server.command or server.args or server.env_refs):
            yield Finding(path, f"command, args and env_refs go with stdio, not {server.type}")
        if for_codex:
            yield from _codex_server(server, path)


def _codex_server(server: spec.McpServer, path: tuple[str | int, ...]) -> Iterator[Finding]:
    if server.type == "sse":
        yield Finding((*path, "type"), "codex cannot use sse; use http")
    if server.headers:
        yield Finding((*path, "headers"), "codex takes no literal headers; use header_refs for Authorization")
    for header in server.header_refs:
        if header != "Authorization":
            yield Finding((*path, "header_refs", header), "codex takes only Authorization by reference")


def _commands(plan: spec.Plan, roles: Mapping[str, Role]) -> Iterator[Finding]:
    policy = plan.orchestration.command_policy
    found: list[tuple[tuple[str | int, ...], str]] = [(("defaults", "check"), plan.defaults.check)]
    if plan.orchestration.worktree_setup is not None:
        found.append((("orchestration", "worktree_setup", "command"), plan.orchestration.worktree_setup.command))
    for number, agent in enumerate(plan.agents):
        role = roles.get(agent.use_role or "")
        if role is not None and role.check is not None and agent.check is None and not agent.checks:
            found.append((("agents", number, "use_role"), role.check))
        if agent.check is not None:
            found.append((("agents", number, "check"), agent.check))
        found += [(("agents", number, "checks", at, "command"), one.command) for at, one in enumerate(agent.checks)]
        if agent.setup is not None:
            found.append((("agents", number, "setup"), agent.setup))
    for path, command in found:
        if problem := refusal(command, policy):
            yield Finding(path, problem)
