"""Processes on this machine, by descent and by mark: what a dead worker left, what a child started.

Reads /proc; where there is none, nothing is found and the process group has to do.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

#: The environment variable that marks everything started for an attempt; its value is ``<attempt>-<token>``.
MARK = "SPAWND_ATTEMPT_MARK"

_PROC = Path("/proc")
_QUIET_SWEEPS = 3


def descendants(*pids: int) -> set[int]:
    """Every process below these, without themselves."""
    children: dict[int, list[int]] = {}
    for entry in _pids():
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name stands in brackets and may hold anything; the parent is the second field after it.
            stat = (_PROC / str(entry) / "stat").read_text(errors="replace")
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(entry)
    found: set[int] = set()
    todo = [*pids]
    while todo:
        for child in children.get(todo.pop(), []):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def marked(value: str) -> set[int]:
    """Processes whose environment carries ``MARK=value``. Others' processes cannot be read and are not found."""
    return set(_marked(value))


def _marked(value: str) -> Iterator[int]:
    wanted = f"{MARK}={value}".encode()
    # The youngest first: what lives for milliseconds, and forks before it goes, must be read before it is gone.
    for entry in sorted(_pids(), reverse=True):
        with contextlib.suppress(OSError):
            if entry != os.getpid() and wanted in (_PROC / str(entry) / "environ").read_bytes().split(b"\0"):
                yield entry


def kill_marked(value: str) -> int:
    """SIGKILL everything marked, until nothing is left; returns how many were killed."""
    killed: set[tuple[int, str | None]] = set()
    # What is killed may have forked in between: look again until nothing is found. Once is not enough: one that forks
    # and ends while we look is gone before we read it, and its child was born after we listed them.
    quiet = 0
    while quiet < _QUIET_SWEEPS:
        quiet += 1
        for pid in _marked(value):
            if (who := (pid, start_time(pid))) in killed:
                continue  # it takes its time to die
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            killed.add(who)
            quiet = 0
    return len(killed)


def start_time(pid: int) -> str | None:
    """When a process started, in the kernel's ticks: with the pid it names a process for good. None if gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def machine() -> str | None:
    """Where process ids mean the same: this boot of this kernel, in this pid namespace. None without /proc."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _pids() -> list[int]:
    try:
        return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    except OSError:
        return []
