"""Names of refs: one place that says where work is kept in a mirror."""

from __future__ import annotations

#: Everything of ours in a mirror stands below this.
ROOT = "refs/spawnd"


def branch_for(run_id: str, agent: str) -> str:
    """The branch of an agent's work. Run ids and agent names are valid in refs by the rules of plans."""
    return f"spawnd/{run_id}/{agent}"


def work_ref(run_id: str, agent: str, attempt: int) -> str:
    """Where the work of one attempt is kept, whatever came of it."""
    return f"{ROOT}/work/{run_id}/{agent}/{attempt}"


def base_ref(run_id: str, agent: str, attempt: int) -> str:
    """Keeps the merged commit that an attempt started from."""
    return f"{ROOT}/base/{run_id}/{agent}/{attempt}"


def source_ref(run_id: str) -> str:
    """Keeps the commit that a run builds on."""
    return f"{ROOT}/source/{run_id}"
