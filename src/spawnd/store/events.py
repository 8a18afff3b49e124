"""Events: appended under the run's row, so that their numbers are gapless and become visible in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from spawnd.store.database import Transaction
from spawnd.wire.events import EventRow


@dataclass(frozen=True, slots=True)
class Event:
    """An event to append. ``agent`` is the agent's key; ``attempt`` the attempt's number within it."""

    type: str
    agent: int | None = None
    attempt: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


# Takes the run's row until the transaction ends: the next appender waits, so a reader never sees number n+1
# before n. Served by the primary key.
_APPEND = """
WITH numbered AS (
    UPDATE runs SET last_seq = last_seq + %(count)s WHERE id = %(run)s RETURNING last_seq - %(count)s AS base
)
INSERT INTO events (run, seq, at, type, agent, attempt, data)
SELECT %(run)s, numbered.base + e.place, clock(), e.type, e.agent, e.attempt, e.data
FROM numbered, unnest(%(types)s::text[], %(agents)s::bigint[], %(attempts)s::integer[], %(data)s::jsonb[])
     WITH ORDINALITY AS e (type, agent, attempt, data, place)
"""

# The last event is shown beside each agent; events without words of their own do not replace it.
_LAST = """
UPDATE agents SET last_event = e.words
FROM unnest(%(agents)s::bigint[], %(words)s::text[]) AS e (agent, words) WHERE agents.id = e.agent
"""

_READ = """
SELECT e.seq, e.at, e.type, a.name AS agent, e.attempt, e.data
FROM events e LEFT JOIN agents a ON a.id = e.agent
WHERE e.run = %(run)s AND e.seq > %(after)s AND (%(agent)s::text IS NULL OR a.name = %(agent)s)
ORDER BY e.seq LIMIT %(limit)s
"""

_NEWEST = """
SELECT * FROM (
    SELECT e.seq, e.at, e.type, a.name AS agent, e.attempt, e.data
    FROM events e LEFT JOIN agents a ON a.id = e.agent
    WHERE e.run = %(run)s AND e.seq > %(after)s AND (%(agent)s::text IS NULL OR a.name = %(agent)s)
    ORDER BY e.seq DESC LIMIT %(limit)s
) newest ORDER BY seq
"""


async def append(tx: Transaction, run: int, events: Sequence[Event]) -> None:
    """Append ``events`` in order. Call inside a transaction, the run's row first of all."""
    if not events:
        return
    await tx.run(
        _APPEND,
        {
            "run": run,
            "count": len(events),
            "types": [event.type for event in events],
            "agents": [event.agent for event in events],
            "attempts": [event.attempt for event in events],
            "data": [Jsonb(event.data) for event in events],
        },
    )
    last = {event.agent: words(event) for event in events if event.agent is not None}
    if last:
        await tx.run(_LAST, {"agents": list(last), "words": list(last.values())})


def words(event: Event) -> str:
    """An event in a few words, for the table of agents."""
    data = event.data
    detail = next(
        (
            str(data[key])
            for key in ("text", "message", "command", "name", "check", "state", "reason", "session_id")
            if data.get(key)
        ),
        "",
    )
    head = event.type.replace("_", " ")
    first = detail.strip().splitlines()[0] if detail.strip() else ""
    return f"{head}: {first}"[:200] if first else head


async def read(
    tx: Transaction, run: int, *, after: int, limit: int, agent: str | None = None, newest: bool = False
) -> list[EventRow]:
    """Events numbered above ``after`` in ascending order: the first ``limit``, or the last ones."""
    rows = await tx.rows(_NEWEST if newest else _READ, {"run": run, "after": after, "limit": limit, "agent": agent})
    return [EventRow(**row) for row in rows]
