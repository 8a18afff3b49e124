"""Short words for the tests of rooms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spawnd.contracts.sandbox import Boundary, Child, Room, Sandbox
from spawnd.process.orphans import marked

#: Nothing that was killed may take longer to be gone.
SOON = 5


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    lines: list[str]


async def shell(room: Room, script: str, **options: Any) -> Ran:
    """What a script prints, on either output, and how it ends."""
    async with room.spawn(["sh", "-c", script], env=options.pop("env", {}), merge_stderr=True, **options) as child:
        lines = [line.decode() async for line in child.lines()]
        return Ran(await child.wait(), lines)


async def once(sandbox: Sandbox, workspace: Path, script: str, *, env: Any = None, **boundary: Any) -> Ran:
    """A script in a room of its own."""
    async with sandbox.open(Boundary(workspace, **boundary)) as room:
        return await shell(room, script, env=env or {})


@asynccontextmanager
async def running(room: Room, script: str, *, lines: int = 1, **env: str) -> AsyncIterator[tuple[Child, list[str]]]:
    """A script that has printed so many lines and goes on."""
    async with room.spawn(["sh", "-c", script], env=env, merge_stderr=True) as child:
        said: list[str] = []
        async for line in child.lines():
            said.append(line.decode())
            if len(said) == lines:
                break
        yield child, said


async def nothing_left_of(mark: str) -> None:
    async with asyncio.timeout(SOON):
        while marked(mark):
            await asyncio.sleep(0.01)
