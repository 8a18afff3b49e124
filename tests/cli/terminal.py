"""`spawnd` as its users have it: arguments, an environment and a directory in, two streams and an exit code out."""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from spawnd.store import schema as store_schema
from systems import PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """Standard output, which holds one JSON document and nothing else."""
        return json.loads(self.stdout)

    @property
    def documents(self) -> list[Any]:
        """Standard output, which holds one JSON document a line and nothing else."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def refused(self, code: int, *words: str) -> None:
        """Assert that it failed with that code and said these words, in our own voice and without waste."""
        assert self.code == code, self
        error = self.stderr[self.stderr.rindex("error: ") :] if "error: " in self.stderr else self.stderr
        for word in words:
            assert word in error, f"{word!r} is not in:\n{error}"
        assert "Traceback" not in self.stderr
        assert "did not expect" not in error
        assert error.strip().count("\n") <= 3, f"longer than a paragraph:\n{error}"


class Program:
    """A `spawnd` that runs beside the test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, words: str) -> None:
        """Until a line of standard error has these words."""
        with suppress(queue.Empty):
            while (line := self._lines.get(timeout=PATIENCE_SECONDS)) is not None:
                if words in line:
                    return
        raise AssertionError(f"it never said {words!r}:\n" + "".join(self._said))

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> Said:
        """Wait until it has ended by itself."""
        assert self._process.stdout is not None
        try:
            self._process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError("it did not end:\n" + "".join(self._said)) from None
        stdout = self._process.stdout.read()
        self.discard()
        return Said(self._process.returncode, stdout, "".join(self._said))

    def kill(self) -> None:
        """SIGKILL to it alone, and wait until it is gone."""
        self.discard()

    def discard(self) -> None:
        assert self._process.stdout is not None and self._process.stderr is not None
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=PATIENCE_SECONDS)
        self._process.stdout.close()
        self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line)
            self._lines.put(line)
        self._lines.put(None)


class Shell:
    """A terminal of somebody with a home, a repository and an installation of spawnd. Nothing else is set."""

    def __init__(self, folder: Path, repo: Path, *, database_url: str, schema_name: str) -> None:
        self.repo = repo
        self.home = folder / "user"
        self.data = folder / "data"
        self.home.mkdir(parents=True)
        (self.home / ".gitconfig").write_text("[user]\nname = t\nemail = t@t\n")
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "SPAWND_DATABASE_URL": database_url,
            "SPAWND_SCHEMA_NAME": schema_name,
            "SPAWND_HOME": str(self.data),
            "SPAWND_POLL_SECONDS": "0.5",
        }
        if "PYTHONPATH" in os.environ:  # another tree of spawnd's under test
            self.env["PYTHONPATH"] = os.environ["PYTHONPATH"]
        self._programs: list[Program] = []

    def __call__(
        self,
        *words: str | Path,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
        inside: tuple[str, ...] = (),
    ) -> Said:
        """Run a command to its end. ``env`` adds variables, and takes away those that are None;
        ``inside`` is a command line that runs it."""
        try:
            done = subprocess.run(
                [*inside, *_command(words)],
                cwd=cwd or self.repo,
                env=self._environment(env),
                input=stdin,
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{words} did not end; it said {error.stdout!r} {error.stderr!r}") from None
        return Said(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str | Path, env: Mapping[str, str | None] | None = None) -> Program:
        """Run a command beside the test."""
        process = subprocess.Popen(
            _command(words),
            cwd=self.repo,
            env=self._environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._programs.append(Program(process))
        return self._programs[-1]

    def write(self, name: str, text: str) -> Path:
        """A file outside of the repository."""
        path = self.home / name
        path.write_text(text)
        return path

    def runs(self) -> list[str]:
        """The ids of the runs that are on record, asked of the database itself."""
        with psycopg.connect(self.env["SPAWND_DATABASE_URL"], autocommit=True) as connection:
            table = sql.Identifier(self.env["SPAWND_SCHEMA_NAME"], "runs")
            return [row[0] for row in connection.execute(sql.SQL("SELECT run_id FROM {}").format(table))]

    def discard(self) -> None:
        """End what still runs, and what its agents have left running."""
        for program in self._programs:
            program.discard()
        for pid in self._agents():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _agents(self) -> set[int]:
        """What runs for agents of this installation: their homes are in its data directory."""
        found = set()
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and f"{self.data}/".encode() in (entry / "environ").read_bytes():
                    found.add(int(entry.name))
        return found - {os.getpid()}

    def _environment(self, changes: Mapping[str, str | None] | None) -> dict[str, str]:
        return {name: value for name, value in {**self.env, **(changes or {})}.items() if value is not None}


def _command(words: tuple[str | Path, ...]) -> list[str]:
    return [sys.executable, "-m", "spawnd", *map(str, words)]


@contextmanager
def shell(folder: Path, repo: Path, *, database_url: str, schema_name: str) -> Iterator[Shell]:
    """A shell that leaves no process behind."""
    opened = Shell(folder, repo, database_url=database_url, schema_name=schema_name)
    try:
        yield opened
    finally:
        opened.discard()


@contextmanager
def schema_of_a_module(server: str) -> Iterator[str]:
    """A fresh schema for more than one test."""
    name = f"t_{secrets.token_hex(6)}"
    store_schema.upgrade(server, name)
    try:
        yield name
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
