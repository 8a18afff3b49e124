"""No isolation: plain processes with a clean environment. For trusted commands, and for workers isolated already."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import ClassVar

from spawnd.contracts.sandbox import Boundary, Child
from spawnd.process.spawn import spawn
from spawnd.sandboxes.ground import base_environment
from spawnd.sandboxes.watch import Watch


class NoSandbox:
    """Honours the environment, the private home and temp, and the limits; nothing else of a boundary."""

    name: ClassVar[str] = "none"
    isolates: ClassVar[bool] = False

    @classmethod
    def problem(cls) -> str | None:
        return None

    @asynccontextmanager
    async def open(self, boundary: Boundary) -> AsyncIterator[PlainRoom]:
        scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="spawnd-room-"))
        try:
            async with Watch(boundary.limits) as watch:
                yield PlainRoom(boundary, scratch, watch)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True))


class PlainRoom:
    """A room without walls."""

    def __init__(self, boundary: Boundary, scratch: Path, watch: Watch) -> None:
        self._boundary = boundary
        self._watch = watch
        self._tmp = scratch / "tmp"
        self._tmp.mkdir()
        self.home = boundary.state_dir or scratch / "home"
        self.home.mkdir(parents=True, exist_ok=True)

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
        whole = {**base_environment(self.home, self._tmp), **env}
        async with AsyncExitStack() as stack:
            child = await stack.enter_async_context(
                spawn(
                    argv,
                    env=whole,
                    cwd=cwd,
                    stdin=stdin,
                    merge_stderr=merge_stderr,
                    processors=self._watch.processors,
                )
            )
            stack.callback(self._watch.forget, child.pid)
            self._watch.add(child.pid)
            yield child
