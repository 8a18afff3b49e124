"""Shared fixtures: a real PostgreSQL for the whole session, a schema of its own for every test."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from spawnd.settings import Settings
from spawnd.store import schema as store_schema
from spawnd.store.database import Database
from systems import System, make_repository, open_system


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The conninfo of a running PostgreSQL: SPAWND_TEST_DATABASE_URL, or one from the wheel."""
    given = os.environ.get("SPAWND_TEST_DATABASE_URL")
    if given:
        yield given
        return
    from spawnd.store.embedded import EmbeddedPostgres

    # All xdist workers share one cluster: the last to leave stops it.
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", secrets.token_hex(8))
    home = Path(tempfile.gettempdir()) / f"spawnd-tests-{session[:12]}"
    embedded = EmbeddedPostgres(home, environ=os.environ)
    try:
        yield embedded.start()
    finally:
        embedded.close()


@pytest.fixture
def schema(server: str) -> Iterator[str]:
    """A fresh schema at the newest version, dropped afterwards."""
    with new_schema(server) as name:
        yield name


@contextmanager
def new_schema(server: str) -> Iterator[str]:
    name = f"t_{secrets.token_hex(6)}"
    store_schema.upgrade(server, name)
    with psycopg.connect(server, autocommit=True) as connection:
        # Tests move time by changing one row.
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(name)))
        connection.execute("CREATE TABLE clock_shift (shift interval NOT NULL)")
        connection.execute("INSERT INTO clock_shift VALUES ('0')")
        connection.execute(
            "CREATE OR REPLACE FUNCTION clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS"
            " 'SELECT clock_timestamp() + (SELECT shift FROM clock_shift)'"
        )
    yield name
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


@pytest.fixture
async def database(server: str, schema: str) -> AsyncIterator[Database]:
    """An open pool on a schema of its own."""
    async with Database(server, schema=schema) as opened:
        yield opened


class Clock:
    """Moves the database's clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def advance(self, *, seconds: float) -> None:
        async with self._database.connection() as connection:
            await connection.run("UPDATE clock_shift SET shift = shift + make_interval(secs => %s)", [seconds])


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A git repository with one commit: README.md of three lines."""
    return make_repository(tmp_path / "repo")


@pytest.fixture
async def system(server: str, schema: str, tmp_path: Path, repo: Path) -> AsyncIterator[System]:
    """A whole spawnd of the test's own."""
    settings = Settings.load(database_url=server, schema_name=schema, home=tmp_path / "home", poll_seconds=0.5)
    async with open_system(settings, repo) as opened:
        yield opened


@pytest.fixture
async def neighbour(server: str, tmp_path: Path, repo: Path) -> AsyncIterator[System]:
    """Another installation on the same machine, which knows nothing of the first."""
    with new_schema(server) as schema:
        settings = Settings.load(database_url=server, schema_name=schema, home=tmp_path / "neighbour", poll_seconds=0.5)
        async with open_system(settings, repo) as opened:
            yield opened


@pytest.fixture
def clock(database: Database) -> Clock:
    return Clock(database)
