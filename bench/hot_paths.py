"""The hot paths, each beside its baseline in the same run, as ratios.

    .venv/bin/python bench/hot_paths.py [claims latency events workspace] [--quick]

claims      agents claimed and finished a second: mock agents in this process, 16 slots, one worker; the baseline is a
            raw psycopg loop on 16 connections: for each agent a commit that takes it and one that ends it, each a
            single statement that writes the agent, its attempt, lease, event and its run's counters
latency     from the submission to the claim by an idle worker; the baseline is a raw INSERT, NOTIFY and
            that raw claim
events      events appended a second, in the batches that a worker sends; the baseline is raw INSERTs of such batches
workspace   a checkout of 5,000 files; the baseline is `git worktree add`
For the start-up of the command line see bench/cli_startup.py. All on the embedded PostgreSQL in a directory of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

from spawnd import assembly
from spawnd.artifacts.local import LocalArtifacts
from spawnd.contracts.bus import Topic
from spawnd.contracts.client import Client
from spawnd.contracts.control_plane import Assignment, Capability
from spawnd.control.plane import DirectPlane
from spawnd.domain.facts import Said
from spawnd.domain.settle import Succeeded
from spawnd.git.mirrors import Mirrors
from spawnd.git.workspace import checkout
from spawnd.plan.compile import compile_plan
from spawnd.plan.compiled import CompiledPlan
from spawnd.plan.load import load
from spawnd.settings import Settings
from spawnd.store.embedded import EmbeddedPostgres

SLOTS = 16
BATCH = 20


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the hot paths.")
    parser.add_argument("what", nargs="*", default=[])
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, for a first look")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[Settings, str, float], Awaitable[None]]] = {
        "claims": claims,
        "latency": latency,
        "events": events,
        "workspace": workspace,
    }
    scale = 0.1 if arguments.quick else 1.0
    with tempfile.TemporaryDirectory(prefix="spawnd-bench-") as scratch:
        settings = Settings.load(home=Path(scratch, "home"), database_url=None)
        server = EmbeddedPostgres(settings.home, environ=os.environ)
        conninfo = server.start()
        try:
            print(f"{'':<12}{'spawnd':>14}{'baseline':>14}{'ratio':>8}")
            for name in arguments.what or parts:
                asyncio.run(parts[name](settings, conninfo, scale))
        finally:
            server.close()
    return 0


def report(name: str, ours: float, baseline: float, unit: str) -> None:
    print(f"{name:<12}{ours:>11.1f} {unit:<3}{baseline:>10.1f} {unit:<3}{ours / baseline:>7.2f}", flush=True)


# -- claims -------------------------------------------------------------------------------------------------------


async def claims(settings: Settings, conninfo: str, scale: float) -> None:
    count = int(4000 * scale)
    async with planes(settings) as (client, plane):
        # As many runs as a busy fleet has: one run's agents are claimed under one row.
        for number in range(10):
            await client.submit(plan(f"claims {number}", count // 10), source_repo="/nowhere", source_ref=None)
        began = time.perf_counter()
        await serve(plane)
        ours = count / (time.perf_counter() - began)
    report("claims", ours, await raw_claims(conninfo, count), "/s")


async def serve(plane: DirectPlane) -> None:
    """One worker with 16 slots whose agents take no time."""
    who = Capability("bench", frozenset(), frozenset({"mock"}), SLOTS)
    free, running = SLOTS, set[asyncio.Task[None]]()

    async def work(one: Assignment) -> None:
        await plane.finish(one.lease, Succeeded("done"))

    async with asyncio.TaskGroup() as group:
        while True:
            claimed = await plane.claim(who, want=free, lease_seconds=30) if free else []
            for one in claimed:
                running.add(group.create_task(work(one)))
            if not claimed and not running:
                return
            if running:
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            free = SLOTS - len(running)


_RAW_TABLES = """
DROP SCHEMA IF EXISTS raw CASCADE;
CREATE SCHEMA raw;
CREATE TABLE raw.runs (id bigint PRIMARY KEY, running int NOT NULL, open int NOT NULL, last_seq bigint NOT NULL);
CREATE TABLE raw.agents (id bigint PRIMARY KEY, run bigint NOT NULL REFERENCES raw.runs, state text NOT NULL);
CREATE INDEX ON raw.agents (id) WHERE state = 'ready';
CREATE TABLE raw.attempts (agent bigint PRIMARY KEY REFERENCES raw.agents, state text NOT NULL, token bigint NOT NULL);
CREATE TABLE raw.leases (agent bigint PRIMARY KEY REFERENCES raw.agents, token bigint NOT NULL, expires_at timestamptz);
CREATE TABLE raw.events (run bigint, seq bigint, at timestamptz, type text, data jsonb, PRIMARY KEY (run, seq));
CREATE SEQUENCE raw.tokens;
"""

_RAW_CLAIM = """
WITH one AS (SELECT id, run FROM raw.agents WHERE state = 'ready' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED),
taken AS (UPDATE raw.agents a SET state = 'running' FROM one WHERE a.id = one.id RETURNING a.id, a.run),
attempt AS (INSERT INTO raw.attempts SELECT id, 'claimed', nextval('raw.tokens') FROM taken RETURNING agent, token),
lease AS (INSERT INTO raw.leases SELECT agent, token, now() + '30 s' FROM attempt),
counted AS (UPDATE raw.runs r SET running = running + 1, last_seq = last_seq + 1 FROM taken WHERE r.id = taken.run
            RETURNING r.id, r.last_seq),
