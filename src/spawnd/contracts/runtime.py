"""The seam to agent programs.

A runtime adapter is one file. ``run`` yields typed events and ends with exactly one ``Finished``, always, also
when the program misbehaves. It spawns only through the room it is given, translates vendor words at the
edge, and knows no database, git, retry or clock of ours. Cancelling the task that iterates ``run`` stops the
program's whole process group; ``run`` then raises ``CancelledError`` and yields nothing more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from spawnd.contracts.sandbox import Room
from spawnd.domain.failures import Failure
from spawnd.domain.usage import Usage


@dataclass(frozen=True, slots=True)
class McpServer:
    """An MCP server with its secrets resolved; see plan.spec.McpServerSpec for the fields."""

    name: str
    type: str
    command: str | None = None
    args: tuple[str, ...] = ()
    url: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """What ``spawnd doctor`` and the choice of a default runtime need to know.

    ``ready`` means installed and, as far as can be told without a call, logged in. ``readable`` are the
    folders that a sandbox must show for the program to run. ``variables`` are the names in ``env`` from which
    it takes its login and addresses: what a plan made from the command line refers to. ``login`` is the folder of
    the user's own login, from which an agent's private one is seeded; ``secrets`` are its values that must never be
    on record.
    """

    installed: bool
    ready: bool
    program: Path | None = None
    version: str | None = None
    detail: str = ""
    readable: tuple[Path, ...] = ()
    variables: tuple[str, ...] = ()
    login: Path | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Brief:
    """Everything that one execution needs.

    ``env`` holds the agent's variables with ``env_refs`` resolved (secret values). ``state_dir`` is writable,
    private to the agent, kept between its attempts and HOME of the room. ``resume_session`` is the provider's
    session id of an earlier attempt, or None. ``prompt`` is what to say now: the whole task, or on a resumed
    session only what is new. ``program`` is what the worker's probe found. ``options`` is the runtime's own block of
    the compiled spec (``codex``, ``command``, ``mock`` …), with ``outer_sandbox`` (whether the room isolates) and
    ``prices_file`` (the operator's, or None).
    """

    run_id: str
    agent: str
    attempt: int
    prompt: str
    workspace: Path
    state_dir: Path
    system_prompt: str = ""
    model: str | None = None
    write_allowed: bool = True
    max_iterations: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    resume_session: str | None = None
    mcp_servers: Sequence[McpServer] = ()
    program: Probe | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The provider named its conversation. ``resumed`` is False on a cold start."""

    session_id: str
    resumed: bool = False
    program_version: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message. ``role`` is assistant, user, system or reasoning."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The agent called a tool. ``input`` is JSON-like and bounded by the adapter to 64 KiB."""

    call_id: str
    name: str
    input: Any = None


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A tool returned. ``output`` is text, bounded by the adapter to 64 KiB."""

    call_id: str
    output: str = ""
    is_error: bool = False
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class UsageReported:
    """Usage of this attempt so far (cumulative within the attempt, not the session)."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Notice:
    """Something worth recording that fits nowhere else: a warning, a provider's own retry."""

    message: str


@dataclass(frozen=True, slots=True)
class Raw:
    """A line as the program printed it, for the transcript artifact. ``stream`` is stdout or stderr."""

    line: bytes
    stream: str = "stdout"


@dataclass(frozen=True, slots=True)
class Finished:
    """The end, exactly once. ``failure`` None means that the agent says it did its work."""

    failure: Failure | None = None
    final_message: str = ""
    exit_code: int | None = None


RuntimeEvent = SessionStarted | Message | ToolStarted | ToolEnded | UsageReported | Notice | Raw | Finished


class Runtime(Protocol):
    """An adapter that drives one kind of agent program."""

    name: ClassVar[str]
    #: True if it drives a model that can write by its own choice (needs an isolating sandbox)
    autonomous: ClassVar[bool]
    #: True if it calls a provider over the network (its default network is full)
    networked: ClassVar[bool]

    def probe(self, env: Mapping[str, str]) -> Probe:
        """Look for the program and a login in ``env`` and the user's home. Cheap; runs at most ``--version``."""
        ...

    def credential(self, env_refs: Mapping[str, str]) -> str | None:
        """The name (never the value) under which agents share this provider's limits, as ``claude:login``."""
        ...

    def run(self, brief: Brief, room: Room) -> AsyncIterator[RuntimeEvent]: ...
