"""Finding processes by descent, by mark and by their beginning."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from spawnd.process.orphans import MARK, descendants, kill_marked, machine, marked, start_time

REUSE = """
import os, time
from spawnd.process.orphans import start_time
def born():
    end, begin = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(end, 1)
        os._exit(0)
    started = start_time(pid)
    os.write(begin, b"x")
    os.waitpid(pid, 0)
    return pid, started
pid, started = born()
time.sleep(0.05)  # two ticks of the kernel's clock
open("/proc/sys/kernel/ns_last_pid", "w").write(str(pid - 1))
again, later = born()
print(pid == again, started == later)
"""


@contextmanager
def shell(script: str, **env: str) -> Iterator[list[int]]:
    """A shell that prints pids, one a line, and then waits for its standard input to close."""
    whole = {"PATH": os.environ["PATH"], **env}
    with subprocess.Popen(
        ["sh", "-c", f"{script}; echo; read _"],
        env=whole,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        yield [process.pid, *(int(line) for line in iter(process.stdout.readline, "\n") if line)]


def test_kill_marked_finds_what_left_its_group_its_session_and_its_parent() -> None:
    value, other = f"1-{secrets.token_hex(4)}", f"1-{secrets.token_hex(4)}"
    away = "(setsid sh -c 'echo $$; exec sleep 300 >/dev/null' &) ; sleep 0.2"
    with shell(away, **{MARK: value}) as pids, shell("true", **{MARK: other}) as untouched:
        leader, daemon = pids
        assert os.getsid(daemon) != os.getsid(leader)
        assert daemon not in descendants(leader)
        assert marked(value) == {leader, daemon}

        assert kill_marked(value) == 2

        assert marked(value) == set()
        assert marked(other) == set(untouched)


def test_a_mark_must_be_the_whole_value() -> None:
    value = secrets.token_hex(4)
    with shell("true", **{MARK: f"{value}9"}), shell("true", **{f"X{MARK}": value}):
        assert marked(value) == set()
        assert kill_marked(value) == 0


def test_what_is_killed_cannot_fork_its_way_out() -> None:
    value = secrets.token_hex(4)
    with shell('f() { (sleep 0.01; f) & }; f; f; f; echo $$; trap "" TERM', **{MARK: value}):
        assert kill_marked(value) >= 1

        assert marked(value) == set()


def test_the_own_process_is_never_among_the_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    value = secrets.token_hex(4)
    script = f"from spawnd.process.orphans import marked; print(marked({value!r}))"
    env = {**os.environ, MARK: value}

    assert subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True).stdout == "set()\n"


def test_descendants_are_all_below_and_not_the_process_itself() -> None:
    with shell("sh -c 'sleep 300 >/dev/null & echo $!; echo $$; wait >/dev/null' & sleep 0.2") as pids:
        leader, *below = pids

        assert descendants(leader) >= set(below)
        assert leader not in descendants(leader)
        assert leader in descendants(os.getpid())
        for pid in below:
            os.kill(pid, 9)


def test_a_processs_name_may_hold_brackets_and_blanks() -> None:
    with shell(f"printf 'a) R 1 (b' > /proc/$$/comm; exec {sys.executable} -c 'print()' & wait") as pids:
        assert pids[0] in descendants(os.getpid())


def test_a_start_time_stays_and_a_dead_process_has_none() -> None:
    with shell("true") as (pid,):
        started = start_time(pid)
        assert started is not None
        assert started.isdigit()
        assert start_time(pid) == started
        assert start_time(os.getpid()) != started

    assert start_time(pid) is None


def test_a_pid_that_was_given_again_has_another_start_time() -> None:
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", REUSE]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if ran.returncode:
        pytest.skip(f"a namespace of pids cannot be had here: {ran.stderr[-200:]}")

    assert ran.stdout == "True False\n"


def test_a_machine_is_named_alike_by_all_its_processes() -> None:
    script = "from spawnd.process.orphans import machine; print(machine())"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip()

    assert other == machine()
