"""The only file that names concrete backends: settings in, running parts out.

Everything is imported where it is used: the CLI's start-up pays for nothing that a command does not need.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import TracebackType
from typing import TYPE_CHECKING, Any

from spawnd.contracts.bus import Topic
from spawnd.contracts.client import Client
from spawnd.contracts.runtime import Runtime
from spawnd.contracts.sandbox import Sandbox
from spawnd.errors import Unavailable, UsageError
from spawnd.process.cancellation import heed_cancel
from spawnd.settings import Settings

if TYPE_CHECKING:
    from spawnd.bus.postgres import PostgresBus
    from spawnd.git.mirrors import Mirrors
    from spawnd.maintenance.relay import Relay
    from spawnd.plan.compiled import CompiledAgent
    from spawnd.store.database import Database
    from spawnd.store.embedded import EmbeddedPostgres
    from spawnd.worker.loop import Worker

log = logging.getLogger(__name__)

_REVIVE_SECONDS = 1.0

#: The order in which sandboxes are preferred; one that isolates comes first.
SANDBOX_ORDER = ("bubblewrap", "none")


@dataclass(frozen=True, slots=True)
class Backends:
    """What every process shares: the record, the hints and the relay that sends them."""

    database: Database
    bus: PostgresBus
    relay: Relay


def runtimes() -> dict[str, Runtime]:
    """Every installed runtime by name. One that cannot be imported is left out; `spawnd doctor` says why."""
    found, _ = _load("spawnd.runtimes")
    return found


def runtime_problems() -> dict[str, str]:
    """Runtimes that are registered but cannot be imported, and why."""
    _, problems = _load("spawnd.runtimes")
    return problems


def sandboxes() -> dict[str, Sandbox]:
    """Every installed sandbox by name, usable or not."""
    found, _ = _load("spawnd.sandboxes")
    return found


def choose_sandbox(settings: Settings) -> Sandbox:
    """The one that SPAWND_SANDBOX names, or the best that works on this machine."""
    known = sandboxes()
    if settings.sandbox is not None:
        if settings.sandbox not in known:
            raise UsageError(
                f"SPAWND_SANDBOX names no sandbox: {settings.sandbox}.",
                hint=f"Known: {', '.join(sorted(known))}.",
            )
        chosen = known[settings.sandbox]
        if problem := chosen.problem():
            raise Unavailable(f"The sandbox {settings.sandbox} cannot be used: {problem}")
        return chosen
    order = [*SANDBOX_ORDER[:1], *sorted(set(known) - set(SANDBOX_ORDER)), *SANDBOX_ORDER[1:]]
    for name in order:
        if name in known and known[name].problem() is None:
            return known[name]
    raise Unavailable("No sandbox can be used on this machine.", hint="Run `spawnd doctor`.")


def mirrors(settings: Settings) -> Mirrors:
    from spawnd.git.mirrors import Mirrors

    return Mirrors(settings.mirrors)


def upgrade_database(settings: Settings) -> tuple[str | None, str]:
    """Bring the configured database's schema to this version; returns (from, to)."""
    from spawnd.store import schema

    with closing(_Server(settings)) as server:
        return schema.upgrade(server.start(), settings.schema_name)


def database_revision(settings: Settings) -> tuple[str | None, str]:
    """(the revision the database is at, the one that this version needs)."""
    from spawnd.store import schema

    with closing(_Server(settings)) as server:
        return schema.current(server.start(), settings.schema_name), schema.HEAD


@asynccontextmanager
async def open_backends(settings: Settings) -> AsyncIterator[Backends]:
    """The record, opened: the embedded database is started and upgraded, an external one must be up to date."""
    from spawnd.bus.postgres import PostgresBus
    from spawnd.maintenance.relay import Relay
    from spawnd.store import schema
    from spawnd.store.database import Database

    async with AsyncExitStack() as stack:
        server = _Server(settings)
        conninfo = await asyncio.to_thread(server.start)
        stack.push_async_callback(asyncio.to_thread, server.close)
        if settings.database_url is None:
            if await asyncio.to_thread(schema.current, conninfo, settings.schema_name) != schema.HEAD:
                await asyncio.to_thread(schema.upgrade, conninfo, settings.schema_name)
        else:
            await asyncio.to_thread(schema.require, conninfo, settings.schema_name)
        database = await stack.enter_async_context(Database(conninfo, schema=settings.schema_name, max_connections=16))
        bus = await stack.enter_async_context(PostgresBus(conninfo, schema=settings.schema_name))
        relay = Relay(database, bus, poll_seconds=settings.poll_seconds)
        group = await stack.enter_async_context(_Background())
        group.start(relay.run())
        group.start(server.revive(database))
        yield Backends(database, bus, relay)


