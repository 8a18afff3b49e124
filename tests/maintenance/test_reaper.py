"""The loops that keep the record moving: leases of the dead, waits that are over, hints that wait to be sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from spawnd.artifacts.local import LocalArtifacts
from spawnd.bus.postgres import PostgresBus
from spawnd.contracts.bus import Hint, Topic
from spawnd.contracts.control_plane import Capability, Lease, WorkerInfo
from spawnd.control.plane import DirectPlane
from spawnd.domain.failures import Failure, FailureClass
from spawnd.domain.settle import Failed, Succeeded
from spawnd.errors import StaleLease
from spawnd.maintenance.reaper import Reaper
from spawnd.maintenance.relay import Relay
from spawnd.process.orphans import machine, start_time
from spawnd.store import claims, outbox, workers
from spawnd.store.database import Database
from systems import System, one, plan

PATIENCE = 40

pytestmark = pytest.mark.skipif(machine() is None, reason="processes cannot be told apart here")


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for a worker."""
    with subprocess.Popen(["sleep", "300"]) as opened:
        yield opened
        opened.kill()


@pytest.fixture
def reaper(system: System) -> Reaper:
    return Reaper(system.backends.database, system.backends.relay)


@pytest.fixture
async def plane(system: System) -> AsyncIterator[DirectPlane]:
    async with system.backends.bus.listen([Topic.WORK]) as ear:
        artifacts = LocalArtifacts(system.settings.artifacts)
        yield DirectPlane(system.backends.database, artifacts, ear, system.backends.relay)


async def claimed(
    system: System, pid: int, *, on: str | None = None, started: str | None = None, **agent: object
) -> tuple[str, Lease]:
    """A run whose one agent is held by the process ``pid`` of this machine, or of another; its id and the lease."""
    run_id = await system.submit(plan(one("a", command="true", **agent)))
    worker = Capability(f"w-{secrets.token_hex(4)}", frozenset(), frozenset({"command"}), 1)
    detail = {
        "machine": on or machine() or "",
        "process_started": start_time(pid) or "" if started is None else started,
    }
    await workers.beat(system.backends.database, WorkerInfo(worker, "here", pid, "1", detail=detail))
    (held,) = await claims.claim(system.backends.database, worker, want=1, lease_seconds=60)
    return run_id, held.lease


async def status(system: System, run_id: str) -> str:
    return (await system.agent(run_id, "a")).status


async def test_the_lease_of_a_worker_that_died_here_is_taken_back_at_once(
    system: System, plane: DirectPlane, reaper: Reaper, process: subprocess.Popen[bytes]
) -> None:
    run_id, lease = await claimed(system, process.pid)
    assert await reaper.run_once() == []
    process.kill()
    process.wait()

    assert await reaper.run_once() == [(run_id, "a")]

    assert await status(system, run_id) != "running"
    with pytest.raises(StaleLease):
        await plane.finish(lease, Succeeded())
    assert await reaper.run_once() == []
    await system.check_books(run_id)


async def test_a_pid_that_is_anothers_by_now_does_not_keep_a_lease(system: System, reaper: Reaper) -> None:
    run_id, _ = await claimed(system, os.getpid(), started="1")

    assert await reaper.run_once() == [(run_id, "a")]


async def test_a_living_worker_keeps_its_lease_until_it_runs_out(
    system: System, reaper: Reaper, process: subprocess.Popen[bytes]
) -> None:
    run_id, _ = await claimed(system, process.pid)
    await system.advance(59)
    assert await reaper.run_once() == []
    assert await status(system, run_id) == "running"
    await system.advance(2)

    assert await reaper.run_once() == [(run_id, "a")]


@pytest.mark.parametrize(("on", "started"), [("another-boot/pid:[1]", None), (None, "")])
async def test_of_a_worker_that_cannot_be_looked_at_only_the_lease_tells(
    system: System, reaper: Reaper, process: subprocess.Popen[bytes], on: str | None, started: str | None
) -> None:
    run_id, _ = await claimed(system, process.pid, on=on, started=started)
    process.kill()
    process.wait()

    assert await reaper.run_once() == []
    assert await status(system, run_id) == "running"
    await system.advance(61)
    assert await reaper.run_once() == [(run_id, "a")]


