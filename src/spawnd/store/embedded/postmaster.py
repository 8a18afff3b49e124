"""The server's process: finding it, starting it, ending it.

A pid file is a hint and never a proof: its process may be dead, a zombie that nobody reaps, or a stranger
that was given the number. A postmaster is what listens on our socket, or what the pid file names *and* runs
``postgres`` in our data directory. Signals go through a pidfd where there is one, so that they cannot reach
a stranger either.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from spawnd.errors import Unavailable
from spawnd.store.embedded.binaries import Binaries
from spawnd.store.embedded.cluster import environment, place
from spawnd.store.embedded.layout import PORT, SOCKET_NAME, Layout
from spawnd.store.embedded.owner import Owner

#: The log of a server is begun anew, the last one kept, when it is larger than this at a start.
LOG_BYTES: Final = 1 << 20
#: Backends notice within moments that their postmaster died; those that do not are ended after this.
ORPHAN_SECONDS: Final = 5.0

_PROC: Final = Path("/proc")

_SETTINGS: Final = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    # Segments in /dev/shm are swept when the user's last session ends (RemoveIPC), and are scarce in containers.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
    # A statement that fails is its caller's to report, and may carry what must not be in a log.
    "log_min_error_statement": "panic",
    "log_min_messages": "log",
}


def running(data: Path) -> int | None:
    """The live postmaster that the pid file of ``data`` names, proved by /proc; None if there is none.

    Without /proc always None: then only the socket tells, and PostgreSQL's own interlock protects.
    """
    pid = recorded_pid(data)
    return pid if pid is not None and _works_in(pid, data) else None


def serves(pid: int, data: Path) -> bool:
    """Whether the process is a server of ``data``, and not a stranger or that of a copied directory.

    Without /proc nobody can say, and the answer is yes.
    """
    return _works_in(pid, data) if _PROC.joinpath("self").exists() else True


def boot() -> str:
    """Which boot of which machine this is; empty where the system does not tell."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def recorded_pid(data: Path) -> int | None:
    """What the pid file says, true or not."""
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return abs(pid) or None  # a single-user backend writes it negative


def launch(layout: Layout, binaries: Binaries, owner: Owner, socket_dir: str) -> subprocess.Popen[bytes]:
    """Start a postmaster. The caller holds ``start.lock`` and knows that none is alive.

    It gets a session of its own, so that Ctrl-C and a closing terminal do not reach it.
    """
    stale = recorded_pid(layout.data)
    _end_orphans(layout.data)
    for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (Path(socket_dir) / name).unlink(missing_ok=True)
    settings = dict(_SETTINGS)
    # Relative to the data directory, the socket's path is short and has no special characters.
    settings["unix_socket_directories"] = (
        f"../{layout.sockets.name}" if Path(socket_dir) == layout.sockets else _quoted(socket_dir)
    )
    if binaries.major >= 18:
        settings["io_method"] = "sync"  # three processes fewer; our reads come from memory
    command = [str(binaries.bindir / "postgres"), "-D", str(place(layout.data, owner))]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    env = environment(binaries)
    if stale is not None:
        # PostgreSQL will not start while the process in its pid file lives, and cannot know a stranger or a
        # zombie from a server. It overlooks its grandparent's number; its shared-memory interlock, which
        # does know whether anyone still uses this directory, stays on.
        env["PG_GRANDPARENT_PID"] = str(stale)
    with _log(layout.log, owner) as log:
        process = subprocess.Popen(
            command,
            cwd=layout.data,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **owner.spawn_options(),
        )
    # It outlives whoever started it; while that one lives, its end must be collected.
    threading.Thread(target=process.wait, name="spawnd-postgres-reaper", daemon=True).start()
    return process


def log_end(layout: Layout, *, count: int = 1500) -> str:
    """The last ``count`` bytes of the server's log."""
    try:
        with layout.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - count))
            return log.read().decode(errors="replace").strip()
    except OSError:
        return ""


def stop(pid: int, data: Path, *, wait_seconds: float) -> bool:
    """Ask for a fast, clean shutdown and wait; False if it still runs after ``wait_seconds``."""
    try:
        _send(pid, signal.SIGINT, data)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + wait_seconds
    while is_alive(pid):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except FileNotFoundError:
        if _PROC.joinpath("self").exists():
            return False
    except ProcessLookupError:
        return False
    else:
        return stat[stat.rindex(b")") + 2 :][:1] not in (b"Z", b"X")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _send(pid: int, signum: signal.Signals, data: Path) -> None:
    """Signal a process of ours; ``ProcessLookupError`` if it is gone or the number is a stranger's by now."""
    fd = _pidfd(pid)
    try:
        if not serves(pid, data):
            raise ProcessLookupError(pid)
        if fd is None:
            os.kill(pid, signum)
        else:
            signal.pidfd_send_signal(fd, signum)
    finally:
        if fd is not None:
            os.close(fd)


def _pidfd(pid: int) -> int | None:
    """A handle that stays with this very process; None where the system or its sandbox has none."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None


def _works_in(pid: int, data: Path) -> bool:
    """Whether a live ``postgres`` process stands in ``data``."""
    process = _PROC / str(pid)
    try:
        program = (process / "exe").readlink()
        same = os.path.samestat((process / "cwd").stat(), data.stat())
    except OSError:
        return False
    return same and program.name.startswith("postgres") and is_alive(pid)


def _end_orphans(data: Path) -> None:
    """Wait for the backends of a postmaster that was killed, then end them: they hold its shared memory."""
    started = time.monotonic()
    while orphans := list(_processes_in(data)):
        waited = time.monotonic() - started
        if waited > 2 * ORPHAN_SECONDS:
            raise Unavailable(
                f"Processes of an earlier server cannot be ended: {', '.join(map(str, orphans))}.",
                hint="They may wait for a disk that does not answer. End them, or restart the machine.",
            )
        if waited > ORPHAN_SECONDS:
            for pid in orphans:
                # Their postmaster is gone, so nothing that they did not commit counts; recovery follows.
                with suppress(ProcessLookupError):
                    _send(pid, signal.SIGKILL, data)
        time.sleep(0.005)


def _processes_in(data: Path) -> Iterator[int]:
    try:
        names = os.listdir(_PROC)  # noqa: PTH208  # names, not paths, are wanted
    except OSError:
        return
    for name in names:
        if name.isdigit() and _works_in(int(name), data):
            yield int(name)


@contextmanager
def _log(path: Path, owner: Owner) -> Iterator[int]:
    """The log's descriptor, for appending; the file stays with the user whose data directory it is."""
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if owner.switches:
            os.fchown(fd, owner.home_uid, owner.home_gid)
        yield fd
    finally:
        os.close(fd)


def _quoted(directory: str) -> str:
    """As an element of PostgreSQL's list of directories."""
    return '"' + directory.replace('"', '""') + '"'
