"""Work as a patch: one agent's, or everything that a run achieved, merged."""

from __future__ import annotations

from collections.abc import Sequence

from spawnd.contracts.client import Result
from spawnd.errors import Conflict, MergeConflict, NotFound
from spawnd.git import patch
from spawnd.git.merge import Part, merged
from spawnd.git.mirrors import Mirrors
from spawnd.wire.evidence import ProvenanceRow
from spawnd.wire.runs import RunDocument


async def whole_run(mirrors: Mirrors, document: RunDocument, rows: Sequence[ProvenanceRow]) -> Result:
    """The accepted work of every agent, merged onto the source. Raises ``Conflict`` or ``MergeConflict``."""
    run_id = document.run.run_id
    latest = _latest([row for row in rows if row.accepted])
    if not latest:
        raise Conflict(f"{run_id} has no accepted work yet.", hint=f"`spawnd status {run_id}` says where it stands.")
    # What another accepted agent was built on is in its work already.
    used = {parent for agent in document.agents if agent.name in latest for parent in agent.depends_on}
    last = [row for name, row in latest.items() if name not in used]
    first = next(iter(latest.values()))
    mirror = mirrors.path(first.source_repo)
    for row in last:
        await _require(mirrors, row)
    try:
        head = await merged(mirror, first.source_sha, [Part(row.agent, row.base_sha, row.head_sha) for row in last])
    except MergeConflict as error:
        error.hint = f"Take them one at a time: `spawnd apply {run_id} -a AGENT`."
        raise
    data = await patch.diff(mirror, first.source_sha, head)
    return Result(run_id, first.source_sha, head, tuple(latest), True, data, mirror)


async def one_agent(mirrors: Mirrors, run_id: str, agent: str, rows: Sequence[ProvenanceRow], *, own: bool) -> Result:
    """The last accepted work of ``agent``; if there is none, the last that was kept."""
    row = _latest([row for row in rows if row.accepted]).get(agent) or _latest(rows).get(agent)
    if row is None:
        raise Conflict(
            f"{agent} has left no work yet.", hint=f"`spawnd logs {run_id} -a {agent}` shows what it is doing."
        )
    await _require(mirrors, row)
    mirror = mirrors.path(row.source_repo)
    base = row.base_sha if own else row.source_sha
    data = await patch.diff(mirror, base, row.head_sha)
    return Result(run_id, base, row.head_sha, (agent,), row.accepted, data, mirror)


def _latest(rows: Sequence[ProvenanceRow]) -> dict[str, ProvenanceRow]:
    return {row.agent: row for row in sorted(rows, key=lambda row: row.attempt)}


async def _require(mirrors: Mirrors, row: ProvenanceRow) -> None:
    if not await mirrors.has(mirrors.path(row.source_repo), row.head_sha):
        raise NotFound(
            f"The commits of {row.agent} are not on this machine.",
            hint="They are where its worker ran; the patch artifact is in `spawnd artifacts`.",
        )
