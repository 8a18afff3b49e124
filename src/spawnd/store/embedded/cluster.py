"""What a data directory holds: its version, its making, and the rules about who may connect.

Knows ``initdb`` and the configuration files; it starts no server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from spawnd.errors import Unavailable
from spawnd.store.embedded.advice import not_made
from spawnd.store.embedded.binaries import Binaries
from spawnd.store.embedded.layout import Layout
from spawnd.store.embedded.owner import Owner

#: The role that spawnd connects as: it owns its database and is no superuser.
ROLE: Final = "spawnd"
DATABASE: Final = "spawnd"
#: The cluster's superuser, for making the role and for the user's own tools.
SUPERUSER: Final = "postgres"
MAINTENANCE_DATABASE: Final = "postgres"

#: The session's directory. A server whose way to its data crosses directories closed to its user (root's
#: home) starts there and calls it by this name, which the kernel resolves without walking the path.
HERE: Final = Path("/proc/self/cwd")

#: Run once by the superuser. CREATE DATABASE has no IF NOT EXISTS: see ``prepare_statements``.
_CREATE_ROLE: Final = f"""
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN CREATE ROLE {ROLE} LOGIN; END IF;
END $$"""

_INITDB_SECONDS: Final = 180.0


def prepare_statements() -> list[str]:
    """What turns a fresh cluster into spawnd's, one statement each."""
    return [_CREATE_ROLE, f"CREATE DATABASE {DATABASE} OWNER {ROLE}"]


def major_of(data: Path) -> int | None:
    """The major version that made ``data``; None if there is no cluster. Raises ``Unavailable`` if damaged."""
    try:
        return int((data / "PG_VERSION").read_text(encoding="utf-8").strip())
    except (FileNotFoundError, NotADirectoryError):
        if data.exists():
            raise Unavailable(
                f"{data} exists and is not a PostgreSQL data directory.",
                hint=f"Move {data} away; spawnd makes a new one, or puts back your backup.",
            ) from None
        return None
    except ValueError:
        raise Unavailable(
            f"{data}/PG_VERSION is unreadable: the data directory is damaged.",
            hint=f"Restore {data} from a backup, or move it away to start with an empty database.",
        ) from None


def create(layout: Layout, binaries: Binaries, owner: Owner) -> None:
    """Make the cluster beside its place and rename it there, so that half a cluster never looks like one.

    The caller holds ``start.lock``. Raises ``Unavailable`` with the end of what ``initdb`` said.
    """
    if owner.account is None:
        raise Unavailable(
            f"PostgreSQL cannot make a database for uid {owner.uid}, which has no account name.",
            hint="Add the uid to /etc/passwd, run as another user, or set SPAWND_DATABASE_URL.",
        )
    fresh = layout.unfinished
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700)
    if owner.switches:
        os.chown(fresh, owner.uid, owner.gid)
    # The locale is fixed, not inherited: the same sort order everywhere, and none that might be missing.
    locale = ["--encoding=UTF8", "--locale=C"]
    if binaries.major >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = [
        str(binaries.bindir / "initdb"),
        "--pgdata",
        str(place(fresh, owner)),
        f"--username={SUPERUSER}",
        "--auth-local=peer",
        "--auth-host=reject",
        "--no-instructions",
        "--data-checksums",
        *locale,
    ]
    try:
        done = subprocess.run(
            command,
            cwd=fresh,
            env=environment(binaries),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            timeout=_INITDB_SECONDS,
            check=False,
            **owner.spawn_options(),
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"Making the database in {fresh} took over {_INITDB_SECONDS:.0f} s.") from error
    if done.returncode != 0:
        failure = not_made(layout, done.stdout.decode(errors="replace").strip()[-1500:])
        shutil.rmtree(fresh, ignore_errors=True)
        raise failure
    fresh.rename(layout.data)
    _sync(layout.base)


def write_access_rules(layout: Layout, owner: Owner) -> None:
    """Admit the admitted, by the kernel's word for who they are, over the Unix socket; and nobody else.

    Written before every start, so that what stands there is what the running server obeys.
    """
    _write(layout.data / "pg_hba.conf", "# Written by spawnd at each start.\nlocal all all peer map=spawnd\n", owner)
    admitted = "".join(f'spawnd "{account}" {role}\n' for account in owner.admitted for role in (ROLE, SUPERUSER))
    _write(layout.data / "pg_ident.conf", f"# Written by spawnd at each start.\n{admitted}", owner)


def place(directory: Path, owner: Owner) -> Path:
    """How the server, started in ``directory``, shall call it."""
    return HERE if owner.switches and HERE.exists() else directory


def environment(binaries: Binaries) -> dict[str, str]:
    """All that PostgreSQL's programs see of an environment: nothing of the caller's."""
    return {"PATH": f"{binaries.bindir}:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _write(path: Path, text: str, owner: Owner) -> None:
    # The directory may be another user's and we may be root: never write through a name that exists.
    fresh = path.with_name(f"{path.name}.spawnd")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        if owner.switches:
            os.fchown(file.fileno(), owner.uid, owner.gid)
        file.write(text)
    fresh.replace(path)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
