"""Processes that use an embedded server and can be killed, and what there is to know about the server's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spawnd.store.embedded import postmaster
from spawnd.store.embedded.layout import Layout

PRELUDE = """
import os, pwd, sys, signal
from pathlib import Path
from spawnd.store.embedded import EmbeddedPostgres
if become := os.environ.pop("BECOME", None):
    # Not by Popen: the interpreter itself may stand where that user cannot go.
    import psycopg
    account = pwd.getpwnam(become)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
home = Path(sys.argv[1])
postgres = EmbeddedPostgres(home, environ=dict(os.environ))
def say(text):
    print(text, flush=True)
def wait_for_word():
    return sys.stdin.readline()
"""


class Actor:
    """A process that runs a few lines around ``postgres``; ``say`` and ``wait_for_word`` keep step with it."""

    def __init__(
        self,
        home: Path,
        body: str,
        *,
        become: str | None = None,
        environ: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        env = {**os.environ, **(environ or {})} | ({"BECOME": become} if become else {})
        self._process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + body, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            **options,
        )
        self.pid = self._process.pid

    def heard(self) -> str:
        """The next line that it says; fails with its traceback if it says no more."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"it ended: {self._process.communicate()[1]}")
        return line.rstrip("\n")

    def tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def ends_well(self) -> str:
        """Wait for its end; returns what it still said."""
        out, err = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, err
        return out

    def fails(self) -> str:
        """Wait for its end, which must be an error; returns its traceback."""
        _, err = self._process.communicate(timeout=60)
        assert self._process.returncode != 0
        return err

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def signal(self, signum: signal.Signals) -> None:
        self._process.send_signal(signum)

    def discard(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        with self._process:  # closes its pipes
            self._process.wait()


def end_server(data: Path) -> None:
    pid = postmaster.running(data)
    if pid is not None:
        postmaster.stop(pid, data, wait_seconds=30)


def server_pid(home: Path) -> int | None:
    return postmaster.running(Layout(home).data)
