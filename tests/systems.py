"""A whole spawnd over the test's own schema and data directory: submit plans, run workers, look at what happened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from spawnd import assembly
from spawnd.contracts.client import Client
from spawnd.plan.compile import compile_plan
from spawnd.plan.load import load
from spawnd.settings import Settings
from spawnd.wire.events import EventRow
from spawnd.wire.runs import AgentRow, RunDocument
from spawnd.worker.loop import Worker

#: No test waits longer than this for anything; a test that does has failed.
PATIENCE_SECONDS = 60


def make_repository(path: Path, files: dict[str, str] | None = None) -> Path:
    """A git repository with one commit."""
    path.mkdir(parents=True)
    for name, text in (files or {"README.md": "one\ntwo\nthree\n"}).items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    git(path, "init", "-q", "-b", "main")
    git(path, "add", "-A")
    git(path, "commit", "-qm", "first")
    return path


def git(cwd: Path, *args: str) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@t",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@t",
    }
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **identity}
    return subprocess.run(["git", *args], cwd=cwd, env=env, check=True, capture_output=True, text=True).stdout


class System:
    """One installation, with everything in this process."""

    def __init__(self, settings: Settings, backends: assembly.Backends, client: Client, repo: Path) -> None:
        self.settings = settings
        self.backends = backends
        self.client = client
        self.repo = repo

    async def submit(self, plan: str, **more: Any) -> str:
        compiled = compile_plan(load(plan))
        submitted = await self.client.submit(compiled, source_repo=str(self.repo), source_ref=None, **more)
        return submitted.run_id

    async def finish(self, plan: str, **worker: Any) -> RunDocument:
        """Submit, work until the run has ended, and return how."""
        run_id = await self.submit(plan)
        return await self.work(run_id, **worker)

    async def work(self, run_id: str, **worker: Any) -> RunDocument:
        """A worker of its own until the run has ended."""
        async with self.worker(**worker):
            return await self.ended(run_id)

    @asynccontextmanager
    async def worker(self, *, slots: int = 4, **options: Any) -> AsyncIterator[Worker]:
        async with assembly.open_worker(self.settings, slots=slots, backends=self.backends, **options) as worker:
            serving = asyncio.create_task(worker.run())
            try:
                yield worker
            finally:
                worker.stop()
                await serving

    async def ended(self, run_id: str) -> RunDocument:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for _ in self.client.follow(run_id):
                pass
            return await self.client.run(run_id)

    async def until(self, run_id: str, wanted: Callable[[EventRow], bool]) -> EventRow:
        """The first event that is wanted, waiting for it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            events = self.client.follow(run_id)
            async with contextlib.aclosing(events):  # type: ignore[type-var]
                async for event in events:
                    if wanted(event):
                        return event
        raise AssertionError("the run ended without the event")

    async def events(self, run_id: str) -> list[EventRow]:
        return list(await self.client.events(run_id, limit=100_000))

    async def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        async with self.backends.database.connection() as connection:
            return await connection.rows(query, list(values))


def agent(document: RunDocument, name: str) -> AgentRow:
    return next(row for row in document.agents if row.name == name)


@asynccontextmanager
async def open_system(settings: Settings, repo: Path) -> AsyncIterator[System]:
    async with (
        assembly.open_backends(settings) as backends,
        assembly.open_client(settings, backends=backends) as client,
    ):
        yield System(settings, backends, client, repo)
