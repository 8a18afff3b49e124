"""Claude Code, through its command line: ``claude -p --output-format stream-json``. As of 2.1 (November 2026).

Each agent has a CLAUDE_CONFIG_DIR of its own below its state folder, kept between attempts: sessions live there,
keyed by the working directory, which is the same for every attempt. It is seeded with the credentials of the user's
own (or SPAWND_CLAUDE_AUTH_DIR), which stay as they are.

``result`` says "success" even for errors: ``is_error`` and ``api_error_status`` count. A stream that broke in the
middle can come back as a success without usage; that is not taken for an end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from spawnd.contracts.runtime import (
    Brief,
    Finished,
    McpServer,
    Message,
    Notice,
    Probe,
    Raw,
    RuntimeEvent,
    SessionStarted,
    ToolEnded,
    ToolStarted,
    UsageReported,
)
from spawnd.contracts.sandbox import Child, Room
from spawnd.domain.failures import Failure, FailureClass
from spawnd.domain.usage import Usage
from spawnd.runtimes import programs
from spawnd.runtimes.limits import failure_of
from spawnd.runtimes.prices import priced

_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_ADDRESS = "ANTHROPIC_BASE_URL"
_CREDENTIALS = ".credentials.json"

#: What an agent may use without being asked; nobody is there to answer. The sandbox is the wall, not this list.
_WRITING = ("Bash", "Edit", "Write", "NotebookEdit")
_READING = ("Read", "Glob", "Grep", "LS", "Agent", "Task", "TodoWrite", "WebFetch", "WebSearch", "Skill", "ToolSearch")
#: Tools that would wait for a person, or that leave the workspace.
_NEVER = ("AskUserQuestion", "EnterWorktree", "ExitWorktree", "ScheduleWakeup", "CronCreate")

#: How often the program itself asks again before it gives up; after that spawnd parks the agent or backs off.
_OWN_RETRIES = "2"


class ClaudeRuntime:
    """See the module's text."""

    name: ClassVar[str] = "claude"
    autonomous: ClassVar[bool] = True
    networked: ClassVar[bool] = True

    def probe(self, env: Mapping[str, str]) -> Probe:
        program = programs.find("claude", env, "claude_agent_sdk", "_bundled/claude")
        if program is None:
            return Probe(installed=False, ready=False, detail="not installed")
        names = tuple(name for name in (*_KEYS, _ADDRESS) if env.get(name))
        login = _login_dir(env)
        if key := next((name for name in _KEYS if name in names), None):
            detail = f"key in {key}"
        else:
            detail = f"login in {login}" if (login / _CREDENTIALS).is_file() else ""
        return Probe(
            installed=True,
            ready=bool(detail),
            program=program,
            version=programs.version_of(program),
            detail=detail,
            readable=programs.places(program),
            variables=names,
            login=login,
            secrets=programs.secrets_in(login / _CREDENTIALS),
        )

    def credential(self, env_refs: Mapping[str, str]) -> str | None:
        key = next((env_refs[name] for name in _KEYS if name in env_refs), "login")
        return f"claude:{key}"

    async def run(self, brief: Brief, room: Room) -> AsyncIterator[RuntimeEvent]:
        if brief.program is None or brief.program.program is None:
            message = "claude is not installed on this worker (pip install 'spawnd[claude]')."
            yield Finished(Failure(FailureClass.SETUP_FAILED, message))
            return
        home = brief.state_dir / "claude"
        await asyncio.to_thread(_prepare, home, brief)
        resume = brief.resume_session
        if resume and not await asyncio.to_thread(_has_session, home, resume):
            yield Notice("The session's files are not on this worker: it starts anew, with the work that was kept.")
            resume = None
        reader = _Reader(brief, resume)
        command = _command(brief.program.program, brief, home, resume)
        async with room.spawn(command, env=_environment(brief, home), stdin=True) as child:
            await child.write_stdin(brief.prompt.encode())
            await child.close_stdin()
            async for line in child.lines():
                yield Raw(line)
                if (record := programs.record(line)) is not None:
                    for event in programs.understood(record, reader.events):
                        yield event
            code = await child.wait()
            for line in child.stderr_tail().splitlines():
                yield Raw(line, "stderr")
            yield Finished(reader.failure(code, child), reader.last, code)


