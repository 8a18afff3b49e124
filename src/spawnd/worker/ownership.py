"""Who owns a workspace: a note beside it, and what becomes of one whose owner is dead.

A workspace is released only when its work is on record. One whose owner died is treated the same way by whoever
finds it, and one whose owner lives, or whose attempt somebody still holds, is never touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spawnd.contracts.control_plane import Assignment
from spawnd.errors import SpawndError
from spawnd.git.command import git_code
from spawnd.git.names import work_ref
from spawnd.git.workspace import reopen
from spawnd.process.orphans import kill_marked, start_time

if TYPE_CHECKING:
    from spawnd.worker.job import Job, Tools

log = logging.getLogger(__name__)

_SUFFIX = ".owner.json"
_LOCK_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Owner:
    """The note: everything that is needed to keep the work without asking its worker."""

    path: str
    mirror: str
    base_sha: str
    run_id: str
    agent: str
    attempt: int
    attempt_id: int
    mark: str
    worker_id: str
    hostname: str
    pid: int
    started: str | None
    #: The checkout is complete: only then what is missing was removed by the agent.
    ready: bool = False

    @classmethod
    def of(cls, job: Job, path: Path) -> Owner:
        assignment = job.assignment
        return cls(
            path=str(path),
            mirror=str(job.mirror),
            base_sha=str(job.base_sha),
            run_id=assignment.run_id,
            agent=assignment.agent,
            attempt=assignment.attempt,
            attempt_id=assignment.lease.attempt_id,
            mark=job.mark,
            worker_id=job.tools.worker_id,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            started=start_time(os.getpid()),
        )

    def write(self) -> None:
        """Before the workspace exists, so that there is none without a note."""
        note = note_of(Path(self.path))
        note.parent.mkdir(parents=True, exist_ok=True)
        fresh = note.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(note)

    @property
    def alive(self) -> bool:
        """Whether the process that made it still runs. The pid alone proves nothing: it may be another's by now."""
        if self.hostname != socket.gethostname():
            return True  # shared storage: only its own machine can tell
        return self.started is not None and start_time(self.pid) == self.started


def note_of(path: Path) -> Path:
    """Where the note of a workspace stands."""
    return path.with_name(f"{path.name}{_SUFFIX}")


def read_note(note: Path) -> Owner | None:
    try:
        return Owner(**json.loads(note.read_text()))
    except (OSError, ValueError, TypeError):
        return None


async def claim_path(tools: Tools, assignment: Assignment) -> Path:
    """Where this attempt's workspace goes: the same place for all attempts of an agent, if it is free.

    Sessions of some programs are bound to their working directory. What a dead attempt left there is kept first;
    what is still in use is left alone.
    """
    path = tools.settings.workspaces / assignment.run_id / assignment.agent
    if path.exists() or note_of(path).exists():
        owner = await asyncio.to_thread(read_note, note_of(path))
        if owner is not None and not owner.alive:
            await keep(owner)
    if path.exists():
        path = path.with_name(f"{path.name}~{assignment.attempt}")
    return path


async def keep(owner: Owner) -> bool:
    """Put a dead attempt's work on record in its mirror, end its processes, release its workspace.

    False if the work could not be kept; then everything stays where it is. Whoever comes second waits for the first.
    """
    async with _alone(owner) as first:
        return await _keep(owner) if first else True


@asynccontextmanager
async def _alone(owner: Owner) -> AsyncIterator[bool]:
    """Hold the owner's note, against every process of this machine; False if another has kept its work by then."""
    note = note_of(Path(owner.path))
    try:
        descriptor = os.open(note, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            await asyncio.sleep(_LOCK_POLL_SECONDS)
        # The note may be gone by now, or be that of the next attempt at the same place.
        yield note.exists() and note.stat().st_ino == os.fstat(descriptor).st_ino and read_note(note) == owner
    finally:
        os.close(descriptor)


async def _keep(owner: Owner) -> bool:
    await asyncio.to_thread(kill_marked, owner.mark)
    path, mirror = Path(owner.path), Path(owner.mirror)
    workspace = reopen(mirror, path, owner.base_sha)
    ref = work_ref(owner.run_id, owner.agent, owner.attempt)
    # Published already: its worker died while it released the workspace, which may be half gone. Not ready: it died
    # while it made it, which may be half there, and no agent has seen it.
    published, _, _ = await git_code("rev-parse", "--verify", "--quiet", ref, git_dir=mirror)
    if published != 0 and owner.ready and path.exists() and workspace.shadow.exists():
        try:
            snapshot = await workspace.snapshot(
                f"spawnd: {owner.run_id}/{owner.agent} (salvaged)",
                author=owner.agent,
                trailers={
                    "Spawnd-Run": owner.run_id,
                    "Spawnd-Agent": owner.agent,
                    "Spawnd-Attempt": str(owner.attempt),
                },
            )
            await workspace.publish(snapshot, ref)
        except (SpawndError, OSError) as error:
            log.error("an orphaned workspace could not be kept", extra={"path": owner.path, "error": str(error)})
            return False
    await discard(owner)
    log.info("an orphaned workspace was kept", extra={"path": owner.path, "agent": owner.agent})
    return True


async def discard(owner: Owner) -> None:
    """Release a workspace in which nothing is that is not on record, and its note."""
    path = Path(owner.path)
    await reopen(Path(owner.mirror), path, owner.base_sha).release()
    await asyncio.to_thread(note_of(path).unlink, missing_ok=True)


async def keep_orphans(tools: Tools) -> list[Owner]:
    """Everything that dead workers of this machine left and nobody holds; returns what was kept."""
    kept = []
    for note in await asyncio.to_thread(lambda: sorted(tools.settings.workspaces.glob(f"*/*{_SUFFIX}"))):
        owner = await asyncio.to_thread(read_note, note)
        if owner is None or owner.alive or await tools.plane.is_live(owner.attempt_id):
            continue
        if await keep(owner):
            kept.append(owner)
    return kept
