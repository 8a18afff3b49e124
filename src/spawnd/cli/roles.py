"""``spawnd roles``."""

from __future__ import annotations

from dataclasses import asdict

from spawnd.cli import options, output
from spawnd.plan.roles import known_roles
from spawnd.settings import Settings


def roles(json: options.Json = False) -> None:
    """The roles that an agent can take on with use_role. What the agent itself says wins over its role.

    Add your own as NAME.yaml in SPAWND_ROLES_DIR (or the folder roles of SPAWND_HOME), with prompt and, if you like,
    description, check, model and write_allowed.
    """
    known = known_roles(Settings.load().roles)
    if json:
        output.document({"roles": [asdict(role) for role in known.values()]})
        return
    for role in known.values():
        writes = "" if role.write_allowed in (None, True) else "  (cannot write)"
        output.line(f"{role.name:<12} {role.description}{writes}")
