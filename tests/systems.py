"""A whole spawnd over the test's own schema and data directory: submit plans, run workers, look at what happened."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
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

    async def events(self, run_id: str) -> list[EventRow]:
        return list(await self.client.events(run_id, limit=100_000))

    async def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        async with self.backends.database.connection() as connection:
            return await connection.rows(query, list(values))

    async def event(self, run_id: str, type_: str, *, after: int = 0, agent: str = "", **data: Any) -> EventRow:
        """Wait for an event of that type whose data has these values."""
        return await self.when(
            run_id,
            lambda one: (
                one.type == type_
                and (not agent or one.agent == agent)
                and all(one.data.get(key) == value for key, value in data.items())
            ),
            after=after,
        )

    async def when(self, run_id: str, wanted: Callable[[EventRow], bool], *, after: int = 0) -> EventRow:
        seen = []
        try:
            async with (
                asyncio.timeout(PATIENCE_SECONDS),
                aclosing(self.client.follow(run_id, after=after)) as events,  # type: ignore[type-var]
            ):
                async for one in events:
                    seen.append(f"{one.seq} {one.agent} {one.type} {one.data}")
                    if wanted(one):
                        return one
        except TimeoutError:
            seen.append("[nothing more]")
        raise AssertionError("it never happened:\n" + "\n".join(seen))

    async def agent(self, run_id: str, name: str) -> AgentRow:
        return next(row for row in (await self.client.run(run_id)).agents if row.name == name)

    async def artifact(self, run_id: str, kind: str, *, agent: str | None = None, attempt: int | None = None) -> str:
        """The text of the last artifact of that kind."""
        rows = (await self.client.artifacts(run_id, agent=agent)).artifacts
        found = [row for row in rows if row.kind == kind and attempt in (None, row.attempt)]
        assert found, f"no {kind} among {[(row.agent, row.kind) for row in rows]}"
        return (await self.client.artifact_bytes(found[-1].sha256)).decode()

    @property
    def mirror(self) -> Path:
        return assembly.mirrors(self.settings).path(str(self.repo))

    async def files(self, run_id: str, agent: str) -> dict[str, str]:
        """The files that an agent's last attempt left on record, as they are in the mirror."""
        row = (await self.client.provenance(run_id, agent=agent)).provenance[-1]
        return self.tree(row.head_sha)

    def tree(self, commit: str) -> dict[str, str]:
        names = git(self.mirror, "ls-tree", "-r", "--name-only", commit).splitlines()
        return {name: git(self.mirror, "show", f"{commit}:{name}") for name in names}

    async def execute(self, query: str, *params: Any) -> None:
        async with self.backends.database.connection() as connection:
            await connection.run(query, list(params))

    async def advance(self, seconds: float) -> None:
        """Move the database's clock."""
        await self.execute("UPDATE clock_shift SET shift = shift + make_interval(secs => %s)", seconds)

    def workspace(self, run_id: str, agent: str) -> Path:
        return self.settings.workspaces / run_id / agent

    async def check_books(self, run_id: str) -> None:
        """Counters equal counts, events are gapless, leases and usage agree with what they are of."""
        (run,) = await self.rows("SELECT * FROM runs WHERE run_id = %s", run_id)
        states = [row["state"] for row in await self.rows("SELECT state FROM agents WHERE run = %s", run["id"])]
        open_states = ("blocked", "ready", "running", "waiting")
        assert run["agents_total"] == len(states)
        assert run["agents_open"] == sum(state in open_states for state in states)
        assert run["agents_ready"] == states.count("ready")
        assert run["agents_running"] == states.count("running")
        seqs = [row["seq"] for row in await self.rows("SELECT seq FROM events WHERE run = %s ORDER BY seq", run["id"])]
        assert seqs == list(range(1, run["last_seq"] + 1))
        (leases,) = await self.rows("SELECT count(*) AS n FROM leases WHERE run = %s", run["id"])
        assert leases["n"] == run["agents_running"]
        (spent,) = await self.rows("SELECT coalesce(sum(cost_usd), 0) AS n FROM usage WHERE run = %s", run["id"])
        assert run["spent_usd"] == spent["n"]


def one(name: str, **fields: Any) -> dict[str, Any]:
    """An agent of a plan."""
    return {"name": name, "prompt": f"do {name}", **fields}


def plan(*agents: dict[str, Any], orchestration: Any = None, defaults: Any = None, **top: Any) -> str:
    """A plan of command agents whose commands nobody judges."""
    return json.dumps(
        {
            "name": "test",
            "defaults": {"runtime": "command", **(defaults or {})},
            "orchestration": {"command_policy": {"mode": "unrestricted"}, **(orchestration or {})},
            **top,
            "agents": agents,
        }
    )


def processes_of(run_id: str) -> set[int]:
    """Every process of this machine that works for the run, wherever it has gone to."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"SPAWND_RUN_ID={run_id}\0".encode() in (entry / "environ").read_bytes():
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def agent(document: RunDocument, name: str) -> AgentRow:
    return next(row for row in document.agents if row.name == name)


@asynccontextmanager
async def open_system(settings: Settings, repo: Path) -> AsyncIterator[System]:
    async with (
        assembly.open_backends(settings) as backends,
        assembly.open_client(settings, backends=backends) as client,
    ):
        yield System(settings, backends, client, repo)
