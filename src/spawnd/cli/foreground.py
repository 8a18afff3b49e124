"""Doing a run's work in this process while showing its progress, and leaving it cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from spawnd import assembly
from spawnd.cli import door, output, progress, summary
from spawnd.cli.failing import INTERRUPTED
from spawnd.contracts.client import Client
from spawnd.settings import Settings
from spawnd.wire.runs import RunDocument


@dataclass(frozen=True, slots=True)
class Opened:
    """A run to work on. Events up to ``after`` are old news."""

    run_id: str
    after: int = 0


Begin = Callable[[Client], Awaitable[Opened]]


def work_on(settings: Settings, begin: Begin, *, slots: int, json: bool, mock: bool = False) -> int:
    """``begin`` opens or reopens a run; do it to its end here.

    Returns the exit code. Ctrl-C hands what runs back, so that nothing is lost; a second one stops at once.
    """
    door.log_to_stderr()
    assembly.choose_sandbox(settings)  # refused before anything is on record
    return asyncio.run(_work_on(settings, begin, slots=slots, json=json, mock=mock))


async def _work_on(settings: Settings, begin: Begin, *, slots: int, json: bool, mock: bool) -> int:
    async with (
        assembly.open_backends(settings) as backends,
        assembly.open_client(settings, backends=backends) as client,
    ):
        opened = await begin(client)
        run_id = opened.run_id
        interrupted = asyncio.Event()
        with _interrupts(interrupted) as on_second:
            async with assembly.open_worker(
                settings, slots=slots, run_id=run_id, mock=mock, backends=backends
            ) as worker:
                serving = asyncio.create_task(worker.run())
                on_second.append(serving.cancel)
                try:
                    document = await _shown(client, opened, serving, interrupted, quiet=json)
                    if interrupted.is_set():
                        output.note("stopping; what the agents did so far is kept (Ctrl-C again kills them at once)")
                        worker.stop()
                    else:
                        worker.drain()
                except BaseException:
                    worker.stop()  # whatever it is, what runs is handed back before the database is left
                    raise
                finally:
                    with contextlib.suppress(asyncio.CancelledError):
                        await serving
        if json:
            output.document(document if not interrupted.is_set() else await client.run(run_id))
        elif not interrupted.is_set():
            summary.show(document)
        if interrupted.is_set():
            output.note(f"{run_id} can go on: `spawnd resume {run_id}`. To end it: `spawnd cancel {run_id}`.")
            return INTERRUPTED
        return summary.exit_code(document)


async def _shown(
    client: Client, opened: Opened, serving: asyncio.Task[None], interrupted: asyncio.Event, *, quiet: bool
) -> RunDocument:
    """Progress until the run has ended, the worker failed, or someone interrupted."""
    with progress.chosen(quiet=quiet) as show:
        following = asyncio.create_task(
            progress.follow(client, opened.run_id, show, after=opened.after, until_stuck=True)
        )
        waiting = asyncio.create_task(interrupted.wait())
        await asyncio.wait([following, waiting, serving], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if following.done():
            return following.result()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    if serving.done() and not interrupted.is_set():
        serving.result()
    return await client.run(opened.run_id)


@contextlib.contextmanager
def _interrupts(interrupted: asyncio.Event) -> Iterator[list[Callable[[], object]]]:
    """The first SIGINT or SIGTERM sets the event, the second calls what is in the list, the third ends the process.

    Not by KeyboardInterrupt: asyncio would cancel every task at once, and what hands back would outlive the pool.
    """
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    on_second: list[Callable[[], object]] = []

    def first() -> None:
        interrupted.set()
        for number in signals:
            loop.add_signal_handler(number, second)

    def second() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        for call in on_second:
            call()

    for number in signals:
        loop.add_signal_handler(number, first)
    try:
        yield on_second
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
