"""The schema's version: checked at every start in one query, upgraded through Alembic only when behind."""

from __future__ import annotations

from importlib import resources

import psycopg
from psycopg import sql

from spawnd.errors import SchemaOutdated, Unavailable, UsageError
from spawnd.store.database import unavailable

#: The newest migration. A test compares it with the folder.
HEAD = "0001"
#: Serialises upgrades of one database; any constant of our own.
_UPGRADE_LOCK = 0x5350_574E_4442
_OLDEST_SERVER = 150000


def current(conninfo: str, schema: str) -> str | None:
    """The revision that the database is at; None if spawnd's schema is not there yet."""
    try:
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as connection:
            if connection.info.server_version < _OLDEST_SERVER:
                raise Unavailable(
                    f"PostgreSQL {connection.info.server_version // 10000} is too old.",
                    hint="spawnd needs PostgreSQL 15 or newer.",
                )
            table = f'"{schema}".alembic_version'
            found = connection.execute("SELECT to_regclass(%s)", [table]).fetchone()
            if found is None or found[0] is None:
                return None
            row = connection.execute(
                sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(schema, "alembic_version"))
            ).fetchone()
            return None if row is None else str(row[0])
    except psycopg.OperationalError as error:
        raise unavailable(error) from error
    except psycopg.ProgrammingError as error:
        raise _no_address(error) from error


def require(conninfo: str, schema: str) -> None:
    """Raise ``SchemaOutdated`` unless the database is at this version's schema."""
    at = current(conninfo, schema)
    if at == HEAD:
        return
    if at is not None and at > HEAD:
        raise SchemaOutdated(
            f"The database's schema ({at}) is newer than this spawnd ({HEAD}).",
            hint="Upgrade spawnd on this machine.",
        )
    raise SchemaOutdated(
        f"The database's schema is {'not there yet' if at is None else f'old ({at}; this spawnd needs {HEAD})'}.",
        hint="Run `spawnd db upgrade` once, when no older worker is running.",
    )


def upgrade(conninfo: str, schema: str) -> tuple[str | None, str]:
    """Bring the schema to HEAD; returns (from, to). Safe to call from many processes at once."""
    # Alembic and SQLAlchemy cost a third of a second to import: only when there is something to do.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, pool

    current(conninfo, schema)  # raises if there is no such server
    with psycopg.connect(conninfo, autocommit=True) as lock:
        lock.execute("SELECT pg_advisory_lock(%s)", [_UPGRADE_LOCK])
        before = current(conninfo, schema)
        if before == HEAD:
            return before, HEAD
        if before is not None and before > HEAD:
            require(conninfo, schema)
        lock.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        config = Config()
        config.set_main_option("script_location", str(resources.files("spawnd.store") / "migrations"))
        config.set_main_option("path_separator", "os")

        def connect() -> psycopg.Connection[tuple[object, ...]]:
            connection = psycopg.connect(conninfo)
            connection.execute("SELECT set_config('search_path', %s, false)", [schema])
            connection.commit()
            return connection

        engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=pool.NullPool)
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            config.attributes["schema"] = schema
            command.upgrade(config, "head")
        engine.dispose()
        return before, HEAD


def _no_address(error: psycopg.ProgrammingError) -> UsageError:
    said = str(error).strip().splitlines()[0].partition(" after ")[0]  # the rest may hold a password
    return UsageError(
        f"SPAWND_DATABASE_URL is no address of a PostgreSQL database: {said}.",
        hint="As in postgresql://user@host:5432/name, or without it for a database of spawnd's own.",
    )
