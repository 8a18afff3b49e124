"""One command line of a plan in a room: setup and checks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from spawnd.contracts.sandbox import Boundary
from spawnd.errors import Unavailable
from spawnd.worker.job import Job

_OUTPUT_MAX = 16 * 1024 * 1024
_TAIL_CHARS = 4000


@dataclass(frozen=True, slots=True)
class Result:
    """``exit_code`` is None when the time limit was hit. ``output`` keeps its beginning and its end."""

    exit_code: int | None
    output: bytes
    truncated: bool

    @property
    def timed_out(self) -> bool:
        return self.exit_code is None

    @property
    def tail(self) -> str:
        """The end of the output, for people and for the next prompt."""
        return self.output[-4 * _TAIL_CHARS :].decode("utf-8", "replace")[-_TAIL_CHARS:].strip()


async def run(job: Job, boundary: Boundary, command: str, *, timeout_seconds: float, env: Mapping[str, str]) -> Result:
    """Run ``command`` by the shell; standard error goes into the output."""
    head: list[bytes] = []
    tail: deque[bytes] = deque()
    sizes = [0, 0]
    dropped = 0
    code: int | None = None
    async with job.tools.sandbox.open(boundary) as room:
        try:
            async with asyncio.timeout(timeout_seconds):
                spawned = room.spawn(["/bin/sh", "-c", command], env={**job.variables(), **env}, merge_stderr=True)
                async with spawned as child:
                    async for line in child.lines():
                        if sizes[0] + len(line) < _OUTPUT_MAX // 2 and not tail:
                            head.append(line)
                            sizes[0] += len(line) + 1
                            continue
                        tail.append(line)
                        sizes[1] += len(line) + 1
                        while sizes[1] > _OUTPUT_MAX // 2:
                            sizes[1] -= len(tail.popleft()) + 1
                            dropped += 1
                    code = await child.wait()
        except TimeoutError:
            tail.append(f"[spawnd: stopped after {timeout_seconds:g} s]".encode())
        except Unavailable as error:
            code = 127
            tail.append(error.message.encode())
    if dropped:
        head.append(f"[spawnd: {dropped} lines left out]".encode())
    return Result(code, b"\n".join([*head, *tail]) + b"\n", bool(dropped))
