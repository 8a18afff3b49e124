"""Isolation by bubblewrap: namespaces of its own for everything, the system read-only, homes and temps empty.

Measured with bubblewrap 0.8 as root and as a user: 13 ms a start. The environment travels in bwrap's own
environment, never on its command line, where other users could read it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import ClassVar

from spawnd.contracts.sandbox import Boundary, Child, Network
from spawnd.errors import Unavailable
from spawnd.process.spawn import spawn
from spawnd.sandboxes.ground import base_environment
from spawnd.sandboxes.watch import Watch

#: Places of the host that a room sees empty: homes, temps, sockets of services.
_EMPTIED = ("/tmp", "/var/tmp", "/run", "/home", "/root", "/dev/shm", "/mnt", "/media", "/srv")
_PROBE_SECONDS = 5
#: Processes of bwrap's own around each program: one waits outside, one is the first of the namespace.
_OWN_PROCESSES = 2


class Bubblewrap:
    """See the module's text."""

    name: ClassVar[str] = "bubblewrap"
    isolates: ClassVar[bool] = True

    @classmethod
    def problem(cls) -> str | None:
        return _problem()

    @asynccontextmanager
    async def open(self, boundary: Boundary) -> AsyncIterator[WalledRoom]:
        scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="spawnd-room-"))
        try:
            async with Watch(boundary.limits) as watch:
                yield WalledRoom(boundary, scratch, watch)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True))


class WalledRoom:
    """Every program started here gets namespaces of its own with the same walls."""

    def __init__(self, boundary: Boundary, scratch: Path, watch: Watch) -> None:
        self._boundary = boundary
        self._watch = watch
        self._tmp = scratch / "tmp"
        self._tmp.mkdir()
        self.home = boundary.state_dir or scratch / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self._walls = _walls(boundary, self.home, self._tmp)

    @property
    def verdict(self) -> str | None:
        """Which limit ended something in this room, in words; None if none did."""
        return self._watch.verdict

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdin: bool = False,
        merge_stderr: bool = False,
    ) -> AbstractAsyncContextManager[Child]:
        return self._spawn(argv, env, cwd or self._boundary.workspace, stdin, merge_stderr)

    @asynccontextmanager
    async def _spawn(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, stdin: bool, merge_stderr: bool
    ) -> AsyncIterator[Child]:
        # /tmp inside is the room's own folder, so that programs started one after another can share it.
        whole = {**base_environment(self.home, Path("/tmp")), **env}
        if not _is_there(argv[0], whole.get("PATH", os.defpath), cwd, self._walls):
            raise Unavailable(
                f"There is no program {argv[0]!r} in the sandbox.", hint="Install it, or correct the PATH."
            )
        command = [_program(), *self._walls, "--chdir", str(cwd), "--", *argv]
        async with AsyncExitStack() as stack:
            child = await stack.enter_async_context(
                spawn(
                    command,
                    env=whole,
                    cwd=Path("/"),
                    stdin=stdin,
                    merge_stderr=merge_stderr,
                    processors=self._watch.processors,
                )
            )
            stack.callback(self._watch.forget, child.pid)
            self._watch.add(child.pid, walls=_OWN_PROCESSES)
            yield child


def _walls(boundary: Boundary, home: Path, tmp: Path) -> list[str]:
    """bwrap's arguments. Later ones lie over earlier ones: first everything is shut, then what is given opens."""
    walls = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if boundary.network is Network.FULL:
        walls.append("--share-net")
    walls += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    emptied = [Path(place) for place in _EMPTIED] + [_user_home(), *boundary.hidden]
    for place in _outermost(emptied):
        if place.is_dir() and not place.is_symlink():
            walls += ["--tmpfs", str(place)]
    if boundary.network is Network.FULL:
        walls += _resolver()
    walls += ["--bind", str(tmp), "/tmp"]
    for place in (*_interpreter(), *boundary.readable):
        if place.exists():
            walls += ["--ro-bind", str(place), str(place)]
    for place in (home, *boundary.writable):
        walls += ["--bind", str(place), str(place)]
    kind = "--ro-bind" if boundary.read_only else "--bind"
    return [*walls, kind, str(boundary.workspace), str(boundary.workspace)]


def _outermost(places: Sequence[Path]) -> list[Path]:
    """Without what lies inside another of them: covering the outer one covers it."""
    resolved = sorted({place.absolute() for place in places})
    kept: list[Path] = []
    for place in resolved:
        if place != Path("/") and not any(place.is_relative_to(outer) for outer in kept):
            kept.append(place)
    return kept


def _user_home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # no HOME and no entry in passwd
        return Path("/root")


def _interpreter() -> list[Path]:
    """Where spawnd's Python lives, if that is below a place that is emptied (a virtual environment at home)."""
    places = {Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parent.parent}
    return [place for place in sorted(places) if place not in (Path("/"), Path("/usr"))]


def _resolver() -> list[str]:
    """/etc/resolv.conf often points into /run, which is emptied: open just the file it means."""
    target = Path("/etc/resolv.conf").resolve()
    return ["--ro-bind", str(target), str(target)] if target.is_file() and target.is_relative_to("/run") else []


def _is_there(program: str, path: str, cwd: Path, walls: Sequence[str]) -> bool:
    """Whether a room has this program. bwrap only exits with 1 if it has not, as the program itself might."""
    if os.sep in program:
        place = _on_host(cwd / program, walls)
        return place is not None and shutil.which(place) is not None
    places = [_on_host(cwd / folder, walls) for folder in path.split(os.pathsep)]
    return any(place is not None and shutil.which(place / program) is not None for place in places)


def _on_host(inside: Path, walls: Sequence[str]) -> Path | None:
    """Where on the host lies what a room sees at a place; None if it is nothing of the host's."""
    inside = Path(os.path.normpath(inside))
    found: Path | None = None
    for index, word in enumerate(walls):  # later ones lie over earlier ones
        if word == "--tmpfs" and inside.is_relative_to(walls[index + 1]):
            found = None
        elif word in ("--bind", "--ro-bind") and inside.is_relative_to(walls[index + 2]):
            found = Path(walls[index + 1]) / inside.relative_to(walls[index + 2])
    return found


def _program() -> str:
    return shutil.which("bwrap") or "bwrap"


@functools.cache
def _problem() -> str | None:
    if sys.platform != "linux":
        return "bubblewrap exists on Linux only"
    if shutil.which("bwrap") is None:
        return "bwrap is not installed (Debian: apt-get install bubblewrap)"
    try:
        tried = subprocess.run(
            [_program(), "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", "/bin/true"],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bwrap does not run: {error}"
    if tried.returncode != 0:
        said = tried.stderr.decode(errors="replace").strip().splitlines()
        return f"bwrap cannot make namespaces here: {said[-1] if said else f'exit {tried.returncode}'}"
    return None
