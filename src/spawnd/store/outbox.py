"""Hints that wait to be sent: written with the change that they tell of, sent after its commit."""

from __future__ import annotations

from collections.abc import Sequence

from spawnd.contracts.bus import Hint, Topic
from spawnd.store.database import Database, Transaction

# SKIP LOCKED: relays of several processes share the rows. Losing the answer loses hints, which the safety
# polls make good; so the deletion need not wait for the disk.
_TAKE = """
DELETE FROM outbox WHERE id IN (
    SELECT id FROM outbox ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING topic, key
"""


async def put(tx: Transaction, hints: Sequence[tuple[Topic, str]]) -> None:
    """Write hints, each a topic and its key, in the transaction that makes them true."""
    if hints:
        topics, keys = [topic.value for topic, _ in hints], [key for _, key in hints]
        await tx.run("INSERT INTO outbox (topic, key) SELECT * FROM unnest(%s::text[], %s::text[])", [topics, keys])


async def take(database: Database, *, limit: int) -> list[Hint]:
    """Take up to ``limit`` pending hints out, oldest first."""
    async with database.connection() as connection:
        return [Hint(Topic(row["topic"]), row["key"]) for row in await connection.rows(_TAKE, [limit])]