class _Reader:
    """Turns records into events."""

    def __init__(self, brief: Brief, resume: str | None) -> None:
        self.last = ""
        self._brief = brief
        self._resume = resume
        self._model = brief.model
        self._session: str | None = None
        self._result: dict[str, Any] | None = None
        #: usage of each message of the provider: it is repeated with every block of the message
        self._messages: dict[str, Usage] = {}
        self._reset: datetime | None = None

    def events(self, record: dict[str, Any]) -> list[RuntimeEvent]:
        match record.get("type"):
            case "system":
                return self._system(record)
            case "assistant":
                return self._assistant(record.get("message") or {})
            case "user":
                return self._answers((record.get("message") or {}).get("content"))
            case "rate_limit_event":
                return self._rate_limit(record.get("rate_limit_info") or {})
            case "result":
                return self._ended(record)
            case _:
                return []

    def _system(self, record: dict[str, Any]) -> list[RuntimeEvent]:
        match record.get("subtype"):
            case "init" if self._session is None:
                self._session = str(record.get("session_id", ""))
                self._model = _word(record.get("model")) or self._model
                version = _word(record.get("claude_code_version"))
                return [SessionStarted(self._session, self._resume is not None, version, self._model)]
            case "api_retry":
                wait = float(record.get("retry_delay_ms") or 0) / 1000
                status = record.get("error_status")
                # Its own delays are 0.5 s, doubled each time, with a quarter of jitter; a longer one is the server's
                # retry-after.
                if status == 429 and wait > 0.5 * 2.0 ** int(record.get("attempt") or 1):
                    self._reset = datetime.now(UTC) + timedelta(seconds=wait)
                return [Notice(f"the provider failed ({status or record.get('error')}); asked again in {wait:.1f} s")]
            case _:
                return []

    def _assistant(self, message: dict[str, Any]) -> list[RuntimeEvent]:
        found: list[RuntimeEvent] = []
        content = message.get("content")
        for block in content if isinstance(content, list) else []:
            match block.get("type") if isinstance(block, dict) else None:
                case "text":
                    self.last = str(block.get("text", ""))
                    found.append(Message("assistant", self.last))
                case "thinking":
                    found.append(Message("reasoning", str(block.get("thinking", ""))))
                case "tool_use":
                    given = programs.bounded(block.get("input"))
                    found.append(ToolStarted(str(block.get("id")), str(block.get("name")), given))
        if isinstance(usage := message.get("usage"), dict) and message.get("id"):
            self._messages[str(message["id"])] = _usage_of(usage, self._model)
            found.append(UsageReported(self._so_far()))
        return found

    def _answers(self, content: Any) -> list[RuntimeEvent]:
        blocks = content if isinstance(content, list) else []
        return [
            ToolEnded(
                str(block.get("tool_use_id")),
                programs.text_of(block.get("content"))[: programs.BOUND],
                bool(block.get("is_error")),
            )
            for block in blocks
            if isinstance(block, dict) and block.get("type") == "tool_result"
        ]

    def _rate_limit(self, info: dict[str, Any]) -> list[RuntimeEvent]:
        if info.get("status") != "rejected":
            return []
        if isinstance(stamp := info.get("resetsAt"), int | float):
            self._reset = datetime.fromtimestamp(stamp, UTC)
        return [Notice(f"the provider's limit is reached ({info.get('rateLimitType') or 'unknown'})")]

    def _so_far(self) -> Usage:
        """An estimate while it works: the program's own figure comes at the end."""
        messages = self._messages.values()
        return self._priced(
            Usage(
                input_tokens=sum(one.input_tokens for one in messages),
                cached_input_tokens=sum(one.cached_input_tokens for one in messages),
                cache_write_tokens=sum(one.cache_write_tokens for one in messages),
                output_tokens=sum(one.output_tokens for one in messages),
                model=self._model,
            )
        )

    def _priced(self, usage: Usage) -> Usage:
        file = self._brief.options.get("prices_file")
        return priced(usage, file=Path(str(file)) if file else None)

    def _ended(self, record: dict[str, Any]) -> list[RuntimeEvent]:
        self._result = record
        if isinstance(record.get("result"), str) and not record.get("is_error"):
            self.last = record["result"]
        if not isinstance(usage := record.get("usage"), dict):
            return []
        total = _usage_of(usage, self._model)
        if not total.total_input_tokens and not total.output_tokens:
            return []
        try:
            cost = programs.dollars(record["total_cost_usd"])
        except programs.MISREAD:  # no figure of its own, or none that can be believed
            return [UsageReported(self._priced(total))]
        return [UsageReported(replace(total, cost_usd=cost, cost_source="provider"))]

    def failure(self, code: int, child: Child) -> Failure | None:
        """How it ended; None if the provider finished its last answer."""
        result = self._result
        if result is None:
            stderr = child.stderr_tail().decode("utf-8", "replace").strip().splitlines()
            words = stderr[-1] if stderr else self.last or "it said nothing"
            if code == 0:
                return Failure(FailureClass.NETWORK, f"claude ended without a result: {words}")
            known = failure_of(words, reset_at=self._reset)
            message = f"claude ended with exit code {code}: {known.message}"
            return Failure(known.failure_class, message, known.reset_at, {"exit_code": code})
        subtype = str(result.get("subtype", ""))
        if subtype == "error_max_turns":
            message = f"It used all of its {result.get('num_turns')} turns (max_iterations)."
            return Failure(FailureClass.AGENT_ERROR, message)
        if result.get("is_error") or subtype.startswith("error"):
            errors = result.get("errors")
            said = "; ".join(map(str, errors)) if isinstance(errors, list) else errors
            words = str(result.get("result") or said or subtype or "an error")
            status = result.get("api_error_status")
            return failure_of(words, status=status if isinstance(status, int) else None, reset_at=self._reset)
        usage = result.get("usage")
        if not isinstance(usage, dict) or not usage.get("output_tokens"):
            return Failure(FailureClass.NETWORK, "The provider's answer broke off before its end.")
        return None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _usage_of(usage: dict[str, Any], model: str | None) -> Usage:
    return Usage(
        input_tokens=programs.tokens(usage.get("input_tokens") or 0),
        cached_input_tokens=programs.tokens(usage.get("cache_read_input_tokens") or 0),
        cache_write_tokens=programs.tokens(usage.get("cache_creation_input_tokens") or 0),
        output_tokens=programs.tokens(usage.get("output_tokens") or 0),
        model=model,
    )


