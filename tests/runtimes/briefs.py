"""Short words for the tests of runtimes: a brief, a real room without walls, and programs that play a recording."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spawnd.contracts.runtime import Brief, Finished, Probe, Runtime, RuntimeEvent, UsageReported
from spawnd.contracts.sandbox import Boundary
from spawnd.domain.usage import Usage
from spawnd.sandboxes.none import NoSandbox


def brief(path: Path, **fields: Any) -> Brief:
    workspace, state = path / "workspace", path / "state"
    for folder in (workspace, state):
        folder.mkdir(exist_ok=True)
    given = {"run_id": "run-1", "agent": "a", "attempt": 1, "prompt": "do it", **fields}
    return Brief(workspace=workspace, state_dir=state, **given)


async def play(runtime: Runtime, told: Brief) -> list[RuntimeEvent]:
    """Everything that a runtime reports; it must end with the one ``Finished``."""
    async with NoSandbox().open(Boundary(told.workspace)) as room:
        events = [event async for event in runtime.run(told, room)]
    assert [isinstance(event, Finished) for event in events] == [False] * (len(events) - 1) + [True]
    return events


def of(kind: type, events: Sequence[RuntimeEvent]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def ended(events: Sequence[RuntimeEvent]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished)
    return last


def used(events: Sequence[RuntimeEvent]) -> Usage:
    usage: Usage = of(UsageReported, events)[-1].usage
    return usage


def program(path: Path, lines: Sequence[Any], *, code: int = 0, script: str = "") -> Probe:
    """A program that reads its standard input, runs ``script``, prints the lines, and ends with ``code``."""
    recording = path / "recording"
    recording.write_bytes(
        b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines)
    )
    played = path / "program"
    played.write_text(f'#!/bin/sh\ncat > "{path}/stdin"\n{script}\ncat "{recording}"\nexit {code}\n')
    played.chmod(0o755)
    return Probe(installed=True, ready=True, program=played, version="1.2.3")
