"""What a claimed agent builds on: its dependencies' results, what its last attempt left, what people said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spawnd.contracts.control_plane import Contribution, Earlier, Lease
from spawnd.errors import StaleLease
from spawnd.store.claims import Claimed
from spawnd.store.database import Database, Transaction

# The accepted work of each parent, the newest if it ran more than once.
_DEPENDENCIES = """
SELECT e.child, p.name AS agent, v.base_sha, v.head_sha, v.ref, v.bundle_sha256,
       coalesce(p.final_message, '') AS summary
FROM edges e JOIN agents p ON p.id = e.parent
JOIN LATERAL (SELECT * FROM provenance v WHERE v.agent = p.id AND v.accepted ORDER BY attempt DESC LIMIT 1) v ON true
WHERE e.child = ANY(%s) ORDER BY e.child, p.position
"""

# The last attempt, with the newest work and session since the agent last succeeded: whoever runs a completed
# agent again wants it done anew. Index: attempts' (agent, number), sessions_agent, provenance_agent.
_EARLIER = """
SELECT t.id AS attempt_key, t.number AS attempt, t.state, t.failure_class, t.failure_message, t.worker_id,
       s.session_id, v.head_sha, v.base_sha, v.ref, v.bundle_sha256, coalesce(done.number, 0) AS fresh_since
FROM attempts t
LEFT JOIN LATERAL (SELECT id, number FROM attempts d WHERE d.agent = t.agent AND d.state = 'succeeded'
                   AND d.number < t.number ORDER BY d.number DESC LIMIT 1) done ON true
LEFT JOIN LATERAL (SELECT session_id FROM sessions s WHERE s.agent = t.agent AND s.attempt <= t.id
                   AND s.attempt > coalesce(done.id, 0) ORDER BY attempt DESC LIMIT 1) s ON true
LEFT JOIN LATERAL (SELECT * FROM provenance v WHERE v.agent = t.agent AND v.attempt <= t.id
                   AND v.attempt > coalesce(done.id, 0) ORDER BY attempt DESC LIMIT 1) v ON true
WHERE t.agent = %s AND t.number < %s ORDER BY t.number DESC LIMIT 1
"""

_FAILED_CHECKS = "SELECT name, output_tail FROM checks WHERE attempt = %s AND NOT passed ORDER BY id"

_ANSWERS = """
UPDATE responses SET used_by = %(attempt)s
WHERE agent = %(agent)s AND (used_by IS NULL OR used_by = %(attempt)s) RETURNING id, body
"""

# The first attempt of a run fixes the commit; everyone after it gets that one.
_PIN = """
UPDATE runs SET source_sha = coalesce(source_sha, %(sha)s)
WHERE id = (SELECT run FROM leases WHERE attempt = %(attempt)s AND token = %(token)s) RETURNING source_sha
"""


@dataclass(frozen=True, slots=True)
class Background:
    """What stands behind one assignment."""

    dependencies: tuple[Contribution, ...] = ()
    earlier: Earlier | None = None
    answers: tuple[str, ...] = ()


async def background(tx: Transaction, claimed: Sequence[Claimed]) -> dict[int, Background]:
    """By agent key. Agents on their first attempt without dependencies cost no query."""
    dependent = [one.agent_key for one in claimed if one.spec.get("depends_on")]
    contributions: dict[int, list[Contribution]] = {}
    if dependent:
        for row in await tx.rows(_DEPENDENCIES, [dependent]):
            child = row.pop("child")
            contributions.setdefault(child, []).append(Contribution(**row))
    found: dict[int, Background] = {}
    for one in claimed:
        earlier: Earlier | None = None
        answers: tuple[str, ...] = ()
        if one.number > 1:
            earlier = await _earlier(tx, one)
            answers = await _answers(tx, one)
        found[one.agent_key] = Background(tuple(contributions.get(one.agent_key, ())), earlier, answers)
    return found


async def pin_source(database: Database, lease: Lease, sha: str) -> str:
    """Fix the run's source commit; returns the one that holds. Raises ``StaleLease``."""
    async with database.connection() as connection:
        row = await connection.row(_PIN, {"sha": sha, "attempt": lease.attempt_id, "token": lease.token})
    if row is None:
        raise StaleLease("The lease of this attempt is no longer held; nothing was written.")
    return str(row["source_sha"])


async def _earlier(tx: Transaction, one: Claimed) -> Earlier | None:
    row = await tx.row(_EARLIER, [one.agent_key, one.number])
    if row is None:
        return None
    checks = await tx.rows(_FAILED_CHECKS, [row.pop("attempt_key")])
    return Earlier(**row, failed_checks=tuple((check["name"], check["output_tail"]) for check in checks))


async def _answers(tx: Transaction, one: Claimed) -> tuple[str, ...]:
    rows = await tx.rows(_ANSWERS, {"attempt": one.lease.attempt_id, "agent": one.agent_key})
    return tuple(row["body"] for row in sorted(rows, key=lambda row: int(row["id"])))
