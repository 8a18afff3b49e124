"""A run's progress until it ends: a live table on a terminal, a line per event everywhere else."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING

from spawnd.cli import lines, output, tables
from spawnd.contracts.client import Client
from spawnd.errors import Unavailable
from spawnd.wire.events import EventRow
from spawnd.wire.runs import RunDocument

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_REDRAW_SECONDS = 0.25
#: Reasons can change without an event, as when a worker comes or goes.
_REREAD_SECONDS = 3.0
#: How long until a database that does not answer is asked again.
_AWAY_SECONDS = 1.0
#: The status document of a large run is not cheap: of the time, at most this part is spent reading it.
_READING_SHARE = 0.1
#: Lines of the screen that are not agents.
_RESERVED_LINES = 7
_LOUD = frozenset({"sandbox_warning", "circuit_breaker_tripped", "run_budget_exceeded", "quota_closed", "run_stopping"})


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def event(self, event: EventRow) -> None:
        """Something happened."""

    def document(self, document: RunDocument) -> None:
        """This is how the run stands now; called again and again."""


class Lines(Silent):
    """A line per event on standard error."""

    def __init__(self) -> None:
        self._began: datetime | None = None

    def event(self, event: EventRow) -> None:
        self._began = self._began or event.at
        if event.type not in lines.QUIET:
            since = (event.at - self._began).total_seconds()
            sys.stderr.write(f"{since:7.1f}s  {event.agent or 'run':<16} {lines.words(event)}\n")
            sys.stderr.flush()


class Live(Silent):
    """A table on standard error that redraws itself, with warnings left standing above it."""

    def __init__(self) -> None:
        from rich.live import Live as RichLive

        self._console: Console = output.console(stderr=True)
        self._live = RichLive(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Silent:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def event(self, event: EventRow) -> None:
        if event.type in _LOUD:
            self._console.print(f"{event.agent or 'run'}: {lines.words(event)}", style="yellow")

    def document(self, document: RunDocument) -> None:
        self._live.update(_screen(document, self._console.width, self._console.height), refresh=True)


def chosen(*, quiet: bool) -> Silent:
    """What fits where we print."""
    if quiet:
        return Silent()
    return Live() if sys.stderr.isatty() else Lines()


async def follow(
    client: Client, run_id: str, show: Silent, *, after: int = 0, until_stuck: bool = False
) -> RunDocument:
    """Show progress, events above number ``after``, until the run has ended, or with ``until_stuck`` until nothing
    goes on without a person. Returns the last document."""
    document = await _document(client, run_id)
    events = client.follow(run_id, after=after)
    coming = asyncio.ensure_future(_next(events))
    read_at, reading, changed = time.monotonic(), 0.0, False
    try:
        while True:
            show.document(document)
            await asyncio.wait([coming], timeout=_REDRAW_SECONDS)
            while coming.done():
                event = coming.result()
                if event is None:
                    return await _document(client, run_id)
                show.event(event)
                changed = True
                coming = asyncio.ensure_future(_next(events))
                await asyncio.sleep(0)  # a page of events is there at once
            age = time.monotonic() - read_at
            if age >= max(_REDRAW_SECONDS if changed else _REREAD_SECONDS, reading / _READING_SHARE):
                began = time.monotonic()
                document = await _document(client, run_id)
                read_at, changed = time.monotonic(), False
                reading = read_at - began
                if until_stuck and needs_a_person(document):
                    return document
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _document(client: Client, run_id: str) -> RunDocument:
    """The run as it is, as soon as the database answers: one that is away for a moment ends nobody's evening."""
    while True:
        try:
            return await client.run(run_id)
        except Unavailable as error:
            if not error.retryable:
                raise
            await asyncio.sleep(_AWAY_SECONDS)


async def _next(events: AsyncIterator[EventRow]) -> EventRow | None:
    return await anext(events, None)


def needs_a_person(document: RunDocument) -> bool:
    """Whether nothing runs and nothing will unless someone acts: a pause, a spent budget, a question."""
    if any(agent.status == "running" for agent in document.agents):
        return False
    reasons = [agent.waiting.code for agent in document.agents if agent.waiting is not None]
    leading = [code for code in reasons if code != "dependency"]
    return bool(leading) and all(code in ("human", "paused", "budget") for code in leading)


def _screen(document: RunDocument, width: int, height: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    shown, others = _fitting(document, max(4, height - _RESERVED_LINES))
    parts: list[RenderableType] = [tables.headline(document.run), Text(), tables.agents(shown, width=width, live=True)]
    if others:
        parts.append(Text(f"… and {others}", style="bright_black"))
    return Group(*parts)


def _fitting(document: RunDocument, room: int) -> tuple[RunDocument, str]:
    """The agents that matter most now, in the plan's order, and what the others are."""
    if len(document.agents) <= room:
        return document, ""
    rank = {"running": 0, "waiting": 1, "failed": 2, "timed_out": 2, "ready": 3}
    names = {agent.name for agent in sorted(document.agents, key=lambda agent: rank.get(agent.status, 4))[:room]}
    others = [agent.status for agent in document.agents if agent.name not in names]
    shown = tuple(agent for agent in document.agents if agent.name in names)
    counts = ", ".join(f"{others.count(state)} {state}" for state in sorted(set(others)))
    return document.model_copy(update={"agents": shown}), counts
