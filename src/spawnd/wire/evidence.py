"""What is on record about the work: artifacts, checks, provenance, messages, tool calls."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from spawnd.wire.runs import Document


class ArtifactRow(Document):
    """Stored bytes and where they come from."""

    id: int
    kind: str
    name: str
    agent: str
    attempt: int
    size_bytes: int
    sha256: str
    content_type: str
    truncated: bool
    created_at: datetime


class ArtifactList(Document):
    artifacts: tuple[ArtifactRow, ...]


class CheckRow(Document):
    """A check that ran. ``exit_code`` is None when it hit its time limit."""

    agent: str
    attempt: int
    name: str
    command: str
    passed: bool
    exit_code: int | None
    duration_seconds: float
    output_tail: str
    output_sha256: str | None
    at: datetime


class CheckList(Document):
    checks: tuple[CheckRow, ...]


class ProvenanceRow(Document):
    """Where work came from and where it is kept. ``accepted`` means that it is the agent's result."""

    agent: str
    attempt: int
    accepted: bool
    source_repo: str
    source_sha: str
    base_sha: str
    head_sha: str
    ref: str
    branch: str
    patch_sha256: str | None
    bundle_sha256: str | None
    files: tuple[dict[str, Any], ...]
    insertions: int
    deletions: int
    commits: int
    at: datetime


class ProvenanceList(Document):
    provenance: tuple[ProvenanceRow, ...]


class ToolCallRow(Document):
    """A tool call as the runtime reported it."""

    agent: str
    attempt: int
    call_id: str
    name: str
    input: Any
    output: str | None
    is_error: bool | None
    exit_code: int | None
    at: datetime
    ended_at: datetime | None


class MessageRow(Document):
    """A message of the conversation."""

    agent: str
    attempt: int
    role: str
    text: str
    at: datetime


class Trace(Document):
    """What an agent's program did: messages, tool calls, invocations, failures, in order of time."""

    messages: tuple[MessageRow, ...]
    tool_calls: tuple[ToolCallRow, ...]
    invocations: tuple[dict[str, Any], ...]
    failures: tuple[dict[str, Any], ...]
