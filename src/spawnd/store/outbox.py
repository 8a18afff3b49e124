"""Hints that wait to be sent: written with the change that they tell of, sent after its commit."""

from __future__ import annotations

from spawnd.contracts.bus import Hint, Topic
from spawnd.store.database import Database, Transaction

# SKIP LOCKED: relays of several processes share the rows. Losing the answer loses hints, which the safety
# polls make good; so the deletion need not wait for the disk.
_TAKE = """
DELETE FROM outbox WHERE id IN (
    SELECT id FROM outbox ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING topic, key
"""


async def put(tx: Transaction, topic: Topic, key: str = "") -> None:
    """Write a hint in the transaction that makes it true."""
    await tx.run("INSERT INTO outbox (topic, key) VALUES (%s, %s)", [topic.value, key])


async def take(database: Database, *, limit: int) -> list[Hint]:
    """Take up to ``limit`` pending hints out, oldest first."""
    async with database.connection() as connection:
        return [Hint(Topic(row["topic"]), row["key"]) for row in await connection.rows(_TAKE, [limit])]
