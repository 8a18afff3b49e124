"""``spawnd roles``."""

from __future__ import annotations

from dataclasses import asdict

from spawnd.cli import options, output
from spawnd.plan.roles import BUILT_IN


def roles(json: options.Json = False) -> None:
    """The roles that an agent can take on with use_role. What the agent itself says wins over its role."""
    if json:
        output.document({"roles": [asdict(role) for role in BUILT_IN.values()]})
        return
    for role in BUILT_IN.values():
        writes = "" if role.write_allowed in (None, True) else "  (cannot write)"
        output.line(f"{role.name:<12} {role.description}{writes}")
