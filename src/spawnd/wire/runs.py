"""Runs, their agents and attempts, as programs and faces see them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer

#: US dollars; a JSON number with what Postgres keeps (six decimals).
Usd = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]


class Document(BaseModel):
    """The base of all documents: immutable, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Waiting(Document):
    """Why an unfinished agent is not running: exactly one leading reason.

    ``code`` is dependency, concurrency_limit, no_capable_worker, quota, backoff, budget, paused, human,
    cancelling or starting. ``until`` is set where a time is known; ``who`` says who can clear it.
    """

    code: str
    text: str
    since: datetime
    until: datetime | None = None
    who: str


class RunRow(Document):
    """A run in a list."""

    run_id: str
    name: str
    status: str
    status_reason: str | None = None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    source_repo: str
    source_ref: str | None
    source_sha: str | None
    submitted_via: str
    agents_total: int
    agents_open: int
    agents_running: int
    agents_completed: int = 0
    concurrency_limit: int | None
    cost_usd: Usd
    #: Tokens were used for which no price is known: the cost is more than ``cost_usd``.
    cost_unknown: bool = False
    cost_budget_usd: Usd
    on_exceed: str
    last_seq: int
    notices: tuple[str, ...] = ()


class AgentRow(Document):
    """An agent with what it used over all its attempts. ``reason`` is the failure's or the wait's words."""

    name: str
    status: str
    reason: str | None
    failure_class: str | None
    next_step: str | None
    waiting: Waiting | None
    type: str
    role: str | None
    runtime: str
    model: str | None
    depends_on: tuple[str, ...]
    attempts: int
    retries_used: int
    retry_count: int
    since: datetime
    started_at: datetime | None
    finished_at: datetime | None
    last_event: str | None
    final_message: str | None
    session_id: str | None
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Usd
    cost_unknown: bool
    branch: str | None
    files_changed: int | None
    insertions: int | None
    deletions: int | None
    checks_passed: int
    checks_failed: int


class AttemptRow(Document):
    """One execution."""

    agent: str
    attempt_number: int
    status: str
    worker_id: str
    claimed_at: datetime
    ended_at: datetime | None
    failure_class: str | None
    failure_message: str | None
    session_id: str | None
    session_resumed: bool | None
    cost_usd: Usd | None


class Telemetry(Document):
    """What has been recorded about the run."""

    events: int
    artifacts: int


class RunDocument(Document):
    """The status document of one run."""

    run: RunRow
    agents: tuple[AgentRow, ...]
    attempts: tuple[AttemptRow, ...]
    telemetry: Telemetry


class RunList(Document):
    """A page of runs, newest first; ``next`` is the cursor of the next page."""

    runs: tuple[RunRow, ...]
    next: str | None = None


class Submitted(Document):
    """The answer to a submission. ``created`` is False when the same plan was there under this run id."""

    run_id: str
    created: bool = True
    notices: tuple[str, ...] = ()


class ResumeItem(Document):
    """What a resume does with one agent: keep, run_again, start (it never ran), wake, or none (it runs)."""

    agent: str
    action: str
    reason: str


class ResumePlan(Document):
    """What a resume will do, before anything starts."""

    run_id: str
    items: tuple[ResumeItem, ...]
    applied: bool = False
