"""Workers as the fleet view shows them."""

from __future__ import annotations

from datetime import datetime

from spawnd.wire.runs import Document


class WorkerRow(Document):
    """A worker. ``stale`` means that its heartbeat is overdue."""

    worker_id: str
    hostname: str
    pid: int
    version: str
    status: str
    labels: tuple[str, ...]
    runtimes: tuple[str, ...]
    slots: int
    running: int
    started_at: datetime
    heartbeat_at: datetime
    stale: bool


class QuotaRow(Document):
    """A provider limit that is closed now. ``stated`` means that the provider named the time."""

    credential: str
    until: datetime
    stated: bool
    message: str
    hits: int


class WorkerList(Document):
    """The fleet."""

    queue_depth: int
    workers: tuple[WorkerRow, ...]
    quotas: tuple[QuotaRow, ...] = ()
