"""The isolation boundary in which a runtime's processes, setup and checks run.

A ``Sandbox`` turns a ``Boundary`` into a ``Room``; a ``Room`` starts processes. Runtimes spawn through a
room only. A room's processes see: a read-only system, the boundary's workspace and writable folders, an empty
private home and temp, the environment given to ``spawn`` and nothing of the worker's, and the network that the
boundary names. Whatever is left running when the room closes is killed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol


class Network(StrEnum):
    """What a boundary lets through."""

    NONE = "none"  #: loopback of its own only
    FULL = "full"  #: the host's network


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for everything that runs in a room together. None means unbounded."""

    memory_mb: int | None = None
    pids: int | None = None
    cpus: float | None = None  #: rounded up to whole processors; a program that means to can leave them


@dataclass(frozen=True, slots=True)
class Boundary:
    """What a room may touch. ``workspace`` is writable and its working directory unless ``read_only``.

    ``writable`` are further folders that it may write (session state, caches); ``readable`` are folders that it
    may read although they lie under a hidden place as the home folder (an agent program's installation).
    ``state_dir`` (writable) becomes HOME, so that a provider's session files outlive the room; without it
    HOME is empty and private. ``hidden`` are folders of the worker (its data, mirrors, other workspaces, database
    sockets) of which nothing may be seen, except what the fields above open below them.
    """

    workspace: Path
    read_only: bool = False
    state_dir: Path | None = None
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    network: Network = Network.NONE
    limits: Limits = Limits()


class Child(Protocol):
    """A started process and all its descendants in their own process group."""

    pid: int

    def lines(self) -> AsyncIterator[bytes]:
        """Its standard output, a line at a time without the line end, whole or cut at the line bound."""
        ...

    async def wait(self) -> int:
        """The exit code once it has ended, negative for a signal. Reads and drops unread output."""
        ...

    def stderr_tail(self) -> bytes:
        """The last bytes that it wrote to standard error (bounded)."""
        ...

    async def write_stdin(self, data: bytes) -> None:
        """Write to standard input, if it was opened with ``stdin=True``."""
        ...

    async def close_stdin(self) -> None: ...

    async def stop(self, *, grace_seconds: float = 1.0) -> None:
        """SIGTERM to the group, then SIGKILL after the grace. Returns when none is left. Idempotent."""
        ...


class Room(Protocol):
    """An open sandbox."""

    home: Path  #: HOME inside the room

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdin: bool = False,
        merge_stderr: bool = False,
    ) -> AbstractAsyncContextManager[Child]:
        """Start a program. ``env`` is added to PATH, HOME, TMPDIR, LANG and USER, which the room sets.

        With ``stdin=False`` standard input is /dev/null. With ``merge_stderr`` standard error goes into
        ``lines``. Leaving the block stops the child's whole group.
        Raises ``errors.Unavailable`` if the program does not exist.
        """
        ...


class Sandbox(Protocol):
    """A way to open rooms."""

    name: ClassVar[str]
    #: True if writes, other workspaces and the worker's credentials are out of reach
    isolates: ClassVar[bool]

    @classmethod
    def problem(cls) -> str | None:
        """Why it can't be used on this machine, with what to do; None if it can. Cheap, cached."""
        ...

    def open(self, boundary: Boundary) -> AbstractAsyncContextManager[Room]: ...
