"""``spawnd events`` and ``spawnd live-events``."""

from __future__ import annotations

from typing import Annotated

import typer

from spawnd.cli import door, lines, options, output
from spawnd.contracts.client import Client
from spawnd.wire.events import EventRow

_PAGE = 1000

After = Annotated[int, typer.Option("--after", min=0, metavar="SEQ", help="Only events numbered above this.")]


def events(
    run: options.Run = "latest",
    agent: options.Agent = None,
    after: After = 0,
    limit: options.Limit = 1000,
    newest: Annotated[bool, typer.Option("--newest", help="The last ones, not the first.")] = False,
    json: options.JsonLines = False,
) -> None:
    """What happened in a run, in order. Events are numbered 1, 2, 3 … without gaps.

    With --json a line per event: {"seq", "at", "type", "agent", "attempt", "data"}.
    """

    async def read(client: Client) -> None:
        seen, last = 0, after
        while seen < limit:
            want = limit - seen if newest else min(_PAGE, limit - seen)
            page = await client.events(run, after=last, limit=want, agent=agent, newest=newest)
            for event in page:
                _print(event, json=json)
            seen += len(page)
            if newest or len(page) < want:
                return
            last = page[-1].seq

    door.ask(read)


def live_events(
    run: options.Run = "latest",
    agent: options.Agent = None,
    after: After = 0,
    json: options.JsonLines = False,
) -> None:
    """The events of a run from --after on, and each new one as it happens, until the run ends.

    None is lost or repeated: after an interruption, go on with --after and the last number seen.
    """

    async def follow(client: Client) -> None:
        if agent is not None:
            await client.events(run, limit=1, agent=agent)  # an unknown name is an error, not an endless silence
        async for event in client.follow(run, after=after):
            if agent is None or event.agent == agent:
                _print(event, json=json)

    door.ask(follow)


def _print(event: EventRow, *, json: bool) -> None:
    if json:
        output.json_line(event)
        return
    at = event.at.astimezone().strftime("%H:%M:%S")
    output.line(f"{event.seq:>6}  {at}  {event.agent or '-':<16} {event.type:<20} {lines.words(event)}")
