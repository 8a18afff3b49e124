"""Under which user the server runs, whom it admits, and how its programs reach that user.

PostgreSQL refuses to run as root. As root it runs as the owner of the data directory, else as ``postgres``
or ``nobody``: accounts that exist already. Nothing here adds an account or changes the mode of a directory
that is not spawnd's own.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spawnd.errors import Unavailable
from spawnd.store.embedded.binaries import Binaries
from spawnd.store.embedded.layout import Layout

#: Accounts that a server started by root may run as, best first.
_SERVER_ACCOUNTS: Final = ("postgres", "_postgres", "nobody")
#: Where root keeps copies of programs that lie below a closed directory; then the temp directory.
_LENDING: Final = (Path("/var/cache"), Path("/var/lib"), Path("/var/db"))


@dataclass(frozen=True, slots=True)
class Owner:
    """``uid`` and ``gid`` are the server's; ``home_uid`` and ``home_gid`` those of the data directory's user.

    ``admitted`` are the accounts that may connect: that user, and root, who could become them anyway.
    ``account`` is the server's user by name, None where the system has none for it.
    ``switches`` says that the server runs under another user than this process.
    """

    uid: int
    gid: int
    home_uid: int
    home_gid: int
    account: str | None
    admitted: tuple[str, ...]
    switches: bool

    def spawn_options(self) -> dict[str, Any]:
        """What ``subprocess`` needs to start a program as the server's user."""
        if not self.switches:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def owner_of(layout: Layout) -> Owner:
    """Decide, from who we are and whose ``home`` and ``data`` (which may be absent) are.

    Raises ``Unavailable`` if this user cannot run or use the server.
    """
    me = os.geteuid()
    home = layout.home.stat()
    data_uid = layout.data.stat().st_uid if layout.data.is_dir() else None
    if me != 0:
        if data_uid not in (None, me):
            raise Unavailable(
                f"The embedded database in {layout.data} belongs to {_name(data_uid) or f'uid {data_uid}'}, "
                f"and you are {_name(me) or f'uid {me}'}.",
                hint="Set SPAWND_HOME to a directory of your own, or SPAWND_DATABASE_URL to a shared server.",
            )
        return Owner(me, os.getegid(), me, os.getegid(), _name(me), _accounts(me, 0), switches=False)
    if data_uid == 0:
        raise Unavailable(
            f"{layout.data} belongs to root, as which PostgreSQL refuses to run.",
            hint=f"Give it to the account that shall run the server: `chown -R postgres {layout.data}`.",
        )
    if data_uid is not None:
        uid, gid = data_uid, layout.data.stat().st_gid
    elif home.st_uid != 0:
        uid, gid = home.st_uid, home.st_gid
    else:
        uid, gid = _server_account()
    return Owner(uid, gid, home.st_uid, home.st_gid, _name(uid), _accounts(home.st_uid, 0), switches=True)


def lend(binaries: Binaries, owner: Owner) -> Binaries:
    """The same programs where the server's user can run them: copied once, if they lie too deep for that.

    A wheel's libraries stand beside its package and are found relative to it, so they are copied along.
    """
    if not owner.switches or reaches(owner, binaries.bindir):
        return binaries
    prefix = binaries.bindir.parent
    package = prefix.parent
    libraries = package.parent / f"{package.name}.libs"
    identity = f"{binaries.bindir}\0{binaries.version}\0{binaries.bindir.stat().st_mtime_ns}"
    shelf = _shelf(owner) / f"pg-{binaries.version}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    bindir = shelf / package.name / prefix.name / binaries.bindir.name
    if not bindir.is_dir():
        fresh = Path(tempfile.mkdtemp(dir=shelf.parent, prefix=f"{shelf.name}."))
        try:
            ignore = shutil.ignore_patterns("include", "__pycache__", "*.a")
            shutil.copytree(prefix, fresh / package.name / prefix.name, symlinks=True, ignore=ignore)
            if libraries.is_dir():
                shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
            for directory in (fresh, fresh / package.name):
                directory.chmod(0o755)  # public programs, in a directory of our own
            fresh.rename(shelf)
        except OSError:
            # Another process of root's may have been faster; then its copy is there.
            shutil.rmtree(fresh, ignore_errors=True)
            if not bindir.is_dir():
                raise
    return Binaries(bindir, binaries.version, binaries.origin)


def reaches(owner: Owner, path: Path) -> bool:
    """Whether the server's user may search every directory on the way to ``path``, itself included."""
    resolved = path.resolve()
    return all(_searchable(owner, directory) for directory in (resolved, *resolved.parents))


def _searchable(owner: Owner, directory: Path) -> bool:
    found = directory.stat()
    if found.st_uid == owner.uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid == owner.gid:
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)


def _shelf(owner: Owner) -> Path:
    for parent in _LENDING:
        if parent.is_dir() and reaches(owner, parent) and os.access(parent, os.W_OK):
            shelf = parent / "spawnd"
            break
    else:
        shelf = Path(tempfile.gettempdir()) / "spawnd-programs"
    shelf.mkdir(mode=0o755, exist_ok=True)
    found = shelf.lstat()
    if found.st_uid != 0 or found.st_mode & 0o022 or shelf.is_symlink():
        raise Unavailable(f"{shelf} is not root's alone, so programs in it cannot be trusted.", hint=f"Remove {shelf}.")
    return shelf


def _server_account() -> tuple[int, int]:
    for name in _SERVER_ACCOUNTS:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return account.pw_uid, account.pw_gid
    raise Unavailable(
        "PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody` to run it as.",
        hint="Run spawnd as an ordinary user, or set SPAWND_DATABASE_URL to a server of your own.",
    )


def _accounts(*uids: int) -> tuple[str, ...]:
    names = dict.fromkeys(name for uid in uids if (name := _name(uid)) is not None)
    return tuple(names)


def _name(uid: int | None) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name if uid is not None else None
    except KeyError:
        return None
