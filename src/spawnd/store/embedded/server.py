"""The embedded database as its users see it: start it or join it, leave it or stop it.

Two locks carry the whole protocol. ``users.lock`` is held, shared, by everyone who uses the server.
``start.lock`` is held alone by whoever joins or leaves, for as long as that takes. So nobody joins while the
last one stops the server, nobody stops it while one joins, and the last one knows that it is the last: it,
and only then, gets ``users.lock`` alone. A process that dies leaves both at once; a server that it leaves
without users is adopted by the next one who starts, and stopped by the last.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from spawnd.errors import Unavailable
from spawnd.store.embedded import cluster, postmaster
from spawnd.store.embedded.advice import did_not_start, unusable
from spawnd.store.embedded.binaries import Binaries, find_binaries
from spawnd.store.embedded.directories import make_directories, own_directory, sockets_elsewhere
from spawnd.store.embedded.handshake import Answer, Condition, ask, execute
from spawnd.store.embedded.layout import SOCKET_NAME, Layout, Record, conninfo
from spawnd.store.embedded.lock import FileLock
from spawnd.store.embedded.owner import Owner, lend, reaches

#: How long a start may take, a recovery after a crash and the wait for other starters included.
START_SECONDS: Final = 60.0
#: How long the last one out waits for the server's final checkpoint; it finishes without us after that.
STOP_SECONDS: Final = 30.0
#: How long one who leaves waits for others that come or go. They use the server, so it need not be stopped.
LEAVE_SECONDS: Final = 5.0
#: A postmaster makes its socket at once; one that lives this long without has lost it to a cleaner.
SOCKETLESS_SECONDS: Final = 5.0
#: How soon a server that starts is asked again, at first and at most: each question costs it a process.
_PAUSE_SECONDS: Final = (0.005, 0.1)


class _StillStarting(Unavailable):
    """It runs and is not ready. Stopping it would only make the next start begin its recovery anew."""


class EmbeddedPostgres:
    """One process's use of the server in ``home``; any number of them, in any processes, share it.

    ``environ`` is searched for SPAWND_PG_BINDIR and PATH. Not for use by two threads at once.
    """

    def __init__(self, home: Path, *, environ: Mapping[str, str]) -> None:
        self._layout = Layout(home.absolute())
        self._environ = environ
        self._users: FileLock | None = None
        self._launched: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> str:
        """Join the server, starting it, and making its cluster, as needed. Returns libpq's conninfo.

        Costs a few milliseconds when it runs already. May be called again while it is in use: then it
        brings back a server that was killed. Blocks, for at most about 60 s. Raises ``Unavailable``, with
        the next step, when there is no PostgreSQL, no room, no permission, or no start.
        """
        try:
            entrance = self._open_entrance()
            try:
                return self._join(entrance)
            finally:
                entrance.close()
        except OSError as error:
            raise unusable(self._layout, error) from error

    def close(self) -> None:
        """Leave; the last one stops the server cleanly. Safe to call twice, and after ``start`` failed."""
        if self._users is None or self._users.closed:
            return
        try:
            entrance = FileLock(self._layout.start_lock)
        except OSError:  # the directory is gone, and the server ends itself when it notices
            self._users.close()
            return
        try:
            self._leave(stop=entrance.take(wait_seconds=LEAVE_SECONDS))
        finally:
            entrance.close()

    def _open_entrance(self) -> FileLock:
        try:
            return FileLock(self._layout.start_lock)
        except FileNotFoundError:
            make_directories(self._layout)
            return FileLock(self._layout.start_lock)

    def _join(self, entrance: FileLock) -> str:
        if not entrance.take(wait_seconds=START_SECONDS):
            raise Unavailable(
                f"Another spawnd process has been starting or stopping the database in {self._layout.base} "
                f"for {START_SECONDS:.0f} s.",
                hint="Try again; if it hangs, find it with `fuser` on start.lock there and end it.",
            )
        joined_before = self._users is not None and not self._users.closed
        if not joined_before:
            self._users = FileLock(self._layout.users_lock)
            self._users.share()  # nobody has it alone while we hold the entrance
        try:
            socket_dir = self._ensure_running(entrance)
        except BaseException as error:  # Ctrl-C too must not leave a server without users behind
            if not joined_before:
                self._leave(stop=not isinstance(error, _StillStarting))
            raise
        return conninfo(socket_dir, user=cluster.ROLE, database=cluster.DATABASE)

    def _leave(self, *, stop: bool) -> None:
        """Let go of the server; if we may ``stop`` it (we hold the entrance) and are the last, do."""
        users, self._users = self._users, None
        if users is None:
            return
        try:
            if stop and users.take():
                self._stop()
        finally:
            users.close()

    def _ensure_running(self, entrance: FileLock) -> str:
        layout = self._layout
        deadline = time.monotonic() + START_SECONDS
        self._launched = None
        socketless_since: float | None = None
        pause = _PAUSE_SECONDS[0]
        while True:
            answer, socket_dir = probe(layout)
            match answer.condition:
                case Condition.READY | Condition.FULL:
                    return socket_dir
                case Condition.UNPREPARED:
                    _prepare(socket_dir)
                    continue
                case Condition.REFUSED:
                    raise Unavailable(
                        f"The embedded database in {layout.data} does not admit you: {answer.message}.",
                        hint="Set SPAWND_HOME to a directory of your own.",
                    )
                case Condition.BUSY | Condition.SILENT:
                    socketless_since = None
                case Condition.ABSENT:
                    code: int | None = self._launched.poll() if self._launched is not None else None
                    if code is not None and code >= 0:
                        raise did_not_start(layout, postmaster.log_end(layout))
                    if code is not None:  # it did not fail: someone killed it
                        self._launched = None
                    pid = postmaster.running(layout.data)
                    if pid is None and self._launched is None:
                        self._launched = self._launch(entrance)
                    elif pid is not None:
                        socketless_since = socketless_since or time.monotonic()
                        if time.monotonic() - socketless_since > SOCKETLESS_SECONDS:
                            postmaster.stop(pid, layout.data, wait_seconds=STOP_SECONDS)
                            self._launched = socketless_since = None
            if time.monotonic() > deadline:
                raise _StillStarting(
                    f"The embedded database in {layout.data} runs but takes no queries after "
                    f"{START_SECONDS:.0f} s ({answer.message or answer.condition}).",
                    hint=f"It may still be recovering from a crash: try again. Its log is {layout.log}.",
                )
            pause = _pause(pause)

    def _launch(self, entrance: FileLock) -> subprocess.Popen[bytes]:
        """Start a postmaster, on a cluster that is made if there is none. We hold the entrance."""
        layout = self._layout
        self._require_one_machine()
        owner = make_directories(layout)
        for lock in (entrance, self._users):
            if lock is not None and owner.switches:
                lock.give_to(owner.home_uid, owner.home_gid)
        major = cluster.major_of(layout.data)
        binaries = lend(_matching(layout, self._environ, major), owner)
        _require_way_in(layout, owner)
        if major is None:
            cluster.create(layout, binaries, owner)
        cluster.write_access_rules(layout, owner)
        sockets = layout.sockets if layout.sockets_fit else sockets_elsewhere(layout, owner)
        own_directory(sockets, 0o700, owner.uid, owner.gid)
        elsewhere = "" if sockets == layout.sockets else str(sockets)
        record = Record(elsewhere, binaries.version, binaries.origin, postmaster.boot())
        layout.write_record(record, uid=owner.home_uid, gid=owner.home_gid)
        return postmaster.launch(layout, binaries, owner, str(sockets))

    def _require_one_machine(self) -> None:
        """Refuse a home directory, shared over a network, whose database another machine is using.

        Locks cross the network where sockets and shared memory, PostgreSQL's own protection, do not.
        """
        record = self._layout.read_record()
        if record is None or record.boot == postmaster.boot() or self._users is None:
            return
        alone = self._users.take()
        self._users.share()
        if not alone:
            raise Unavailable(
                f"Another machine is using the embedded database in {self._layout.data}.",
                hint="Set SPAWND_HOME to a local disk, or SPAWND_DATABASE_URL to a server for both machines.",
            )

    def _stop(self) -> None:
        """We hold both locks alone."""
        layout = self._layout
        answer, socket_dir = probe(layout)
        pid = answer.pid or postmaster.running(layout.data)
        if pid is None and self._launched is not None and self._launched.poll() is None:
            pid = self._launched.pid  # so young that it has neither socket nor pid file
        if pid is None:
            return
        if postmaster.stop(pid, layout.data, wait_seconds=STOP_SECONDS) and Path(socket_dir) != layout.sockets:
            with suppress(OSError):  # not empty, or not ours: it does no harm
                Path(socket_dir).rmdir()


def probe(layout: Layout) -> tuple[Answer, str]:
    """How our server answers, and the directory of its socket. Another's server is none of ours."""
    record = layout.read_record()
    socket_dir = (record.elsewhere if record else "") or str(layout.sockets)
    if record is None:
        return Answer(Condition.ABSENT), socket_dir
    answer = ask(f"{socket_dir}/{SOCKET_NAME}", user=cluster.ROLE, database=cluster.DATABASE)
    if answer.pid is not None and not postmaster.serves(answer.pid, layout.data):
        return Answer(Condition.ABSENT), socket_dir
    return answer, socket_dir