event AS (INSERT INTO raw.events SELECT id, last_seq, now(), 'agent_claimed', '{"worker_id": "w"}' FROM counted)
SELECT agent, token FROM attempt
"""

_RAW_FINISH = """
WITH gone AS (DELETE FROM raw.leases WHERE agent = %(agent)s AND token = %(token)s RETURNING agent),
ended AS (UPDATE raw.attempts t SET state = 'succeeded' FROM gone WHERE t.agent = gone.agent RETURNING t.agent),
done AS (UPDATE raw.agents a SET state = 'completed' FROM ended WHERE a.id = ended.agent RETURNING a.run),
counted AS (UPDATE raw.runs r SET running = running - 1, open = open - 1, last_seq = last_seq + 1 FROM done
            WHERE r.id = done.run RETURNING r.id, r.last_seq)
INSERT INTO raw.events SELECT id, last_seq, now(), 'agent_completed', '{}' FROM counted
"""


async def raw_claims(conninfo: str, count: int) -> float:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as setup:
        await setup.execute(_RAW_TABLES)
        await setup.execute("INSERT INTO raw.runs SELECT i, 0, %s, 0 FROM generate_series(0, 9) i", [count // 10])
        await setup.execute("INSERT INTO raw.agents SELECT i, i %% 10, 'ready' FROM generate_series(1, %s) i", [count])

    async def slot() -> None:
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            while row := await (await connection.execute(_RAW_CLAIM)).fetchone():
                await connection.execute(_RAW_FINISH, {"agent": row[0], "token": row[1]})

    began = time.perf_counter()
    await asyncio.gather(*(slot() for _ in range(SLOTS)))
    return count / (time.perf_counter() - began)


# -- latency ------------------------------------------------------------------------------------------------------


async def latency(settings: Settings, conninfo: str, scale: float) -> None:
    rounds = max(10, int(100 * scale))
    who = Capability("idle", frozenset(), frozenset({"mock"}), SLOTS)
    taken = []
    async with planes(settings) as (client, plane):
        for number in range(rounds):
            heard = asyncio.create_task(next_claim(plane, who))
            await asyncio.sleep(0.02)  # idle, as a waiting worker is
            began = time.perf_counter()
            await client.submit(plan(f"latency {number}", 1), source_repo="/nowhere", source_ref=None)
            one = await heard
            taken.append(time.perf_counter() - began)
            await plane.finish(one.lease, Succeeded("done"))
    raw = await raw_latency(conninfo, rounds)
    report("latency", statistics.median(taken) * 1000, statistics.median(raw) * 1000, "ms")


async def next_claim(plane: DirectPlane, who: Capability) -> Assignment:
    while True:
        if claimed := await plane.claim(who, want=1, lease_seconds=30):
            return claimed[0]
        await plane.wait_for_work(timeout_seconds=5)


async def raw_latency(conninfo: str, rounds: int) -> list[float]:
    connect = psycopg.AsyncConnection.connect
    async with (
        await connect(conninfo, autocommit=True) as writer,
        await connect(conninfo, autocommit=True) as listener,
        await connect(conninfo, autocommit=True) as claimer,
    ):
        await writer.execute(_RAW_TABLES)
        await listener.execute("LISTEN raw_queue")
        taken = []
        for number in range(rounds):
            heard = asyncio.create_task(_raw_claim(listener, claimer))
            await asyncio.sleep(0.02)
            began = time.perf_counter()
            await writer.execute(
                "WITH run AS (INSERT INTO raw.runs VALUES (%(n)s, 0, 1, 1) RETURNING id),"
                " event AS (INSERT INTO raw.events VALUES (%(n)s, 1, now(), 'run_created', '{}'))"
                " INSERT INTO raw.agents SELECT %(n)s, id, 'ready' FROM run",
                {"n": number},
            )
            await writer.execute("NOTIFY raw_queue")
            await heard
            taken.append(time.perf_counter() - began)
        return taken


async def _raw_claim(
    listener: psycopg.AsyncConnection[tuple[object, ...]], claimer: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    async for _ in listener.notifies(stop_after=1):
        pass
    await claimer.execute(_RAW_CLAIM)


# -- events -------------------------------------------------------------------------------------------------------


async def events(settings: Settings, conninfo: str, scale: float) -> None:
    count = int(20_000 * scale)
    async with planes(settings) as (client, plane):
        await client.submit(plan("events", 8), source_repo="/nowhere", source_ref=None)
        who = Capability("events", frozenset(), frozenset({"mock"}), SLOTS)
        claimed = await plane.claim(who, want=8, lease_seconds=600)
        each = count // len(claimed) // BATCH
        began = time.perf_counter()
        await asyncio.gather(*(append(plane, one, each) for one in claimed))
        ours = each * BATCH * len(claimed) / (time.perf_counter() - began)
        for one in claimed:
            await plane.finish(one.lease, Succeeded("done"))
    report("events", ours, await raw_events(conninfo, count), "/s")


async def append(plane: DirectPlane, one: Assignment, batches: int) -> None:
    for number in range(batches):
        await plane.record(one.lease, number * BATCH + 1, [Said("assistant", "a line of words")] * BATCH)


async def raw_events(conninfo: str, count: int) -> float:
    """The same rows (a message and an event each) in batches, one commit a batch, eight connections."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as setup:
        await setup.execute("DROP TABLE IF EXISTS public.raw_events, public.raw_messages")
        await setup.execute(
            "CREATE TABLE public.raw_events (run bigint, seq bigint, data jsonb, PRIMARY KEY (run, seq))"
        )
        await setup.execute("CREATE TABLE public.raw_messages (id bigserial PRIMARY KEY, run bigint, body text)")
    data = json.dumps({"text": "a line of words", "role": "assistant"})

    async def write(run: int) -> None:
        async with await psycopg.AsyncConnection.connect(conninfo) as connection:
            for batch in range(count // 8 // BATCH):
                first = batch * BATCH
                await connection.execute(
                    "WITH m AS (INSERT INTO public.raw_messages (run, body) SELECT %s, 'a line of words'"
                    " FROM generate_series(1, %s)) INSERT INTO public.raw_events"
                    " SELECT %s, %s + i, %s FROM generate_series(1, %s) i",
                    [run, BATCH, run, first, data, BATCH],
                )
                await connection.commit()

    began = time.perf_counter()
    await asyncio.gather(*(write(run) for run in range(8)))
    return count / (time.perf_counter() - began)


# -- workspace ----------------------------------------------------------------------------------------------------


async def workspace(settings: Settings, conninfo: str, scale: float) -> None:
    rounds = max(3, int(9 * scale))
    with tempfile.TemporaryDirectory(prefix="spawnd-bench-") as scratch:
        root = Path(scratch)
        repo = large_repository(root / "repo", files=5000)
        mirrors = Mirrors(root / "mirrors")
        revision = await mirrors.resolve(str(repo))
        ours, plain = [], []
        for number in range(rounds):
            target = root / f"ws{number}"
            began = time.perf_counter()
            await checkout(revision.mirror, revision.sha, target, branch="work")
            ours.append(time.perf_counter() - began)
            shutil.rmtree(target)
            tree = root / f"tree{number}"
            began = time.perf_counter()
            add_worktree(repo, tree)
            plain.append(time.perf_counter() - began)
            shutil.rmtree(tree)
    report("workspace", statistics.median(ours) * 1000, statistics.median(plain) * 1000, "ms")


def add_worktree(repo: Path, tree: Path) -> None:
    subprocess.run(["git", "worktree", "add", "-q", "--detach", tree], cwd=repo, check=True)


def large_repository(path: Path, *, files: int) -> Path:
    for number in range(files):
        target = path / f"d{number // 100}" / f"f{number}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"# file {number}\n" + "x = 1\n" * (number % 200))
    identity = ["-c", "user.name=b", "-c", "user.email=b@b"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "files"]):
        subprocess.run(["git", *command], cwd=path, check=True)
    return path


# -- shared -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def planes(settings: Settings) -> AsyncIterator[tuple[Client, DirectPlane]]:
    async with (
        assembly.open_backends(settings) as parts,
        assembly.open_client(settings, backends=parts) as client,
        parts.bus.listen([Topic.WORK]) as ear,
    ):
        yield client, DirectPlane(parts.database, LocalArtifacts(settings.artifacts), ear, parts.relay)


def plan(name: str, agents: int) -> CompiledPlan:
    rows = [{"name": f"a{number}", "prompt": "x", "runtime": "mock"} for number in range(agents)]
    return compile_plan(load(json.dumps({"name": name, "agents": rows})))


if __name__ == "__main__":
    raise SystemExit(main())
