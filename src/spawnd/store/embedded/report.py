"""How the embedded database is, for ``spawnd doctor``: looks, starts nothing, waits for nobody."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from spawnd.errors import Unavailable
from spawnd.store.embedded import cluster
from spawnd.store.embedded.advice import unusable
from spawnd.store.embedded.handshake import Condition
from spawnd.store.embedded.layout import Layout
from spawnd.store.embedded.owner import owner_of
from spawnd.store.embedded.server import probe


@dataclass(frozen=True, slots=True)
class Status:
    """What ``spawnd doctor`` shows. ``version`` and ``origin`` are the running server's, or the last one's.

    ``cluster_major`` is the major version that made the data, None before the first start. ``size_bytes``
    is the data directory's. ``problem`` says what a user would run into, or is None.
    """

    running: bool
    pid: int | None
    version: str | None
    origin: str | None
    cluster_major: int | None
    data: Path
    size_bytes: int
    log: Path
    problem: str | None


def status(home: Path) -> Status:
    """How the embedded database in ``home`` is. Starts nothing, waits for nobody and writes nothing."""
    layout = Layout(home.absolute())
    record = layout.read_record()
    answer, _ = probe(layout)
    problem = None
    major = None
    try:
        major = cluster.major_of(layout.data)
        if layout.home.exists():
            owner_of(layout)
    except Unavailable as error:
        problem = error.message
    except OSError as error:
        problem = unusable(layout, error).message
    if answer.condition in (Condition.REFUSED, Condition.SILENT):
        problem = answer.message or "It accepts connections and says nothing."
    running = answer.condition is not Condition.ABSENT and answer.condition is not Condition.REFUSED
    return Status(
        running=running,
        pid=answer.pid,
        version=answer.version or (record.version if record else None),
        origin=record.origin if record else None,
        cluster_major=major,
        data=layout.data,
        size_bytes=_size(layout.data),
        log=layout.log,
        problem=problem,
    )


def _size(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(f"{folder}/{name}").st_blocks * 512
            except OSError:  # the server removes files while we look
                continue
    return total
