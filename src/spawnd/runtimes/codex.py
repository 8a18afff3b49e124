"""Codex, through its command line: ``codex exec --json``. Protocol as of codex-cli 0.163 (November 2026).

Each agent has a CODEX_HOME of its own below its state folder, kept between attempts so that a thread can be resumed,
and seeded with auth.json and config.toml of the user's own (or SPAWND_CODEX_AUTH_DIR), which stay as they are.
Inside a sandbox of spawnd's, codex's own is off: namespaces do not nest there, and the outer walls stand.

Events on standard output say what is done; how many tokens were used so far stands only in the thread's rollout
file, which is read along, so that a budget is held while the agent works and not at the end of its turn.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
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

_KEYS = ("CODEX_API_KEY", "OPENAI_API_KEY")
_ADDRESS = "OPENAI_BASE_URL"
#: How often the program itself asks again at an address of the plan's; after that spawnd parks or backs off.
_OWN_RETRIES = 2
_SEEDS = ("auth.json", "config.toml")
#: Items that are tool calls: type → the field that says what was called.
_TOOLS = {"command_execution": "command", "file_change": "changes", "mcp_tool_call": "tool", "web_search": "query"}


class CodexRuntime:
    """See the module's text."""

    name: ClassVar[str] = "codex"
    autonomous: ClassVar[bool] = True
    networked: ClassVar[bool] = True

    def probe(self, env: Mapping[str, str]) -> Probe:
        program = _program(env)
        if program is None:
            return Probe(installed=False, ready=False, detail="not installed")
        keys = tuple(name for name in (*_KEYS, _ADDRESS) if env.get(name))
        login = _login_dir(env)
        if key := next((name for name in _KEYS if name in keys), None):
            detail = f"key in {key}"
        else:
            detail = f"login in {login}" if (login / "auth.json").is_file() else ""
        return Probe(
            installed=True,
            ready=bool(detail),
            program=program,
            version=programs.version_of(program),
            detail=detail,
            readable=programs.places(program),
            variables=keys,
            login=login,
            secrets=programs.secrets_in(login / _SEEDS[0]),
        )

    def credential(self, env_refs: Mapping[str, str]) -> str | None:
        key = next((env_refs[name] for name in _KEYS if name in env_refs), "login")
        return f"codex:{key}"

    async def run(self, brief: Brief, room: Room) -> AsyncIterator[RuntimeEvent]:
        if brief.options.get("engine") == "sdk":
            message = "codex.engine sdk is not built: use cli or auto."
            yield Finished(Failure(FailureClass.POLICY, message))
            return
        if brief.program is None or brief.program.program is None:
            message = "codex is not installed on this worker (pip install 'spawnd[codex]')."
            yield Finished(Failure(FailureClass.SETUP_FAILED, message))
            return
        program = brief.program.program
        home = brief.state_dir / "codex"
        await asyncio.to_thread(_prepare, home, brief)
        resume = brief.resume_session
        rollout = await asyncio.to_thread(_rollout, home, resume) if resume else None
        if resume and rollout is None:
            yield Notice("The session's files are not on this worker: it starts anew, with the work that was kept.")
            resume = None
        reader = _Reader(brief, home, resume)
        async with room.spawn(_command(program, brief, resume), env=_environment(brief, home), stdin=True) as child:
            await _tell(child, brief, resume)
            async for event in reader.events(child):
                yield event
            code = await child.wait()
            for line in child.stderr_tail().splitlines():
                yield Raw(line, "stderr")
            for event in await asyncio.to_thread(reader.usage):
                yield event
            yield Finished(reader.failure(code, child), reader.last, code)


