"""A file lock that the kernel frees when its holder dies, and that no child process inherits."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from pathlib import Path
from typing import Final

#: How often a lock that is taken is tried again. flock(2) has no deadline of its own.
RETRY_SECONDS: Final = 0.005


class FileLock:
    """flock(2) on one file, created when absent, held until ``close``.

    A child that execs loses the descriptor (close-on-exec); one that only forks closes it at once, because
    it would share the parent's lock and keep it beyond the parent's death.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        _OPEN.add(self)

    @property
    def closed(self) -> bool:
        """Also true in a forked child, whatever its parent holds."""
        return self._fd < 0

    def give_to(self, uid: int, gid: int) -> None:
        """Let another user open the file too. For root, in a directory that is someone else's."""
        found = os.fstat(self._fd)
        if (found.st_uid, found.st_gid) != (uid, gid):
            os.fchown(self._fd, uid, gid)

    def share(self) -> bool:
        """Hold it together with others; False, at once and holding nothing, if someone has it alone."""
        return self._try(fcntl.LOCK_SH)

    def take(self, *, wait_seconds: float = 0) -> bool:
        """Hold it alone; False, holding nothing, if that is not possible within ``wait_seconds``."""
        deadline = time.monotonic() + wait_seconds
        while not self._try(fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                return False
            time.sleep(RETRY_SECONDS)
        return True

    def close(self) -> None:
        """Release and close. Unlocking first also frees it where a forked child still has the descriptor."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            self._forget()

    def _try(self, mode: int) -> bool:
        try:
            fcntl.flock(self._fd, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _forget(self) -> None:
        fd, self._fd = self._fd, -1
        _OPEN.discard(self)
        if fd >= 0:
            os.close(fd)


_OPEN: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_OPEN):
        lock._forget()


os.register_at_fork(after_in_child=_forget_all)
