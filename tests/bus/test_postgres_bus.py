"""Hints over a real server: they reach whoever listens, and whoever listens notices when some may be lost."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from spawnd.bus.postgres import PostgresBus
from spawnd.contracts.bus import Hint, Topic

PATIENCE = 15
WORK = Hint(Topic.WORK)


@dataclass(frozen=True, slots=True)
class Wire:
    """A bus whose connections can be found on the server, and cut."""

    bus: PostgresBus
    server: str
    name: str

    def pids(self) -> list[int]:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = %s ORDER BY backend_start"
        with psycopg.connect(self.server, autocommit=True) as connection:
            return [row[0] for row in connection.execute(query, [self.name])]

    def cut(self) -> int:
        """Terminate every backend of the bus; returns how many there were."""
        query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
        with psycopg.connect(self.server, autocommit=True) as connection:
            return len(connection.execute(query, [self.name]).fetchall())

    async def idle(self, backends: int) -> None:
        async with asyncio.timeout(3):
            while len(self.pids()) != backends:
                await asyncio.sleep(0.05)


def wire(server: str, schema: str) -> Wire:
    name = f"bus-{secrets.token_hex(6)}"
    return Wire(PostgresBus(make_conninfo(server, application_name=name), schema=schema), server, name)


@pytest.fixture
def channel() -> str:
    return f"t_{secrets.token_hex(6)}"


@pytest.fixture
async def bus(server: str, channel: str) -> AsyncIterator[PostgresBus]:
    async with wire(server, channel).bus as opened:
        yield opened


async def test_a_hint_reaches_every_listener_of_its_topic_in_every_process(
    bus: PostgresBus, server: str, channel: str
) -> None:
    hint = Hint(Topic.RUN, "run-1")
    async with (
        wire(server, channel).bus as other,
        bus.listen([Topic.RUN]) as first,
        bus.listen([Topic.RUN, Topic.WORK]) as second,
        other.listen([Topic.RUN]) as third,
    ):
        await bus.publish([hint])

        for ear in (first, second, third):
            assert await ear.wait(timeout_seconds=PATIENCE) == {hint}


async def test_a_hint_of_another_topic_or_schema_is_not_heard(bus: PostgresBus, server: str, channel: str) -> None:
    async with wire(server, f"{channel}x").bus as other, bus.listen([Topic.WORK]) as ear:
        await other.publish([WORK])
        await bus.publish([Hint(Topic.STOP, "1"), Hint(Topic.RUN, "r")])
        await bus.publish([Hint(Topic.WORK, "last")])

        assert await ear.wait(timeout_seconds=PATIENCE) == {Hint(Topic.WORK, "last")}


async def test_many_hints_are_merged(bus: PostgresBus) -> None:
    async with bus.listen([Topic.RUN, Topic.STOP]) as ear:
        await bus.publish([Hint(Topic.RUN, "r")] * 1000)
        await asyncio.gather(*(bus.publish([Hint(Topic.RUN, "r")]) for _ in range(50)))
        await bus.publish([Hint(Topic.STOP, "end")])
        heard: list[Hint] = []
        while Hint(Topic.STOP, "end") not in heard:
            heard += await ear.wait(timeout_seconds=PATIENCE)
            await asyncio.sleep(0.2)  # as somebody who is busy

    assert heard.count(Hint(Topic.RUN, "r")) <= 3


async def test_what_was_sent_before_it_is_waited_for_is_heard(bus: PostgresBus) -> None:
    async with bus.listen([Topic.WORK]) as ear:
        await bus.publish([WORK])
        await asyncio.sleep(0.1)

        assert await ear.wait(timeout_seconds=PATIENCE) == {WORK}
        assert await ear.wait(timeout_seconds=0.1) == frozenset()


async def test_keys_may_hold_anything(bus: PostgresBus) -> None:
    hint = Hint(Topic.RUN, "a:b 'c' \"d\" é\n%s")
    async with bus.listen([Topic.RUN]) as ear:
        await bus.publish([hint])

        assert await ear.wait(timeout_seconds=PATIENCE) == {hint}


async def test_words_that_a_newer_version_sends_are_no_trouble(bus: PostgresBus, server: str, channel: str) -> None:
    async with bus.listen([Topic.WORK]) as ear:
        with psycopg.connect(server, autocommit=True) as connection:
            for payload in ("moon:1", "", "work"):
                connection.execute("SELECT pg_notify(%s, %s)", [f"{channel}_hints", payload])

        assert await ear.wait(timeout_seconds=PATIENCE) == {WORK}


async def test_a_listener_whose_connection_was_cut_is_woken_for_every_topic_and_hears_again(
    server: str, channel: str
) -> None:
    listening = wire(server, channel)
    async with (
        listening.bus,
        wire(server, channel).bus as sending,
        listening.bus.listen([Topic.WORK, Topic.STOP]) as ear,
    ):
        assert listening.cut() == 1
        await sending.publish([Hint(Topic.STOP, "lost")])

        assert await ear.wait(timeout_seconds=PATIENCE) >= {WORK, Hint(Topic.STOP)}

        await sending.publish([Hint(Topic.STOP, "7")])
        assert await ear.wait(timeout_seconds=PATIENCE) == {Hint(Topic.STOP, "7")}


async def test_a_sender_whose_connection_was_cut_does_not_fail_and_sends_again(
    bus: PostgresBus, server: str, channel: str
) -> None:
    sending = wire(server, channel)
    async with sending.bus, bus.listen([Topic.WORK]) as ear:
        await sending.bus.publish([WORK])
        assert await ear.wait(timeout_seconds=PATIENCE) == {WORK}
        assert sending.cut() == 1

        await sending.bus.publish([WORK])  # may be lost
        await ear.wait(timeout_seconds=0.2)
        await sending.bus.publish([Hint(Topic.WORK, "again")])

        assert await ear.wait(timeout_seconds=PATIENCE) == {Hint(Topic.WORK, "again")}


async def test_a_cancelled_send_does_not_break_the_next(bus: PostgresBus) -> None:
    async with bus.listen([Topic.WORK]) as ear:
        for turns in range(12):
            task = asyncio.create_task(bus.publish([Hint(Topic.WORK, "cancelled")]))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await bus.publish([Hint(Topic.WORK, "last")])
        heard: set[Hint] = set()
        while Hint(Topic.WORK, "last") not in heard:
            some = await ear.wait(timeout_seconds=PATIENCE)
            assert some, "nothing came"
            heard |= some


async def test_without_a_server_nothing_is_heard_and_nothing_fails() -> None:
    async with (
        PostgresBus("host=127.0.0.1 port=1 dbname=x", schema="s") as bus,
        bus.listen([Topic.WORK]) as ear,
    ):
        await bus.publish([WORK])
        await bus.publish([])

        assert await ear.wait(timeout_seconds=0.2) == frozenset()


async def test_nothing_is_heard_and_no_connection_is_left_after_the_end(
    bus: PostgresBus, server: str, channel: str
) -> None:
    used = wire(server, channel)
    async with used.bus:
        async with used.bus.listen([Topic.WORK]) as ear:
            await used.bus.publish([WORK])
            assert await ear.wait(timeout_seconds=PATIENCE) == {WORK}
            assert len(used.pids()) == 2
        await used.idle(1)

        await bus.publish([WORK])
        assert await ear.wait(timeout_seconds=0.3) == frozenset()
    await used.idle(0)


async def test_a_listener_that_ends_the_moment_a_hint_arrives_ends(bus: PostgresBus, server: str, channel: str) -> None:
    async with wire(server, channel).bus as sending:
        await sending.publish([WORK])
        for turns in range(1, 40):
            async with asyncio.timeout(5), bus.listen([Topic.WORK]):
                task = asyncio.create_task(sending.publish([WORK]))
                for _ in range(turns):
                    await asyncio.sleep(0)
            await task


async def test_a_listener_that_ends_at_once_leaves_no_connection(server: str, channel: str) -> None:
    listening = wire(server, channel)
    async with listening.bus.listen([Topic.WORK]):
        pass

    await listening.idle(0)
