"""Whose the server is and whom it lets in. These become other users, so they are collected for root alone."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from embedded_actors import Actor, server_pid
from spawnd.errors import Unavailable
from spawnd.store.embedded import EmbeddedPostgres, find_binaries
from spawnd.store.embedded.layout import Layout

NOBODY_GROUP = pwd.getpwnam("nobody").pw_gid

HOLD = """
conninfo = postgres.start()
import psycopg
with psycopg.connect(conninfo) as connection:
    say(connection.execute("SELECT current_user").fetchone()[0])
wait_for_word()
postgres.close()
"""

#: Tries to connect to the server of someone else, by its path.
INTRUDE = """
import psycopg
try:
    psycopg.connect(os.environ["TARGET"], connect_timeout=5)
except psycopg.OperationalError as error:
    say(" ".join(str(error).split()))
else:
    say("IN")
"""


def _start(home: Path, **environ: str) -> EmbeddedPostgres:
    return EmbeddedPostgres(home, environ={**os.environ, **environ})


@pytest.fixture
def nobodys(place: Path) -> Path:
    home = place / "nobodys"
    home.mkdir()
    shutil.chown(home, "nobody", NOBODY_GROUP)
    return home


def test_root_runs_it_as_another_user_below_directories_closed_to_that_user(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    modes = {path: path.stat().st_mode for path in (closed, *closed.parents)}
    accounts = pwd.getpwall()

    with _start(closed / "home") as postgres, psycopg.connect(postgres.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        pid = server_pid(closed / "home")
        assert Path(f"/proc/{pid}").stat().st_uid != 0

    assert {path: path.stat().st_mode for path in modes} == modes
    assert pwd.getpwall() == accounts


def test_an_ordinary_user_owns_it_and_root_can_join_and_leave(nobodys: Path, actor: Callable[..., Actor]) -> None:
    user = actor(nobodys, HOLD, become="nobody")
    assert user.heard() == "spawnd"
    running = server_pid(nobodys)

    with _start(nobodys) as postgres, psycopg.connect(postgres.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert server_pid(nobodys) == running

    user.tell()
    user.ends_well()
    assert server_pid(nobodys) is None


def test_what_root_started_in_a_users_directory_that_user_can_use(nobodys: Path, actor: Callable[..., Actor]) -> None:
    with _start(nobodys):
        running = server_pid(nobodys)
        user = actor(nobodys, HOLD, become="nobody")
        assert user.heard() == "spawnd"
        assert server_pid(nobodys) == running

    user.tell()
    user.ends_well()
    assert server_pid(nobodys) is None
    again = actor(nobodys, HOLD, become="nobody")
    assert again.heard() == "spawnd"
    again.tell()
    again.ends_well()


@pytest.mark.parametrize("role", ["spawnd", "postgres"])
def test_another_user_cannot_reach_the_socket_and_would_not_be_admitted_if_they_could(
    home: Path, place: Path, actor: Callable[..., Actor], role: str
) -> None:
    home.chmod(0o755)  # the way to the door is open
    with _start(home) as postgres:
        target = postgres.start().replace("user=spawnd", f"user={role}")
        environ = {"TARGET": target}
        assert "Permission denied" in actor(home, INTRUDE, environ=environ, become="nobody").heard()

        layout = Layout(home)
        for path in (layout.base, layout.sockets, layout.sockets / ".s.PGSQL.5432"):
            path.chmod(0o777)
        assert "Peer authentication failed" in actor(home, INTRUDE, environ=environ, become="nobody").heard()
        server = Path(f"/proc/{server_pid(home)}").owner()
        assert "Peer authentication failed" in actor(home, INTRUDE, environ=environ, become=server).heard()

    with _start(home):
        assert stat.S_IMODE(layout.sockets.stat().st_mode) == 0o700  # closed again by the next start


def test_the_database_of_another_user_is_refused_with_their_name(own_home: Path, actor: Callable[..., Actor]) -> None:
    owner = Layout(own_home).data.owner()
    own_home.chmod(0o755)
    shutil.chown(own_home, "nobody", NOBODY_GROUP)
    shutil.chown(Layout(own_home).base, "nobody", NOBODY_GROUP)
    for lock in (Layout(own_home).start_lock, Layout(own_home).users_lock):
        shutil.chown(lock, "nobody", NOBODY_GROUP)

    refusal = actor(own_home, "postgres.start()", become="nobody").fails()

    assert f"belongs to {owner}, and you are nobody" in refusal


def test_a_read_only_directory_of_a_user_says_what_to_do(place: Path, actor: Callable[..., Actor]) -> None:
    body = """
from spawnd.errors import Unavailable
try:
    postgres.start()
except Unavailable as error:
    say(error.message)
    say(error.hint)
"""
    refused = actor(place / "home", body, become="nobody")

    assert "Permission denied" in refused.heard()
    assert "SPAWND_HOME" in refused.heard()


def test_a_cluster_that_belongs_to_root_says_what_to_do(own_home: Path) -> None:
    os.chown(Layout(own_home).data, 0, 0)

    with pytest.raises(Unavailable, match="belongs to root") as caught:
        _start(own_home).start()

    assert "chown -R postgres" in (caught.value.hint or "")


def test_programs_below_a_closed_directory_are_lent_to_the_server(
    place: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = find_binaries({}).bindir.parent.parent
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(installed, closed / installed.name)
    shutil.copytree(installed.with_name(f"{installed.name}.libs"), closed / f"{installed.name}.libs")
    shelf = place / "shelf"
    shelf.mkdir()
    monkeypatch.setattr("spawnd.store.embedded.owner._LENDING", (shelf,))
    bindir = closed / installed.name / "pginstall/bin"

    for _ in range(2):
        with _start(home, SPAWND_PG_BINDIR=str(bindir)) as postgres, psycopg.connect(postgres.start()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)

    assert len(list((shelf / "spawnd").iterdir())) == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
