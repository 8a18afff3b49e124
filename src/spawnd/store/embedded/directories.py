"""The directories of the embedded database: made with the owner and mode they must have.

We may be root in a directory that is another user's, so nothing here follows a symbolic link.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from spawnd.errors import Unavailable
from spawnd.store.embedded.layout import MAX_SOCKET_DIR_BYTES, Layout
from spawnd.store.embedded.owner import Owner, owner_of, reaches


def make_directories(layout: Layout) -> Owner:
    layout.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = owner_of(layout)
    # The server's user passes through to its own two directories, and sees nothing else.
    passes = owner.uid != owner.home_uid
    own_directory(layout.base, 0o711 if passes else 0o700, owner.home_uid, owner.home_gid)
    own_directory(layout.sockets, 0o700, owner.uid, owner.gid)
    return owner


def own_directory(path: Path, mode: int, uid: int, gid: int) -> None:
    """Have a directory with this mode and owner; never by way of a symbolic link, since we may be root."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if os.geteuid() == 0 and (found.st_uid, found.st_gid) != (uid, gid):
            os.fchown(fd, uid, gid)
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(fd, mode)
    finally:
        os.close(fd)


def sockets_elsewhere(layout: Layout, owner: Owner) -> Path:
    """A short private directory for a data directory whose own path does not fit a socket's address."""
    name = f"spawnd-{owner.uid}-{hashlib.sha256(os.fsencode(layout.base)).hexdigest()[:12]}"
    path = Path(tempfile.gettempdir()) / name
    if len(os.fsencode(path)) > MAX_SOCKET_DIR_BYTES or not reaches(owner, path.parent):
        path = Path("/tmp") / name  # the only short directory that every system has
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner.uid, os.geteuid()):
            raise Unavailable(
                f"{path}, where the database's socket must go, belongs to someone else.",
                hint=f"Remove {path}, or set SPAWND_HOME to a shorter path.",
            ) from None
    return path
