"""Fields that this version validates and keeps but does not act on yet: said at submission, never passed over.

A test walks the whole schema: every field is either read by something or listed here.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from spawnd.plan import spec

#: Path of the field (``agents[]`` stands for any) → what it will do.
LATER: dict[str, str] = {
    "agents[].type": "a manager runs as an ordinary agent: it cannot spawn workers yet",
    "agents[].manager": "managers cannot spawn workers yet",
    "agents[].milestones": "milestones are not reported yet",
    "agents[].acp": "ACP agents cannot be run yet",
    "agents[].inputs": "inputs are not checked yet; a dependent sees its dependencies' committed files",
    "agents[].network_allow": "host allowlists are not enforced yet",
    "orchestration.event_injection": "running agents are not told of their siblings yet",
    "orchestration.stuck_threshold": "stuck agents are not detected yet; use runtime_timeout_seconds",
    "orchestration.telemetry": "nothing is exported yet; `spawnd trace` shows what is on record",
    "orchestration.git.push": "branches are not pushed yet; `spawnd apply` or push them yourself",
    "orchestration.git.remote": "branches are not pushed yet",
    "orchestration.git.push_timeout_seconds": "branches are not pushed yet",
    "orchestration.git.env_refs": "branches are not pushed yet",
    "on_complete": "nobody is notified yet",
}

#: Runtimes whose programs do not count turns.
_NO_TURNS = ("codex", "command")

#: Values that ask for nothing.
_QUIET: dict[str, object] = {"agents[].type": "worker", "orchestration.git.push": False, "on_complete": "none"}


def notices(plan: spec.Plan) -> list[str]:
    """A line for each field that the plan sets and this version does not act on."""
    found: dict[str, list[str]] = {}
    for path, shape, value in _given(plan, "", ""):
        if shape in LATER and value != _QUIET.get(shape, object()):
            found.setdefault(shape, []).append(path)
    for number, agent in enumerate(plan.agents):
        runtime = agent.runtime or plan.defaults.runtime
        if runtime in _NO_TURNS and agent.max_iterations is not None:
            found.setdefault(f"{runtime}:turns", []).append(f"agents[{number}].max_iterations")
        elif runtime in _NO_TURNS and "max_iterations" in plan.defaults.model_fields_set:
            place = found.setdefault(f"{runtime}:turns", [])
            if "defaults.max_iterations" not in place:
                place.append("defaults.max_iterations")
    cleanup = plan.orchestration.cleanup
    if "worktree" in cleanup.model_fields_set and not cleanup.worktree:
        found["cleanup"] = ["orchestration.cleanup.worktree"]
    return [
        f"{', '.join(paths[:3])}{' …' if len(paths) > 3 else ''}: {_words(shape)}" for shape, paths in found.items()
    ]


def _words(shape: str) -> str:
    if shape == "cleanup":
        return "a checkout is removed once its work is on record; `spawnd salvage restore` brings it back"
    runtime, _, turns = shape.partition(":")
    if turns:
        return f"{runtime} cannot be limited in turns; use runtime_timeout_seconds or max_cost_usd"
    return LATER[shape]


def _given(part: BaseModel, path: str, shape: str) -> Iterator[tuple[str, str, object]]:
    """Every field that was written in the plan: its path, its path with ``[]`` for indices, its value."""
    for name in sorted(part.model_fields_set):
        value = getattr(part, name)
        here = f"{path}.{name}" if path else name
        kind = f"{shape}.{name}" if shape else name
        yield here, kind, value
        if kind in LATER:
            continue
        if isinstance(value, BaseModel):
            yield from _given(value, here, kind)
        elif isinstance(value, list):
            for number, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from _given(item, f"{here}[{number}]", f"{kind}[]")
