"""What a worker reports about an attempt while it runs. Each fact becomes a row, and most of them an event.

Facts travel in batches through ``ControlPlane.record``, numbered by the worker within the attempt, so that a
batch that is sent twice is written once. Everything in them is redacted already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from spawnd.domain.failures import Failure
from spawnd.domain.states import AttemptState
from spawnd.domain.usage import Usage


@dataclass(frozen=True, slots=True)
class Entered:
    """The attempt entered a step."""

    state: AttemptState


@dataclass(frozen=True, slots=True)
class Noted:
    """An event with no row of its own. ``type`` is lower_snake_case; ``data`` is JSON-like."""

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A provider's conversation, resumable by ``session_id``."""

    runtime: str
    session_id: str
    resumed: bool
    program_version: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Invoked:
    """A program was run for the attempt: setup, runtime or check. Written when it has ended."""

    kind: str
    started_at: datetime
    duration_seconds: float
    exit_code: int | None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the conversation."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A tool call began."""

    call_id: str
    name: str
    input: Any = None


@dataclass(frozen=True, slots=True)
class ToolReturned:
    """A tool call ended."""

    call_id: str
    output: str
    is_error: bool = False
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """Usage of this attempt so far; replaces what was recorded for it before."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact's bytes are durable. ``kind`` is patch, bundle, transcript, final-message, setup-output …"""

    kind: str
    sha256: str
    size_bytes: int
    content_type: str
    name: str = ""
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """A check ran. ``exit_code`` is None if it timed out; ``output_sha256`` is the artifact."""

    name: str
    command: str
    passed: bool
    exit_code: int | None
    duration_seconds: float
    output_tail: str
    output_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Erred:
    """Something went wrong that is worth a row of its own. ``source`` is the step."""

    source: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Delivered:
    """The work is on record as a ref in the mirror and a patch artifact.

    ``base_sha`` is where the agent started (its dependencies merged), ``head_sha`` holds everything it left.
    ``accepted`` is False for work that was kept without being a result (failed, cancelled, lost).
    """

    source_sha: str
    base_sha: str
    head_sha: str
    ref: str
    branch: str
    accepted: bool
    patch_sha256: str | None
    bundle_sha256: str | None
    files: tuple[Mapping[str, Any], ...] = ()
    insertions: int = 0
    deletions: int = 0
    commits: int = 0


Fact = (
    Entered
    | Noted
    | SessionOpened
    | Invoked
    | Said
    | ToolCalled
    | ToolReturned
    | Used
    | Stored
    | Checked
    | Erred
    | Delivered
)