async def test_a_lease_that_was_renewed_is_not_taken_back(
    system: System, reaper: Reaper, process: subprocess.Popen[bytes]
) -> None:
    run_id, lease = await claimed(system, process.pid)
    await system.advance(50)
    await claims.renew(system.backends.database, [lease], lease_seconds=60)
    await system.advance(50)

    assert await reaper.run_once() == []
    assert await status(system, run_id) == "running"


async def test_two_reapers_at_once_take_a_lease_back_once(
    system: System, reaper: Reaper, process: subprocess.Popen[bytes]
) -> None:
    run_id, _ = await claimed(system, process.pid)
    process.kill()
    process.wait()

    touched = await asyncio.gather(*(reaper.run_once() for _ in range(5)))

    assert sorted(touched) == [[], [], [], [], [(run_id, "a")]]
    await system.check_books(run_id)


async def test_a_waiting_agent_is_woken_when_it_is_due_and_not_before(
    system: System, plane: DirectPlane, reaper: Reaper, process: subprocess.Popen[bytes]
) -> None:
    run_id, lease = await claimed(system, process.pid, on_failure="retry")
    failure = Failure(FailureClass.NETWORK, "the line was cut")
    settled = await plane.finish(lease, Failed(failure))
    assert settled.decision.due_at is not None
    (row,) = await system.rows("SELECT extract(epoch FROM %s - clock())::float AS left", settled.decision.due_at)
    await system.advance(row["left"] - 1)
    assert await reaper.run_once() == []
    assert await status(system, run_id) == "waiting"
    await system.advance(2)

    assert await reaper.run_once() == [(run_id, "a")]

    assert await status(system, run_id) == "ready"
    await system.check_books(run_id)


async def test_what_the_reaper_does_is_hinted_at(
    system: System, reaper: Reaper, process: subprocess.Popen[bytes]
) -> None:
    run_id, _ = await claimed(system, process.pid)
    async with system.backends.bus.listen([Topic.RUN]) as ear:
        process.kill()
        process.wait()
        await reaper.run_once()

        assert Hint(Topic.RUN, run_id) in await ear.wait(timeout_seconds=PATIENCE)


