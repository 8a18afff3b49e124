"""Start a program in a session of its own, read its output in bounds, and leave nothing of it behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from spawnd.errors import Unavailable
from spawnd.process.orphans import descendants

_CHUNK = 65536
_CUT = b" [cut: the line is longer than spawnd keeps]"
#: How long a program's last output may be on its way once it is dead; a daemon may hold its pipes open forever.
_LAST_WORDS_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much output is kept, in bytes. Beyond it output is read and dropped, so the program never blocks."""

    line: int = 1024 * 1024
    total: int = 64 * 1024 * 1024
    stderr_tail: int = 64 * 1024


class Process:
    """A running child; see ``contracts.sandbox.Child``. ``truncated`` says that output was dropped."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        pipes: _Pipes,
        bounds: Bounds,
        on_stop: Callable[[], None] | None,
    ) -> None:
        self.pid = transport.get_pid()
        self.truncated = False
        self._transport = transport
        self._ended = pipes.ended
        self._process = asyncio.subprocess.Process(transport, pipes, asyncio.get_running_loop())
        self._bounds = bounds
        self._on_stop = on_stop
        self._stderr = bytearray()
        self._kept = 0
        self._pump = asyncio.create_task(self._pump_stderr(), name=f"stderr-{self.pid}")

    async def lines(self) -> AsyncIterator[bytes]:
        stdout = self._process.stdout
        assert stdout is not None
        pending = bytearray()
        skipping = False  # the rest of a line that was cut
        while chunk := await stdout.read(_CHUNK):
            *whole, rest = chunk.split(b"\n")
            for part in whole:
                line = bytes(pending + part)
                pending.clear()
                if not skipping and (kept := self._keep(line)) is not None:
                    yield kept
                skipping = False
            if not skipping:
                pending += rest
            if len(pending) > self._bounds.line:
                if (kept := self._keep(bytes(pending))) is not None:
                    yield kept
                pending.clear()
                skipping = True
        if pending and (kept := self._keep(bytes(pending))) is not None:
            yield kept

    async def wait(self) -> int:
        unread = asyncio.create_task(self._drop_stdout(), name=f"stdout-{self.pid}")
        try:
            await self._ended.wait()
            await asyncio.wait([unread, self._pump], timeout=_LAST_WORDS_SECONDS)
        finally:
            unread.cancel()
            await asyncio.wait([unread])
        code = self._process.returncode
        assert code is not None
        return code

    def stderr_tail(self) -> bytes:
        return bytes(self._stderr)

    async def write_stdin(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have ended: its exit code tells
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def close_stdin(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await self._process.stdin.wait_closed()

    async def stop(self, *, grace_seconds: float = 1.0) -> None:
        # Who left the group by setsid is still below us now; once its parent is dead it is not.
        below = descendants(self.pid)
        if self._process.returncode is None:
            self._signal(signal.SIGTERM, below)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await self._ended.wait()
        self._signal(signal.SIGKILL, below | descendants(self.pid))
        if self._on_stop is not None:
            self._on_stop()
        await self._ended.wait()
        await asyncio.wait([self._pump], timeout=_LAST_WORDS_SECONDS)

    async def close(self) -> None:
        """Let go of the pipes, whoever holds their other ends. Stop it first."""
        self._transport.close()
        await asyncio.wait([self._pump])

    def _signal(self, number: signal.Signals, below: set[int]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _keep(self, line: bytes) -> bytes | None:
        line = line.removesuffix(b"\r")
        if len(line) > self._bounds.line:
            line = line[: self._bounds.line] + _CUT
            self.truncated = True
        self._kept += len(line) + 1
        if self._kept > self._bounds.total:
            self.truncated = True
            return None
        return line

    async def _drop_stdout(self) -> None:
        assert self._process.stdout is not None
        while await self._process.stdout.read(_CHUNK):
            pass

    async def _pump_stderr(self) -> None:
        """Keep the end of standard error until it closes."""
        if self._process.stderr is None:
            return
        while chunk := await self._process.stderr.read(_CHUNK):
            self._stderr += chunk
            del self._stderr[: -self._bounds.stderr_tail]


class _Pipes(asyncio.subprocess.SubprocessStreamProtocol):
    """asyncio's own, which also says when the program has ended: on 3.11, its ``wait`` lasts until the pipes close."""

    def __init__(self) -> None:
        super().__init__(limit=_CHUNK, loop=asyncio.get_running_loop())
        self.ended = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.ended.set()


@asynccontextmanager
async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: bool = False,
    merge_stderr: bool = False,
    bounds: Bounds | None = None,
    pass_fds: Sequence[int] = (),
    on_stop: Callable[[], None] | None = None,
    processors: Collection[int] = (),
) -> AsyncIterator[Process]:
    """Start ``argv`` with exactly ``env``. Leaving the block stops whatever is left of it.

    The child dies with this process where `setpriv` is there to ask the kernel for it, and keeps to ``processors``
    (all, if none is named) where `taskset` is there to bind it. ``on_stop`` is called once everything was signalled.
    Raises ``errors.Unavailable`` if the program is not there.
    """
    bounds = bounds or Bounds()
    # The child looks for ./run.sh where it is started, which is not where we are.
    wanted = str(cwd.absolute() / argv[0]) if cwd is not None and os.sep in argv[0] else argv[0]
    program = shutil.which(wanted, path=env.get("PATH", os.defpath))
    if program is None:
        raise Unavailable(f"There is no program {argv[0]!r}.", hint="Install it, or correct the PATH.")
    try:
        transport, pipes = await asyncio.get_running_loop().subprocess_exec(
            _Pipes,
            *_with_parent(),
            *_bound(processors),
            program,
            *argv[1:],
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if merge_stderr else asyncio.subprocess.PIPE,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
    except OSError as error:
        raise Unavailable(f"{argv[0]} cannot be started: {error.strerror}.") from error
    child = Process(transport, pipes, bounds, on_stop)
    try:
        yield child
    finally:
        await _finish(child)


async def _finish(child: Process) -> None:
    """Stop the group whatever happens to us meanwhile: a second cancellation must not leave it running."""
    stopping = asyncio.ensure_future(child.stop())
    cancelled: asyncio.CancelledError | None = None
    while not stopping.done():
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError as error:
            cancelled = error
    await child.close()
    stopping.result()
    if cancelled is not None:
        raise cancelled


def _with_parent() -> list[str]:
    # PR_SET_PDEATHSIG by way of setpriv: a preexec_fn is not safe in a process with threads.
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _bound(processors: Collection[int]) -> list[str]:
    taskset = shutil.which("taskset") if processors else None
    return [taskset, "-c", ",".join(map(str, processors))] if taskset else []