def _pause(seconds: float) -> float:
    """Wait; returns how long to wait the next time."""
    time.sleep(seconds)
    return min(seconds * 1.5, _PAUSE_SECONDS[1])


def _prepare(socket_dir: str) -> None:
    execute(
        f"{socket_dir}/{SOCKET_NAME}",
        cluster.prepare_statements(),
        user=cluster.SUPERUSER,
        database=cluster.MAINTENANCE_DATABASE,
    )


def _matching(layout: Layout, environ: Mapping[str, str], major: int | None) -> Binaries:
    try:
        return find_binaries(environ, major=major)
    except Unavailable as error:
        if major is None:
            raise
        raise Unavailable(
            f"The database in {layout.data} was made by PostgreSQL {major} and opens with no other major "
            f"version. {error.message}",
            hint=f"Install PostgreSQL {major} and set SPAWND_PG_BINDIR to its bin directory (then dump and "
            f"restore to move on), or move {layout.data} away to start with an empty database.",
        ) from error


def _require_way_in(layout: Layout, owner: Owner) -> None:
    if owner.switches and not cluster.HERE.exists() and not reaches(owner, layout.base):
        raise Unavailable(
            f"PostgreSQL refuses to run as root, and no other account may enter {layout.base}.",
            hint="Run spawnd as an ordinary user, or set SPAWND_HOME to a directory that all may enter.",
        )