@asynccontextmanager
async def open_client(settings: Settings, *, backends: Backends | None = None) -> AsyncIterator[Client]:
    """The faces' door, over ``backends`` if they are open already."""
    from spawnd.artifacts.local import LocalArtifacts
    from spawnd.control.desk import Desk

    async with AsyncExitStack() as stack:
        parts = await _opened(stack, settings, backends)
        yield Desk(
            parts.database,
            parts.bus,
            LocalArtifacts(settings.artifacts),
            parts.relay,
            mirrors(settings),
            credential_of=_credentials(),
        )


@asynccontextmanager
async def open_worker(
    settings: Settings,
    *,
    slots: int,
    labels: frozenset[str] = frozenset(),
    worker_id: str | None = None,
    once: bool = False,
    mock: bool = False,
    run_id: str | None = None,
    backends: Backends | None = None,
) -> AsyncIterator[Worker]:
    """A worker with the reaper beside it. ``mock`` serves every runtime with the mock one, ``run_id`` only that run."""
    import secrets

    from spawnd.artifacts.local import LocalArtifacts
    from spawnd.control.plane import DirectPlane
    from spawnd.maintenance.reaper import Reaper
    from spawnd.worker.loop import Worker

    known: Mapping[str, Runtime] = runtimes()
    if mock:
        known = dict.fromkeys(known, known["mock"])
    async with AsyncExitStack() as stack:
        parts = await _opened(stack, settings, backends)
        ear = await stack.enter_async_context(parts.bus.listen([Topic.WORK, Topic.STOP]))
        background = await stack.enter_async_context(_Background())
        reaper = Reaper(parts.database, parts.relay)
        if once:
            await reaper.run_once()  # what a killed worker of this machine held is part of what there is to do
        background.start(reaper.run())
        plane = DirectPlane(parts.database, LocalArtifacts(settings.artifacts), ear, parts.relay)
        yield Worker(
            plane,
            known,
            choose_sandbox(settings),
            settings,
            worker_id=worker_id or f"{socket.gethostname()}-{secrets.token_hex(3)}",
            slots=slots,
            labels=labels,
            once=once,
            run_id=run_id,
        )


class _Background:
    """Loops that live as long as the block; the first that fails ends it."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> _Background:
        await self._group.__aenter__()
        return self

    def start(self, loop: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(self._group.create_task(loop))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        # What the block raised goes on as it is: a group would hide it. Only a cancellation may be the group's own,
        # because a loop failed, and the group tells which.
        if isinstance(error, asyncio.CancelledError):
            await self._group.__aexit__(kind, error, trace)
        else:
            await self._group.__aexit__(None, None, None)


class _Server:
    """The database's server: the one that is configured, or the embedded one for as long as we use it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._embedded: EmbeddedPostgres | None = None
        # Threads start and close it, and it is used by one at a time.
        self._one_at_a_time = threading.Lock()

    def start(self) -> str:
        """Its conninfo. Called again, it brings back an embedded server that was killed."""
        if self._settings.database_url is not None:
            return self._settings.database_url.get_secret_value()
        with self._one_at_a_time:
            if self._embedded is None:
                from spawnd.store.embedded import EmbeddedPostgres

                self._embedded = EmbeddedPostgres(self._settings.home, environ=self._settings.environ)
            return self._embedded.start()

    def close(self) -> None:
        with self._one_at_a_time:
            if self._embedded is not None:
                self._embedded.close()

    async def revive(self, database: Database) -> None:
        """Bring the embedded server back whenever it is noticed to be gone. An external one is its operator's."""
        while self._embedded is not None:
            heed_cancel()
            await database.away.wait()
            database.away.clear()
            try:
                await asyncio.to_thread(self.start)
            except Unavailable as error:
                log.warning("the database is away", extra={"error": error.message})
            await asyncio.sleep(_REVIVE_SECONDS)


def _load(group: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The entry points of a group, instantiated, and what could not be imported."""
    found: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for point in entry_points(group=group):
        # A third party's import may fail in any way; the others must still work.
        try:
            found[point.name] = point.load()()
        except Exception as error:
            problems[point.name] = f"{type(error).__name__}: {error}"
    return found, problems


async def _opened(stack: AsyncExitStack, settings: Settings, backends: Backends | None) -> Backends:
    return backends if backends is not None else await stack.enter_async_context(open_backends(settings))


def _credentials() -> Callable[[CompiledAgent], str | None]:
    known = runtimes()

    def credential_of(agent: CompiledAgent) -> str | None:
        runtime = known.get(agent.runtime)
        return runtime.credential(agent.env_refs) if runtime is not None else None

    return credential_of
