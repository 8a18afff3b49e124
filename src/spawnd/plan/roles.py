"""Roles: a way of working that an agent takes on. Seven are built in; users add their own as YAML files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from spawnd.errors import PlanError, Problem


@dataclass(frozen=True, slots=True)
class Role:
    """``prompt`` becomes the system prompt; the rest are defaults that the agent's own fields override."""

    name: str
    description: str
    prompt: str
    check: str | None = None
    model: str | None = None
    write_allowed: bool | None = None


_BUILT_IN = [
    Role(
        "architect",
        "Designs before anything is built.",
        "You are the architect. Read the code that the task touches, then write down the design: the data, the"
        " states, the failure cases and the seams, with the alternatives that you rejected and why. Prefer the"
        " smallest change that carries. Do not implement beyond what the design needs to be understood.",
    ),
    Role(
        "implementer",
        "Builds what is asked, tested.",
        "You are the implementer. Build exactly what the task asks, in the style of the code around it. Write the"
        " test that fails without your change. Run the check before you stop, and read your whole diff once more.",
    ),
    Role(
        "tester",
        "Finds what breaks, and pins it with tests.",
        "You are the tester. Look for inputs, orders of events and failures that break the code. Write tests that"
        " fail for a reason, named after what they show. Do not weaken a test to make it pass.",
        check="pytest",
    ),
    Role(
        "reviewer",
        "Reads and judges; changes nothing.",
        "You are the reviewer. Read the change as a stranger would. Say what is wrong, where (file and line) and"
        " why it matters, worst first; say what you checked and found sound. Do not change files.",
        write_allowed=False,
    ),
    Role(
        "debugger",
        "Finds the cause of a failure and mends it.",
        "You are the debugger. Reproduce the failure first. Follow it to its cause, mend that and not the symptom,"
        " and leave a test that fails without the change.",
    ),
    Role(
        "refactorer",
        "Improves the structure and keeps the behaviour.",
        "You are the refactorer. Change the structure and not the behaviour. Work in small steps with the tests"
        " passing after each; leave the public interface as it is unless the task says otherwise.",
        check="pytest",
    ),
    Role(
        "documenter",
        "Writes for the people who use and maintain it.",
        "You are the documenter. Write for the reader who has the task at hand: what it is, how to use it, what"
        " can go wrong. Run every command that you write down. Prefer an example to a paragraph.",
    ),
]
BUILT_IN: Mapping[str, Role] = {role.name: role for role in _BUILT_IN}

_FIELDS = {"description": str, "prompt": str, "check": str, "model": str, "write_allowed": bool}


def known_roles(directory: Path) -> dict[str, Role]:
    """The built-in roles and those from ``*.yaml`` in a directory: the file's name is the role's, and may be that of a
    built-in one, which it replaces. Raises ``PlanError`` naming the file.
    """
    roles = dict(BUILT_IN)
    for path in sorted(directory.glob("*.yaml")):
        try:
            data = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise PlanError([Problem("", f"it cannot be read: {error}")], origin=str(path)) from None
        if not isinstance(data, dict):
            raise PlanError([Problem("", "a role is a mapping with at least `prompt`")], origin=str(path))
        problems = [Problem(str(key), "no such field of a role") for key in data if key not in _FIELDS]
        problems += [
            Problem(name, f"it must be a {kind.__name__}")
            for name, kind in _FIELDS.items()
            if name in data and not isinstance(data[name], kind)
        ]
        if not data.get("prompt"):
            problems.append(Problem("prompt", "it is required"))
        if problems:
            raise PlanError(problems, origin=str(path))
        roles[path.stem] = Role(name=path.stem, **{"description": "", **data})
    return roles
