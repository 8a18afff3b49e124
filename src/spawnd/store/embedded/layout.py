"""Where the embedded database's files stand below the user's data directory, and who says so.

Knows paths and nothing of PostgreSQL.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

#: The socket's file name carries a port although nothing listens on one.
PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"

#: sun_path holds 104 bytes on macOS and 108 on Linux, the final NUL included; the lock file's name has 5 more.
MAX_SOCKET_DIR_BYTES = 103 - len(f"/{SOCKET_NAME}.lock")


@dataclass(frozen=True, slots=True)
class Record:
    """What the process that started the server wrote down for those that find it running."""

    #: Empty for the layout's own; a copied data directory must not lead to the original's server.
    elsewhere: str
    version: str
    origin: str
    #: This boot of this machine, where the system tells: a home directory may be on a network.
    boot: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one embedded database. ``home`` is absolute."""

    home: Path

    @property
    def base(self) -> Path:
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def unfinished(self) -> Path:
        """What ``initdb`` fills; it becomes ``data`` by one rename."""
        return self.base / "data.new"

    @property
    def sockets(self) -> Path:
        return self.base / "socket"

    @property
    def log(self) -> Path:
        return self.base / "server.log"

    @property
    def start_lock(self) -> Path:
        return self.base / "start.lock"

    @property
    def users_lock(self) -> Path:
        return self.base / "users.lock"

    @property
    def record(self) -> Path:
        return self.base / "server.json"

    @property
    def sockets_fit(self) -> bool:
        """Whether clients can name ``sockets``: short enough, and nothing that libpq reads as a list."""
        text = str(self.sockets)
        return len(os.fsencode(text)) <= MAX_SOCKET_DIR_BYTES and text.isprintable() and "," not in text

    def read_record(self) -> Record | None:
        """The record, or None where there is none that makes sense."""
        try:
            found = json.loads(self.record.read_text(encoding="utf-8"))
            return Record(**{field.name: str(found[field.name]) for field in fields(Record)})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_record(self, record: Record, *, uid: int, gid: int) -> None:
        """Replace the record in one step, for this user to read. The caller holds ``start.lock``."""
        fresh = self.record.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            if os.geteuid() == 0:
                os.fchown(file.fileno(), uid, gid)
            json.dump(asdict(record), file)
        fresh.replace(self.record)


def conninfo(socket_dir: str, *, user: str, database: str) -> str:
    """libpq's ``key=value`` form; quotes and backslashes in the path are escaped as libpq asks.

    ``hostaddr`` is given, empty, because PGHOSTADDR in the caller's environment would override the socket.
    """
    host = socket_dir.replace("\\", "\\\\").replace("'", "\\'")
    return f"host='{host}' hostaddr='' port={PORT} user={user} dbname={database}"
