"""Where spawnd cannot work, it says what, where and what to do, in a paragraph, and leaves nothing half begun."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from spawnd.settings import Settings
from systems import git, one, plan
from terminal import Shell

PLAN = plan(one("a", command="echo A > a.txt", check="test -f a.txt"))


@pytest.fixture
def file(shell: Shell) -> Path:
    return shell.write("plan.json", PLAN)


def programs(folder: Path, *names: str) -> str:
    """A PATH with these programs alone."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found, f"this test needs {name}"
        (folder / name).symlink_to(found)
    return str(folder)


# The repository


def test_a_repository_that_is_not_there(shell: Shell, file: Path) -> None:
    shell("run", "-f", file, "--source-repo", "/no/such/place").refused(2, "/no/such/place", "--source-repo")
    assert shell.runs() == []


def test_a_directory_that_is_no_repository(shell: Shell, file: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()

    shell("run", "-f", file, "--source-repo", plain).refused(2, str(plain), "not a git repository", "git init")
    shell("run", "-f", file, cwd=plain).refused(2, str(plain), "not a git repository", "git init")
    shell("submit", "-f", file, cwd=plain).refused(2, str(plain), "not a git repository", "git init")
    assert shell.runs() == []


def test_a_revision_that_is_not_there(shell: Shell, file: Path) -> None:
    shell("run", "-f", file, "--source-ref", "maim").refused(2, str(shell.repo), "maim", "Did you mean main?")
    shell("run", "-f", file, "--source-ref", "lunch").refused(2, str(shell.repo), "lunch", "git branch")
    shell("run", "-f", file, "--source-ref", "--all").refused(2, "--all")
    assert shell.runs() == []


def test_a_repository_without_a_commit(shell: Shell, file: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")

    shell("run", "-f", file, cwd=empty).refused(2, str(empty), "no commit yet", "Commit something")
    assert shell.runs() == []


def test_a_remote_that_does_not_answer_fails_the_agent_and_keeps_no_password(shell: Shell, file: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    shell("run", "-f", file, "--source-repo", f"http://u:hunter2@127.0.0.1:{port}/x.git").refused(2, "env_refs")
    assert shell.runs() == []

    ended = shell("run", "-f", file, "--source-repo", f"http://127.0.0.1:{port}/x.git")

    assert ended.code == 1, ended
    assert "cannot be fetched" in ended.stdout and "Check the address" in ended.stdout


# Programs


def test_no_git(shell: Shell, file: Path, tmp_path: Path) -> None:
    without = {"PATH": programs(tmp_path / "bin", "sh", "bwrap")}

    shell("run", "-f", file, env=without).refused(4, "git is not installed", "apt-get install git")
    assert shell.runs() == []
    doctor = shell("doctor", env=without)
    assert doctor.code == 1
    assert "git is not installed" in doctor.stdout


def test_without_a_sandbox_a_command_of_the_plan_runs_with_a_warning(shell: Shell, file: Path, tmp_path: Path) -> None:
    ran = shell("run", "-f", file, env={"PATH": programs(tmp_path / "bin", "sh", "git", "env")})

    assert ran.code == 0, ran
    assert "warning: command runs without a sandbox" in ran.stderr


def test_without_a_sandbox_a_model_driven_program_is_not_started(shell: Shell, tmp_path: Path) -> None:
    codex = tmp_path / "bin" / "codex"
    without = {"PATH": programs(tmp_path / "bin", "sh", "git", "touch"), "OPENAI_API_KEY": "sk-test"}
    codex.write_text(f"#!/bin/sh\necho codex-cli 0.163.0\ntouch {tmp_path}/started\n")
    codex.chmod(0o755)
    plan_file = shell.write("codex.json", plan(one("a", runtime="codex")))

    ran = shell("run", "-f", plan_file, env=without)

    assert ran.code == 1, ran
    assert "no sandbox" in ran.stdout
    assert "Install bubblewrap" in ran.stdout and "SPAWND_RUNTIME_ISOLATION" in ran.stdout
    assert "Change the plan" not in ran.stdout
    assert not (tmp_path / "started").exists()
    doctor = shell("doctor", env=without)
    assert "apt-get install bubblewrap" in doctor.stdout


def test_a_sandbox_that_is_demanded_and_not_there(shell: Shell, file: Path, tmp_path: Path) -> None:
    env = {"PATH": programs(tmp_path / "bin", "sh", "git"), "SPAWND_SANDBOX": "bubblewrap"}

    shell("run", "-f", file, env=env).refused(4, "bubblewrap", "bwrap is not installed", "apt-get install")
    assert shell.runs() == []
    shell("worker", "--once", env=env).refused(4, "bubblewrap", "bwrap is not installed")


# Disks


@pytest.mark.parametrize("command", ["status", "run -f FILE"])
def test_a_data_directory_that_is_a_file(shell: Shell, file: Path, command: str) -> None:
    home = shell.write("data", "mine")
    embedded = {"SPAWND_HOME": str(home), "SPAWND_DATABASE_URL": None}

    shell(*command.replace("FILE", str(file)).split(), env=embedded).refused(4, str(home), "SPAWND_HOME")

    assert home.read_text() == "mine"
    doctor = shell("doctor", env=embedded)
    assert doctor.code == 1
    assert str(home) in doctor.stdout


def inside(place: Path, options: str) -> tuple[str, ...]:
    """Run a command with a file system of its own at ``place``, which nobody else sees."""
    mount = f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"'
    who = () if os.geteuid() == 0 else ("--map-root-user",)
    return ("unshare", "--mount", *who, "sh", "-c", mount, str(place))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where ``inside`` mounts a disk of the test's own; fails where none can be."""
    place = tmp_path / "disk"
    place.mkdir()
    tried = subprocess.run([*inside(place, "size=64k"), "true"], capture_output=True, text=True)
    assert tried.returncode == 0, f"these tests need `unshare --mount` and a tmpfs: {tried.stderr}"
    return place


def test_a_data_directory_that_is_read_only(shell: Shell, file: Path, disk: Path) -> None:
    read_only = inside(disk, "ro")
    env = {"SPAWND_HOME": str(disk)}

    shell("run", "-f", file, env=env, inside=read_only).refused(4, str(disk), "Read-only", "SPAWND_HOME")
    assert shell.runs() == []
    embedded = {**env, "SPAWND_DATABASE_URL": None}
    shell("status", env=embedded, inside=read_only).refused(4, str(disk), "Read-only", "SPAWND_HOME")
    doctor = shell("doctor", env=env, inside=read_only)
    assert doctor.code == 1
    assert "cannot be written" in doctor.stdout


def test_commands_that_only_look_work_with_a_data_directory_that_is_read_only(
    shell: Shell, file: Path, disk: Path
) -> None:
    assert shell("run", "-f", file, "--run-id", "r").code == 0
    env = {"SPAWND_HOME": str(disk)}

    for command in ("status r", "events r"):
        said = shell(*command.split(), env=env, inside=inside(disk, "ro"))
        assert said.code == 0, said


def test_a_disk_that_is_full_where_the_database_should_go(shell: Shell, file: Path, disk: Path) -> None:
    env = {"SPAWND_HOME": str(disk), "SPAWND_DATABASE_URL": None}

    said = shell("run", "-f", file, env=env, inside=inside(disk, "size=8m,mode=755"))

    said.refused(4, str(disk), "SPAWND_HOME", "No space left on device")


@pytest.fixture
def big(shell: Shell) -> None:
    """The repository has a file that does not fit on the disk."""
    (shell.repo / "big").write_bytes(os.urandom(300_000))
    git(shell.repo, "add", "-A")
    git(shell.repo, "commit", "-qm", "big")


def test_a_disk_that_is_full_where_the_mirror_should_go(shell: Shell, file: Path, disk: Path, big: None) -> None:
    env = {"SPAWND_SOURCE_CACHE_ROOT": str(disk)}

    said = shell("run", "-f", file, env=env, inside=inside(disk, "size=128k"))

    assert said.code in (2, 4), said
    said.refused(said.code, "Free space", "SPAWND_SOURCE_CACHE_ROOT")
    assert shell.runs() == []


def test_a_disk_that_is_full_where_workspaces_go_fails_the_agent_and_names_the_disk(
    shell: Shell, file: Path, disk: Path, big: None
) -> None:
    env = {"SPAWND_SCRATCH_ROOT": str(disk)}

    said = shell("run", "-f", file, env=env, inside=inside(disk, "size=128k"))

    assert said.code == 1, said
    assert str(disk) in said.stdout and "SPAWND_SCRATCH_ROOT" in said.stdout
    assert "core.bare" not in said.stdout
    assert "Traceback" not in said.stderr


# The database


@pytest.fixture
def nowhere() -> str:
    """The address of a database on a port where nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"postgresql://spawnd:hunter2@127.0.0.1:{closed.getsockname()[1]}/x"


@pytest.mark.parametrize(
    "command", ["run -f FILE", "submit -f FILE", "status", "worker --once", "db upgrade", "db status", "reconcile"]
)
def test_a_database_that_does_not_answer(shell: Shell, file: Path, nowhere: str, command: str) -> None:
    said = shell(*command.replace("FILE", str(file)).split(), env={"SPAWND_DATABASE_URL": nowhere})

    said.refused(4, "does not answer", "Connection refused", "SPAWND_DATABASE_URL")
    assert "hunter2" not in said.stderr


def test_doctor_does_not_send_to_the_doctor(shell: Shell, nowhere: str) -> None:
    said = shell("doctor", env={"SPAWND_DATABASE_URL": nowhere})

    assert said.code == 1
    assert "does not answer" in said.stdout and "SPAWND_DATABASE_URL" in said.stdout
    assert "spawnd doctor" not in said.stdout
    assert "hunter2" not in said.stdout


@pytest.mark.parametrize("url", ["nonsense", "mysql://u:hunter2@localhost/x", "postgresql://localhost:port/x"])
@pytest.mark.parametrize("command", ["status", "db upgrade"])
def test_an_address_of_a_database_that_is_none(shell: Shell, url: str, command: str) -> None:
    said = shell(*command.split(), env={"SPAWND_DATABASE_URL": url})

    assert said.code in (2, 4), said
    said.refused(said.code, "SPAWND_DATABASE_URL")
    assert "hunter2" not in said.stderr


def test_doctor_finds_an_address_of_a_database_that_is_none(shell: Shell) -> None:
    said = shell("doctor", env={"SPAWND_DATABASE_URL": "nonsense"})

    assert said.code == 1, said
    assert "SPAWND_DATABASE_URL" in said.stdout


def test_a_password_that_is_wrong_is_not_repeated(shell: Shell, server: str) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(server)
    wrong = psycopg.conninfo.make_conninfo("", **{**parts, "user": "nobody_here", "password": "hunter2"})

    said = shell("status", env={"SPAWND_DATABASE_URL": wrong})

    said.refused(4, "nobody_here", "SPAWND_DATABASE_URL")
    assert "hunter2" not in said.stderr


def test_a_database_without_our_schema_is_mended_by_the_command_that_the_error_names(
    shell: Shell, server: str, file: Path
) -> None:
    name = f"t_{secrets.token_hex(6)}"
    env = {"SPAWND_SCHEMA_NAME": name}
    try:
        for command in (["run", "-f", file], ["status"]):
            shell(*command, env=env).refused(4, "not there yet", "spawnd db upgrade")
        before = shell("db", "status", env=env)
        assert (before.code, "spawnd db upgrade" in before.stdout) == (1, True)

        assert shell("db", "upgrade", env=env).code == 0

        assert shell("db", "status", env=env).code == 0
        assert "already" in shell("db", "upgrade", env=env).stdout
        assert shell("run", "-f", file, env=env).code == 0
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def test_a_database_of_a_newer_spawnd_is_refused_and_left_alone(shell: Shell, server: str, file: Path) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        table = sql.Identifier(shell.env["SPAWND_SCHEMA_NAME"], "alembic_version")
        connection.execute(sql.SQL("UPDATE {} SET version_num = '9999'").format(table))

    shell("run", "-f", file).refused(4, "9999", "newer", "Upgrade spawnd")
    shell("db", "upgrade").refused(4, "9999", "newer", "Upgrade spawnd")
    assert shell.runs() == []


# Settings

NONSENSE = {
    "runtime_isolation": "lunch",
    "sandbox": "lunch",
    "lease_seconds": "abc",
    "poll_seconds": "-1",
    "schema_name": "Lunch; DROP",
}
#: Any text can be a path or an address: what is wrong with those shows when they are used.
USED = {
    "home", "database_url", "scratch_root", "source_cache_root", "setup_cache_root", "codex_auth_dir",
    "claude_auth_dir", "prices_file", "git_askpass", "pg_bindir", "roles_dir",
}  # fmt: skip


def test_every_setting_is_known_to_these_tests() -> None:
    assert {*NONSENSE, *USED} == set(Settings.model_fields)


@pytest.mark.parametrize("setting", NONSENSE)
def test_a_setting_that_makes_no_sense_is_named(shell: Shell, file: Path, setting: str) -> None:
    variable, value = f"SPAWND_{setting.upper()}", NONSENSE[setting]

    shell("run", "-f", file, env={variable: value}).refused(2, variable)
    assert shell.runs() == []


@pytest.mark.parametrize("setting", ["home", "scratch_root", "source_cache_root", "setup_cache_root"])
def test_a_directory_of_ours_that_cannot_be_one_is_named(shell: Shell, setting: str) -> None:
    variable, place = f"SPAWND_{setting.upper()}", shell.write("file", "mine")
    text = plan(
        one("a", command="true"),
        orchestration={"worktree_setup": {"command": "true", "cache": True}},
    )

    said = shell("run", "-f", shell.write("plan.json", text), env={variable: str(place)})

    assert said.code != 0
    assert str(place) in said.stdout + said.stderr
    assert variable in said.stdout + said.stderr
    assert "Traceback" not in said.stderr
    assert place.read_text() == "mine"


def test_all_wrong_settings_are_named_at_once(shell: Shell) -> None:
    said = shell("status", env={"SPAWND_LEASE_SECONDS": "abc", "SPAWND_POLL_SECONDS": "-1"})

    said.refused(2, "SPAWND_LEASE_SECONDS", "SPAWND_POLL_SECONDS", "spawnd doctor")
    doctor = shell("doctor", env={"SPAWND_LEASE_SECONDS": "abc"})
    assert doctor.code == 1 and "SPAWND_LEASE_SECONDS" in doctor.stdout


@pytest.mark.parametrize("setting", ["codex_auth_dir", "claude_auth_dir", "prices_file", "git_askpass"])
def test_doctor_names_a_setting_whose_path_is_not_there(shell: Shell, setting: str) -> None:
    said = shell("doctor", env={f"SPAWND_{setting.upper()}": "/no/such/place"})

    assert f"SPAWND_{setting.upper()}" in said.stdout
    assert "/no/such/place" in said.stdout


def test_binaries_of_postgresql_that_are_not_there_are_named(shell: Shell, tmp_path: Path) -> None:
    env = {"SPAWND_PG_BINDIR": str(tmp_path / "none"), "SPAWND_DATABASE_URL": None}

    shell("status", env=env).refused(4, "SPAWND_PG_BINDIR", str(tmp_path / "none"))


def test_nothing_set_at_all_still_helps(shell: Shell) -> None:
    said = shell("--help", env=dict.fromkeys([*shell.env, "HOME"], None) | {"PATH": shell.env["PATH"]})

    assert said.code == 0
    assert "spawnd run" in said.stdout