def _login_dir(env: Mapping[str, str]) -> Path:
    named = env.get("SPAWND_CLAUDE_AUTH_DIR") or env.get("CLAUDE_CONFIG_DIR")
    return Path(named) if named else Path(env.get("HOME") or Path.home()) / ".claude"


def _has_session(home: Path, session: str) -> bool:
    # The id is the program's word: compared, never made a pattern.
    return any(path.name == f"{session}.jsonl" for path in (home / "projects").rglob("*.jsonl"))


def _prepare(home: Path, brief: Brief) -> None:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    source = brief.program.login if brief.program else None
    # A key that the plan names is the login; a login of the user's is then none of the agent's business.
    if source is not None and not any(name in brief.env for name in _KEYS):
        programs.seed(source, home, [_CREDENTIALS])
    _private(home / "system-prompt.md", brief.system_prompt)
    servers = {server.name: _mcp(server) for server in brief.mcp_servers}
    _private(home / "mcp.json", json.dumps({"mcpServers": servers}))


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _environment(brief: Brief, home: Path) -> dict[str, str]:
    env = {
        "CLAUDE_CODE_MAX_RETRIES": _OWN_RETRIES,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        **brief.env,
        "CLAUDE_CONFIG_DIR": str(home),
    }
    for server in brief.mcp_servers:
        env |= {_variable(server, name): value for name, value in (*server.headers.items(), *server.env.items())}
    return env


def _command(program: Path, brief: Brief, home: Path, resume: str | None) -> list[str]:
    command = [str(program), "-p", "--output-format", "stream-json", "--verbose", "--permission-mode", "acceptEdits"]
    # Inside the sandbox a shell can do no harm to a workspace that is mounted read-only.
    shell = ("Bash",) if brief.options.get("outer_sandbox") else ()
    allowed = (*_READING, *(_WRITING if brief.write_allowed else shell))
    denied = (*_NEVER, *(() if brief.write_allowed else tuple(name for name in _WRITING if name not in shell)))
    allowed = (*allowed, *(name for server in brief.mcp_servers for name in _mcp_tools(server)))
    command += ["--allowedTools", ",".join(allowed), "--disallowedTools", ",".join(denied)]
    command += ["--strict-mcp-config", "--mcp-config", str(home / "mcp.json")]
    if brief.system_prompt:
        command += ["--append-system-prompt-file", str(home / "system-prompt.md")]
    if brief.max_iterations:
        command += ["--max-turns", str(brief.max_iterations)]
    if brief.model:
        command += ["--model", brief.model]
    if resume:
        command += ["--resume", resume]
    return command


def _mcp_tools(server: McpServer) -> list[str]:
    return [f"mcp__{server.name}__{tool}" for tool in server.tools] or [f"mcp__{server.name}"]


def _mcp(server: McpServer) -> dict[str, Any]:
    """A server as Claude Code's configuration has it. Secrets stay in the environment, which it expands."""
    if server.type == "stdio":
        env = {name: f"${{{_variable(server, name)}}}" for name in server.env}
        return {"type": "stdio", "command": server.command, "args": list(server.args), "env": env}
    headers = {name: f"${{{_variable(server, name)}}}" for name in server.headers}
    return {"type": server.type, "url": server.url, "headers": headers}


def _variable(server: McpServer, name: str) -> str:
    plain = "".join(letter if letter.isalnum() else "_" for letter in f"{server.name}_{name}")
    return f"SPAWND_MCP_{plain.upper()}"
