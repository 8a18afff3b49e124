"""``spawnd workers``, ``worker-heartbeat``, ``reconcile`` and ``drain-outbox``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from spawnd.cli import door, options, output
from spawnd.cli.style import elapsed, plural
from spawnd.errors import NotFound


def workers(json: options.Json = False) -> None:
    """The workers with what they serve and run, how many agents are ready, and provider limits that are closed."""
    fleet = door.ask(lambda client: client.workers())
    if json:
        output.document(fleet)
        return
    waiting = "is ready and waits" if fleet.queue_depth == 1 else "are ready and wait"
    output.line(f"{plural(fleet.queue_depth, 'agent')} {waiting} for a worker")
    if fleet.workers:
        output.show(
            "WORKER",
            "STATE",
            "RUNS",
            "SLOTS",
            "HOST",
            "PID",
            "LABELS",
            "RUNTIMES",
            "HEARTBEAT",
            rows=(
                (
                    row.worker_id,
                    "gone" if row.stale else row.status,
                    row.running,
                    row.slots,
                    row.hostname,
                    row.pid,
                    ", ".join(row.labels),
                    ", ".join(row.runtimes),
                    f"{elapsed(row.heartbeat_at, None)} ago",
                )
                for row in fleet.workers
            ),
            right=("RUNS", "SLOTS", "PID"),
        )
    else:
        output.note("No worker is registered. `spawnd worker --poll` starts one.")
    for quota in fleet.quotas:
        kind = "until" if quota.stated else "probably until"
        output.line(f"{quota.credential} is closed {kind} {quota.until.astimezone():%H:%M:%S}: {quota.message}")


def worker_heartbeat(
    worker_id: Annotated[str, typer.Option("--worker-id", metavar="ID", help="The worker to look for.")],
    json: options.Json = False,
) -> None:
    """Whether a worker is alive: exit 0 if its heartbeat is recent, 1 if it is overdue, 3 if it is unknown."""
    fleet = door.ask(lambda client: client.workers())
    row = next((row for row in fleet.workers if row.worker_id == worker_id), None)
    if row is None:
        raise NotFound(f"There is no worker {worker_id!r}.", hint="`spawnd workers` lists them.")
    if json:
        output.document(row)
    else:
        output.line(f"{worker_id}: {'overdue' if row.stale else row.status}, {elapsed(row.heartbeat_at, None)} ago")
    raise typer.Exit(1 if row.stale else 0)


def reconcile(json: options.Json = False) -> None:
    """Do now what the loops of every worker do by themselves: take agents back from dead workers, wake what is due,
    send a wakeup. Safe at any time, from any machine."""
    touched = door.ask(lambda client: client.reconcile())
    if json:
        output.document({"touched": [{"run_id": run_id, "agent": agent} for run_id, agent in touched]})
        return
    for run_id, agent in touched:
        output.line(f"{run_id}  {agent}")
    output.note(f"{len(touched)} agents were taken back or woken")


def drain_outbox(
    limit: options.Limit = 100,
    poll: Annotated[bool, typer.Option("--poll", help="Go on until stopped.")] = False,
    idle_sleep_seconds: Annotated[float, typer.Option("--idle-sleep-seconds", min=0.05, max=3600)] = 1.0,
    json: options.Json = False,
) -> None:
    """Send pending wakeups now. Every spawnd process does it by itself; this is for a machine that has none."""
    while True:
        count = door.ask(lambda client: client.drain_outbox(limit=limit))
        if not poll:
            break
        if count == 0:
            time.sleep(idle_sleep_seconds)
    if json:
        output.document({"sent": count})
    else:
        output.line(f"{count} wakeups sent")
