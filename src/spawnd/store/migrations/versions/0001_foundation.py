"""The foundation: runs, agents, attempts, leases, events and what is on record about them."""

from __future__ import annotations

from importlib import resources

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything in the schema that the search path names."""
    text = resources.files("spawnd.store.migrations").joinpath("0001_foundation.sql").read_text()
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(text)