class Line:
    """A line to the server that can be cut for a moment: what is on it is lost, and nobody gets through."""

    def __init__(self, server: str) -> None:
        self._there = conninfo_to_dict(server)
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._port = 0

    async def restore(self) -> str:
        """Let through; the conninfo that leads over the line."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        given = {**self._there, "host": "127.0.0.1", "hostaddr": None, "port": self._port, "sslmode": "disable"}
        return make_conninfo("", **given)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for end in list(self._ends):
            end.transport.abort()
        await self._server.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = str(self._there["host"]), self._there.get("port") or 5432
        if host.startswith("/"):
            there = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            there = await asyncio.open_connection(host, int(port))
        self._ends |= {writer, there[1]}
        await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        self._ends -= {writer, there[1]}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.fixture
async def line(server: str) -> AsyncIterator[Line]:
    made = Line(server)
    yield made
    await made.cut()


@asynccontextmanager
async def going(*loops: object) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
    """Loops that run while the block lasts and must not have ended by themselves."""
    tasks = [asyncio.create_task(loop.run()) for loop in loops]  # type: ignore[attr-defined]
    try:
        yield tasks
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def put(database: Database, *hints: Hint) -> None:
    async with database.transaction() as tx:
        await outbox.put(tx, [(hint.topic, hint.key) for hint in hints])


async def test_the_relay_sends_what_the_outbox_holds_once(server: str, schema: str, database: Database) -> None:
    hints = {Hint(Topic.RUN, "r1"), Hint(Topic.STOP, "1"), Hint(Topic.WORK)}
    async with (
        PostgresBus(server, schema=schema) as bus,
        bus.listen(list(Topic)) as ear,
    ):
        await put(database, *hints, *hints)
        async with going(Relay(database, bus, poll_seconds=60)):
            heard: set[Hint] = set()
            while heard != hints:
                heard |= await ear.wait(timeout_seconds=PATIENCE)

            assert await outbox.take(database, limit=10) == []
            assert await ear.wait(timeout_seconds=0.2) == frozenset()


async def test_a_nudge_sends_at_once_and_more_than_a_batch_is_sent_whole(
    server: str, schema: str, database: Database
) -> None:
    async with PostgresBus(server, schema=schema) as bus, bus.listen([Topic.RUN]) as ear:
        relay = Relay(database, bus, poll_seconds=3600)
        async with going(relay):
            await put(database, Hint(Topic.RUN, "first"))
            relay.nudge()
            assert await ear.wait(timeout_seconds=PATIENCE) == {Hint(Topic.RUN, "first")}

            many = {Hint(Topic.RUN, str(number)) for number in range(1100)}
            await put(database, *many)
            relay.nudge()
            heard: set[Hint] = set()
            while heard != many:
                some = await ear.wait(timeout_seconds=PATIENCE)
                assert some, f"{len(heard)} of {len(many)} came"
                heard |= some


async def test_changes_of_runs_are_told_merged(server: str, schema: str, database: Database) -> None:
    async with PostgresBus(server, schema=schema) as bus, bus.listen([Topic.RUN]) as ear:
        relay = Relay(database, bus, poll_seconds=60)
        async with going(relay):
            for _ in range(1000):
                relay.run_changed("r1")
                relay.run_changed("r2")

            heard = await ear.wait(timeout_seconds=PATIENCE)
            heard |= await ear.wait(timeout_seconds=0.3)
            assert heard == {Hint(Topic.RUN, "r1"), Hint(Topic.RUN, "r2")}


async def test_relay_and_reaper_survive_the_database_going_away_for_a_moment(schema: str, line: Line) -> None:
    conninfo = await line.restore()
    async with (
        Database(conninfo, schema=schema) as database,
        PostgresBus(conninfo, schema=schema) as bus,
        bus.listen([Topic.RUN]) as ear,
    ):
        relay = Relay(database, bus, poll_seconds=0.1)
        async with going(relay, Reaper(database, relay, interval_seconds=0.1)):
            await put(database, Hint(Topic.RUN, "before"))
            assert Hint(Topic.RUN, "before") in await ear.wait(timeout_seconds=PATIENCE)

            await line.cut()
            relay.run_changed("lost")
            relay.nudge()
            assert await ear.wait(timeout_seconds=0.5) == frozenset()
            await line.restore()

            assert Hint(Topic.RUN) in await ear.wait(timeout_seconds=PATIENCE)
            await put(database, Hint(Topic.RUN, "after"))
            heard: set[Hint] = set()
            while Hint(Topic.RUN, "after") not in heard:
                some = await ear.wait(timeout_seconds=PATIENCE)
                assert some, "nothing came"
                heard |= some


@pytest.mark.parametrize("name", ["relay", "reaper"])
async def test_a_loop_that_is_cancelled_the_moment_the_database_answers_ends(
    server: str, schema: str, name: str
) -> None:
    async with (
        Database(server, schema=schema, max_connections=1) as database,
        PostgresBus(server, schema=schema) as bus,
    ):
        for turns in range(12):
            relay = Relay(database, bus, poll_seconds=3600)
            loop = relay if name == "relay" else Reaper(database, relay, interval_seconds=3600)
            async with database.connection():
                task = asyncio.create_task(loop.run())
                for _ in range(5):
                    await asyncio.sleep(0)  # until it waits for the only connection
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            ended, _ = await asyncio.wait([task], timeout=2)
            if not ended:
                for left in asyncio.all_tasks() - {asyncio.current_task()}:
                    if left is task or "_send" in repr(left.get_coro()):
                        left.cancel()
                await asyncio.wait([task], timeout=2)
            assert ended, f"cancelled after {turns} turns of the loop it went on"
