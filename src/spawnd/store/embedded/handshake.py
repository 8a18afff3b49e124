"""The few messages of PostgreSQL's protocol that ask a server how it is, without a driver.

Loading psycopg takes 130 ms; this takes the 2 ms of one connection. It is also how the database itself is
made, on the first start. It speaks to a Unix socket alone and knows no password.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spawnd.errors import Unavailable

_PROTOCOL_3_0: Final = 196608

#: Starting up, shutting down, recovering (57P03); stopped under us (57P01, 57P02).
_BUSY: Final = frozenset({"57P01", "57P02", "57P03"})
#: Out of connections: the server lives, and has said so.
_FULL: Final = "53300"
#: No such role, no such database: what a start that was cut off after ``initdb`` leaves.
_UNPREPARED: Final = frozenset({"28000", "3D000"})


class Condition(StrEnum):
    """How a server answered."""

    READY = "ready"  #: it takes queries
    FULL = "full"  #: it lives, with every connection in use
    BUSY = "busy"  #: it is starting, recovering or stopping: ask again
    UNPREPARED = "unprepared"  #: it takes queries, but our role or database is missing
    ABSENT = "absent"  #: nobody listens there
    REFUSED = "refused"  #: it does not let us in
    SILENT = "silent"  #: it took the connection and says nothing


@dataclass(frozen=True, slots=True)
class Answer:
    """``pid`` is the postmaster's, from the kernel; None where the kernel does not tell."""

    condition: Condition
    pid: int | None = None
    version: str | None = None
    message: str = ""


class _ServerError(Exception):
    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message


def ask(socket_path: str, *, user: str, database: str, timeout_seconds: float = 5.0) -> Answer:
    """Connect as ``user`` to ``database``, wait until it would take a query, and hang up."""
    with _Connection(timeout_seconds) as connection:
        try:
            connection.open(socket_path)
        except PermissionError as error:
            return Answer(Condition.REFUSED, message=str(error))
        except BlockingIOError:  # its queue of connections is full
            return Answer(Condition.BUSY)
        except TimeoutError:
            return Answer(Condition.SILENT)
        except OSError:  # no such socket, no listener, or no path that a socket could have
            return Answer(Condition.ABSENT)
        try:
            connection.log_in(user, database)
        except TimeoutError:
            return Answer(Condition.SILENT, connection.pid)
        except OSError:  # it went away in mid-sentence
            return Answer(Condition.BUSY, connection.pid)
        except _ServerError as error:
            condition = _condition(error.sqlstate, admitted=connection.admitted)
            return Answer(condition, connection.pid, connection.version, error.message)
        return Answer(Condition.READY, connection.pid, connection.version)


def execute(socket_path: str, statements: Sequence[str], *, user: str, database: str) -> None:
    """Run statements one by one. Raises ``Unavailable`` at the first that fails."""
    with _Connection(60.0) as connection:
        try:
            connection.open(socket_path)
            connection.log_in(user, database)
            for statement in statements:
                connection.query(statement)
        except (OSError, _ServerError) as error:
            raise Unavailable(f"The embedded database could not be prepared: {error}") from error


def _condition(sqlstate: str, *, admitted: bool) -> Condition:
    if sqlstate in _BUSY:
        return Condition.BUSY
    if sqlstate == _FULL:
        return Condition.FULL
    if admitted and sqlstate in _UNPREPARED:
        return Condition.UNPREPARED
    return Condition.REFUSED


class _Connection:
    def __init__(self, timeout_seconds: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_seconds)
        self._unread = bytearray()
        self.pid: int | None = None
        self.version: str | None = None
        self.admitted = False

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def open(self, path: str) -> None:
        self._socket.connect(path)
        self.pid = _listener(self._socket)

    def log_in(self, user: str, database: str) -> None:
        body = struct.pack("!i", _PROTOCOL_3_0)
        for name, value in (("user", user), ("database", database), ("application_name", "spawnd probe")):
            body += name.encode() + b"\0" + value.encode() + b"\0"
        self._socket.sendall(struct.pack("!i", len(body) + 5) + body + b"\0")
        self._until_ready()

    def query(self, statement: str) -> None:
        body = statement.encode() + b"\0"
        self._socket.sendall(b"Q" + struct.pack("!i", len(body) + 4) + body)
        self._until_ready()

    def _until_ready(self) -> None:
        while True:
            kind, body = self._message()
            if kind == b"Z":
                return
            if kind == b"E":
                raise _parse_error(body)
            if kind == b"R":
                if struct.unpack_from("!i", body)[0] != 0:
                    raise _ServerError("28000", "it asks for a password")
                self.admitted = True
            elif kind == b"S":
                name, value = body.split(b"\0")[:2]
                if name == b"server_version":
                    self.version = value.decode()

    def _message(self) -> tuple[bytes, bytes]:
        header = self._take(5)
        return header[:1], self._take(struct.unpack_from("!i", header, 1)[0] - 4)

    def _take(self, count: int) -> bytes:
        while len(self._unread) < count:
            chunk = self._socket.recv(8192)
            if not chunk:
                raise ConnectionResetError("the server hung up")
            self._unread += chunk
        taken = bytes(self._unread[:count])
        del self._unread[:count]
        return taken


def _parse_error(body: bytes) -> _ServerError:
    fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0") if field}
    return _ServerError(fields.get(b"C", ""), fields.get(b"M", ""))


def _listener(connected: socket.socket) -> int | None:
    """The process that listens at the other end. It cannot lie and cannot be stale, unlike a pid file."""
    if sys.platform == "linux":
        packed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid = int(struct.unpack("3i", packed)[0])
    elif sys.platform == "darwin":
        pid = int.from_bytes(connected.getsockopt(0, 2, 4), sys.byteorder)  # SOL_LOCAL, LOCAL_PEERPID
    else:
        return None
    return pid or None  # 0: it lives in another pid namespace
