"""``spawnd worker`` and ``spawnd up``."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from spawnd import assembly
from spawnd.cli import door, options, output
from spawnd.errors import UsageError
from spawnd.settings import Settings

WorkerId = Annotated[str | None, typer.Option("--worker-id", metavar="ID", help="Its name [default: host and chance].")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="LABEL", help="What agents may ask for; may be repeated.")
]
Mock = Annotated[bool, typer.Option("--mock", help="Play every agent with the mock runtime.")]
Lease = Annotated[
    float | None, typer.Option("--lease-seconds", min=5, max=3600, help="How long a silent worker keeps its agents.")
]


def worker(
    once: Annotated[bool, typer.Option("--once", help="Do what there is, then end [default].")] = False,
    poll: Annotated[bool, typer.Option("--poll", help="Serve until stopped.")] = False,
    mock: Mock = False,
    worker_id: WorkerId = None,
    source_path: Annotated[
        Path | None, typer.Option("--source-path", help="Where mirrors of repositories are kept.")
    ] = None,
    lease_seconds: Lease = None,
    concurrency: options.Concurrency = None,
    label: Labels = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what it does.")] = False,
) -> None:
    """Serve runs from this machine: claim agents, run them, hand over their work.

    Any number of workers may serve, here and on other machines with the same SPAWND_DATABASE_URL. SIGTERM or
    Ctrl-C hands running agents back with their work kept, so that another worker goes on; a killed one's agents are
    taken back when their lease has run out.

    \b
    spawnd worker --once
    spawnd worker --poll --concurrency 8 --label gpu
    """
    if once and poll:
        raise UsageError("--once and --poll exclude each other.")
    settings = _settings(lease_seconds, source_path)
    door.log_to_stderr(verbose=verbose)
    asyncio.run(_serve(settings, concurrency or door.default_slots(), label or [], worker_id, once=not poll, mock=mock))


def up(
    mock: Mock = False,
    worker_id: WorkerId = None,
    lease_seconds: Lease = None,
    concurrency: options.Concurrency = None,
    label: Labels = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what it does.")] = False,
) -> None:
    """Everything in one process, until stopped: a worker, the relay of wakeups, and the loop that takes agents back
    from dead workers and wakes what is due.

    Submit from another terminal with `spawnd run -f plan.yaml --detach`.
    """
    settings = _settings(lease_seconds, None)
    door.log_to_stderr(verbose=verbose)
    asyncio.run(_serve(settings, concurrency or door.default_slots(), label or [], worker_id, once=False, mock=mock))


def _settings(lease_seconds: float | None, source_path: Path | None) -> Settings:
    given = {"lease_seconds": lease_seconds, "source_cache_root": source_path}
    return Settings.load(**{name: value for name, value in given.items() if value is not None})


async def _serve(
    settings: Settings, slots: int, labels: list[str], worker_id: str | None, *, once: bool, mock: bool
) -> None:
    loop = asyncio.get_running_loop()
    async with assembly.open_worker(
        settings, slots=slots, labels=frozenset(labels), worker_id=worker_id, once=once, mock=mock
    ) as serving:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _stop, serving.stop, number)
        output.note(f"worker {serving.worker_id}: {slots} slots" + ("" if once else "; Ctrl-C hands back and ends"))
        await serving.run()


def _stop(stop: object, number: int) -> None:
    """The first signal hands back; from then on a second one ends the process at once."""
    assert callable(stop)
    output.note("handing back …")
    asyncio.get_running_loop().remove_signal_handler(number)
    # Not back to KeyboardInterrupt: asyncio would cancel every task at once, and what hands back outlive the pool.
    signal.signal(number, signal.SIG_DFL)
    stop()