class _Reader:
    """Turns lines into events, and the rollout file into usage."""

    def __init__(self, brief: Brief, home: Path, resume: str | None) -> None:
        self.last = ""
        self._brief = brief
        self._home = home
        self._resume = resume
        self._thread = resume
        self._complete = False
        self._said: list[str] = []
        self._failed: str | None = None
        self._open: set[str] = set()
        self._rollout: Path | None = None
        self._position = 0
        self._model = brief.model
        self._base: Usage | None = None if resume else Usage()
        self._total = Usage()
        self._reset: datetime | None = None

    async def events(self, child: Child) -> AsyncIterator[RuntimeEvent]:
        if self._resume:
            # What the thread had used before this attempt is not this attempt's.
            await asyncio.to_thread(self._read_rollout)
            self._base = self._total
        async for line in child.lines():
            yield Raw(line)
            record = programs.record(line)
            if record is None:
                continue
            for event in programs.understood(record, self._typed):
                yield event
            if record.get("type") in ("item.completed", "turn.completed"):
                for event in await asyncio.to_thread(self.usage):
                    yield event

    def _typed(self, record: dict[str, Any]) -> list[RuntimeEvent]:
        match record.get("type"):
            case "thread.started":
                self._thread = str(record.get("thread_id", ""))
                version = self._brief.program.version if self._brief.program else None
                return [SessionStarted(self._thread, self._thread == self._resume, version, self._model)]
            case "item.started" | "item.updated" | "item.completed":
                return self._item(record["type"], record.get("item") or {})
            case "turn.completed":
                self._complete = True
                self._count(record.get("usage") or {})
                return []
            case "turn.failed":
                self._failed = "the turn failed"  # whatever can be read of the error
                error = record.get("error")
                self._failed = str((error.get("message") if isinstance(error, dict) else error) or self._failed)
                return []
            case "error":
                message = str(record.get("message") or "an error")
                self._said.append(message)
                return [Notice(message)]
            case _:
                return []

    def _item(self, kind: str, item: dict[str, Any]) -> list[RuntimeEvent]:
        type_, id_ = str(item.get("type", "")), str(item.get("id", ""))
        completed = kind == "item.completed"
        if type_ in _TOOLS:
            return self._tool(type_, id_, item, completed=completed)
        if not completed:
            return []
        if type_ == "agent_message":
            self.last = str(item.get("text", ""))
            return [Message("assistant", self.last)]
        if type_ == "reasoning":
            return [Message("reasoning", str(item.get("text", "")))]
        if type_ == "error":
            return [Notice(str(item.get("message", "")))]
        return []

    def _tool(self, type_: str, id_: str, item: dict[str, Any], *, completed: bool) -> list[RuntimeEvent]:
        found: list[RuntimeEvent] = []
        if id_ not in self._open:
            self._open.add(id_)
            name = str(item.get("tool")) if type_ == "mcp_tool_call" else type_
            given = item.get("arguments") if type_ == "mcp_tool_call" else {_TOOLS[type_]: item.get(_TOOLS[type_])}
            found.append(ToolStarted(id_, name, programs.bounded(given)))
        if completed:
            output = item.get("aggregated_output")
            text = output if isinstance(output, str) else programs.text_of(item.get("result") or item.get("error"))
            code = item.get("exit_code")
            failed = item.get("status") == "failed" or bool(item.get("error"))
            found.append(ToolEnded(id_, text[: programs.BOUND], failed, code if isinstance(code, int) else None))
        return found

    def usage(self) -> list[RuntimeEvent]:
        """What this attempt has used so far, if that is news."""
        before = self._total
        notices = self._read_rollout()
        if self._total == before and not self._complete:
            return notices
        base = self._base or Usage()
        if self._total == base:
            return notices
        spent = replace(
            self._total,
            input_tokens=max(0, self._total.input_tokens - base.input_tokens),
            cached_input_tokens=max(0, self._total.cached_input_tokens - base.cached_input_tokens),
            cache_write_tokens=max(0, self._total.cache_write_tokens - base.cache_write_tokens),
            output_tokens=max(0, self._total.output_tokens - base.output_tokens),
            reasoning_tokens=max(0, self._total.reasoning_tokens - base.reasoning_tokens),
            model=self._model,
        )
        file = self._brief.options.get("prices_file")
        return [*notices, UsageReported(priced(spent, file=Path(str(file)) if file else None))]

    def _read_rollout(self) -> list[RuntimeEvent]:
        """Read what the thread's file has gained: totals of tokens, the model, when a limit opens."""
        if self._rollout is None and self._thread:
            self._rollout = _rollout(self._home, self._thread)
        if self._rollout is None:
            return []
        try:
            with self._rollout.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except OSError:  # the program took it away: what was read so far stays
            return []
        whole = data.rfind(b"\n") + 1  # the last line may still be being written
        self._position += whole
        notices: list[RuntimeEvent] = []
        for line in data[:whole].splitlines():
            if b"token_count" in line or b"turn_context" in line:
                notices += programs.understood(programs.record(line) or {}, self._rollout_line)
        return notices

    def _rollout_line(self, record: dict[str, Any]) -> list[RuntimeEvent]:
        payload = record.get("payload") or {}
        if record.get("type") == "turn_context" and payload.get("model"):
            self._model = str(payload["model"])
        if payload.get("type") == "token_count":
            self._count((payload.get("info") or {}).get("total_token_usage") or {})
            self._reset = _reset(payload.get("rate_limits") or {}) or self._reset
        return []

    def _count(self, totals: dict[str, Any]) -> None:
        """Totals of the thread; here input tokens include the cached ones."""
        if not totals:
            return
        cached = programs.tokens(totals.get("cached_input_tokens") or 0)
        written = programs.tokens(totals.get("cache_write_input_tokens") or 0)
        self._total = Usage(
            input_tokens=max(0, programs.tokens(totals.get("input_tokens") or 0) - cached - written),
            cached_input_tokens=cached,
            cache_write_tokens=written,
            output_tokens=programs.tokens(totals.get("output_tokens") or 0),
            reasoning_tokens=programs.tokens(totals.get("reasoning_output_tokens") or 0),
        )

    def failure(self, code: int, child: Child) -> Failure | None:
        """How it ended; None if the turn was completed."""
        if self._failed is not None:
            return failure_of(self._failed, reset_at=self._reset)
        if self._complete and code == 0:
            return None
        stderr = child.stderr_tail().decode("utf-8", "replace").strip().splitlines()
        words = self._said[-1] if self._said else (stderr[-1] if stderr else "it said nothing")
        if code == 0:
            return Failure(FailureClass.NETWORK, f"codex ended before its turn was complete: {words}")
        known = failure_of(words, reset_at=self._reset)
        return Failure(
            known.failure_class,
            f"codex ended with exit code {code}: {known.message}",
            known.reset_at,
            {"exit_code": code},
        )


