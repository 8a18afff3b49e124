"""What a user is told when the embedded database cannot work: what happened, and the next step."""

from __future__ import annotations

import errno
import os
from typing import Final

from spawnd.errors import Unavailable
from spawnd.store.embedded.layout import Layout

_LITTLE_SPACE_BYTES: Final = 64 << 20


def did_not_start(layout: Layout, said: str) -> Unavailable:
    """The server ended at once; ``said`` is the end of its log."""
    return Unavailable(
        f"The embedded database in {layout.data} did not start. Its log ends with:\n{said}",
        hint=space_advice(layout) or f"The whole log is {layout.log}.",
    )


def not_made(layout: Layout, said: str) -> Unavailable:
    """``initdb`` failed; ``said`` is the end of its output."""
    return Unavailable(
        f"The database in {layout.data} could not be made: {_reason(said)}",
        hint=space_advice(layout) or "Set SPAWND_HOME to another directory, or SPAWND_DATABASE_URL to a server.",
    )


def _reason(said: str) -> str:
    """The line that says why, of all that initdb says."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    why = [line for line in lines if "FATAL:" in line or "error:" in line]
    return (why or lines or ["it said nothing"])[-1]


def unusable(layout: Layout, error: OSError) -> Unavailable:
    message = f"The data directory {layout.home} cannot be used: {error.strerror or error}"
    if error.filename is not None:
        message += f" ({os.fsdecode(error.filename)})"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"Free some space on its disk ({layout.home}), or set SPAWND_HOME to a directory elsewhere."
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        hint = "Make it writable for your user, or set SPAWND_HOME to a directory that is."
    else:
        hint = "Set SPAWND_HOME to a directory on a local disk, or SPAWND_DATABASE_URL to a server."
    return Unavailable(message + ".", hint=hint)


def space_advice(layout: Layout) -> str | None:
    try:
        disk = os.statvfs(layout.base)
    except OSError:
        return None
    if disk.f_bavail * disk.f_frsize >= _LITTLE_SPACE_BYTES:
        return None
    free = disk.f_bavail * disk.f_frsize >> 20
    return f"Its disk has {free} MB left: free some space, or set SPAWND_HOME to a directory elsewhere."