def _program(env: Mapping[str, str]) -> Path | None:
    return programs.find("codex", env, "codex_cli_bin", "bin/codex")


def _login_dir(env: Mapping[str, str]) -> Path:
    named = env.get("SPAWND_CODEX_AUTH_DIR") or env.get("CODEX_HOME")
    return Path(named) if named else Path(env.get("HOME") or Path.home()) / ".codex"


def _prepare(home: Path, brief: Brief) -> None:
    source = brief.program.login if brief.program else None
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if source is None:
        return
    # A key that the plan names is the login; a login of the user's is then none of the agent's business.
    names = _SEEDS[1:] if _has_key(brief) else _SEEDS
    programs.seed(source, home, names)


def _has_key(brief: Brief) -> bool:
    return any(name in brief.env for name in _KEYS)


def _environment(brief: Brief, home: Path) -> dict[str, str]:
    env = {**brief.env, "CODEX_HOME": str(home)}
    if "OPENAI_API_KEY" in env:
        env.setdefault("CODEX_API_KEY", env["OPENAI_API_KEY"])  # the name that `exec` reads
    for server in brief.mcp_servers:
        env |= {_variable(server, name): value for name, value in server.headers.items()} | dict(server.env)
    return env


async def _tell(child: Child, brief: Brief, resume: str | None) -> None:
    """The prompt goes through standard input: no length limit, and nothing of it in the list of processes."""
    parts = [brief.prompt] if resume else [brief.system_prompt, brief.prompt]
    await child.write_stdin("\n\n".join(part for part in parts if part).encode())
    await child.close_stdin()


def _command(program: Path, brief: Brief, resume: str | None) -> list[str]:
    options = brief.options
    settings: dict[str, Any] = {"approval_policy": "never", "sandbox_mode": _sandbox(brief)}
    if address := brief.env.get(_ADDRESS):
        settings["model_provider"] = "spawnd"
        settings["model_providers.spawnd"] = {
            "name": "spawnd",
            "base_url": address,
            "wire_api": "responses",
            # Without a key in the environment it is the login that serves this address too.
            **({"env_key": "CODEX_API_KEY"} if _has_key(brief) else {"requires_openai_auth": True}),
            "request_max_retries": _OWN_RETRIES,
            "stream_max_retries": _OWN_RETRIES,
        }
    for server in brief.mcp_servers:
        settings[f"mcp_servers.{json.dumps(server.name)}"] = _mcp(server)
    command = [str(program), "exec", *(["resume"] if resume else []), "--json", "--skip-git-repo-check"]
    for key, value in settings.items():
        command += ["-c", f"{key}={_toml(value)}"]
    if brief.model:
        command += ["-m", brief.model]
    if options.get("dangerous_bypass"):
        command.append("--dangerously-bypass-approvals-and-sandbox")
    elif options.get("approval_mode") == "auto_review" and not resume and not options.get("outer_sandbox"):
        command.append("--approve-for-me")
    return [*command, *([resume] if resume else []), "-"]


def _sandbox(brief: Brief) -> str:
    if brief.options.get("outer_sandbox"):
        return "danger-full-access"
    return str(brief.options.get("sandbox") or "workspace-write") if brief.write_allowed else "read-only"


def _mcp(server: McpServer) -> dict[str, Any]:
    """A server as codex's configuration has it. Secrets stay in the environment: it names only their variables."""
    found: dict[str, Any]
    if server.type == "stdio":
        found = {"command": server.command, "args": list(server.args), "env_vars": sorted(server.env)}
    else:
        found = {"url": server.url, "env_http_headers": {name: _variable(server, name) for name in server.headers}}
    if server.tools:
        found["enabled_tools"] = list(server.tools)
    return found


def _variable(server: McpServer, header: str) -> str:
    plain = "".join(letter if letter.isalnum() else "_" for letter in f"{server.name}_{header}")
    return f"SPAWND_MCP_{plain.upper()}"


def _toml(value: Any) -> str:
    """A value as TOML, which for strings and lists is JSON."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def _rollout(home: Path, thread: str | None) -> Path | None:
    """The thread's file: ``sessions/2026/11/21/rollout-2026-11-21T07-12-43-<thread>.jsonl``."""
    # The id is the program's word: compared, never made a pattern.
    found = (home / "sessions").rglob("rollout-*.jsonl")
    return min((path for path in found if path.name.endswith(f"-{thread}.jsonl") and path.is_file()), default=None)


def _reset(limits: dict[str, Any]) -> datetime | None:
    """When the window that is used up opens again."""
    full = [
        window
        for name in ("primary", "secondary")
        if isinstance(window := limits.get(name), dict) and float(window.get("used_percent") or 0) >= 100
    ]
    stamps = [float(window["resets_at"]) for window in full if window.get("resets_at")]
    return datetime.fromtimestamp(max(stamps), UTC) if stamps else None
