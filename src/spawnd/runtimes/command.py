"""Any program as an agent.

It runs in the workspace with the prompt in the file that ``SPAWND_PROMPT_FILE`` names. What it prints is its
transcript; its last line is the final message. A line ``::spawnd {json}`` reports more than text:

| ``type`` | fields |
|---|---|
| ``usage`` | ``input_tokens``, ``output_tokens``, ``cached_input_tokens``, ``cost_usd``, ``model``: totals so far |
| ``session`` | ``id``: handed back in ``SPAWND_RESUME_SESSION`` to the next attempt |
| ``tool`` | ``name``, ``input``, ``output``, ``is_error``: a tool call that has ended |
| ``quota`` | ``message``, ``reset_at`` (ISO 8601 with zone, if known): with a non-zero exit it parks the agent |
| ``notice`` | ``message`` |

Exit 0 means done; 75 (EX_TEMPFAIL) is a transient failure and is tried again by itself; anything else is an error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from spawnd.contracts.runtime import (
    Brief,
    Finished,
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

_MARK = b"::spawnd "
_TEMPFAIL = 75
_MESSAGE_LINES = 200
_SHOWN = 500


class CommandRuntime:
    """Runs ``options["command"]``: an argument list, or a line for the shell."""

    name: ClassVar[str] = "command"
    autonomous: ClassVar[bool] = False
    networked: ClassVar[bool] = False

    def probe(self, env: Mapping[str, str]) -> Probe:
        return Probe(installed=True, ready=True, detail="any program; nothing to install")

    def credential(self, env_refs: Mapping[str, str]) -> str | None:
        return None  # spawnd cannot know whose limits a program shares

    async def run(self, brief: Brief, room: Room) -> AsyncIterator[RuntimeEvent]:
        command = brief.options["command"]
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        prompt_file = brief.state_dir / "prompt.txt"
        await asyncio.to_thread(_write, prompt_file, brief)
        env = {
            **brief.env,
            "SPAWND_PROMPT_FILE": str(prompt_file),
            "SPAWND_WRITE_ALLOWED": "1" if brief.write_allowed else "0",
        }
        if brief.resume_session is not None:
            env["SPAWND_RESUME_SESSION"] = brief.resume_session
        async with room.spawn(argv, env=env) as child:
            reader = _Reader()
            async for event in reader.events(child):
                yield event
            code = await child.wait()
            for line in child.stderr_tail().splitlines():
                yield Raw(line, "stderr")
            yield Finished(_failure(code, reader, child), reader.last, code)


class _Reader:
    """Turns lines into events."""

    def __init__(self) -> None:
        self.last = ""
        self.quota: Failure | None = None
        self._calls = 0
        self._messages = 0

    async def events(self, child: Child) -> AsyncIterator[RuntimeEvent]:
        async for line in child.lines():
            yield Raw(line)
            if line.startswith(_MARK):
                for event in self._report(line.removeprefix(_MARK)):
                    yield event
            elif text := line.decode("utf-8", "replace").strip():
                self.last = text
                self._messages += 1
                if self._messages <= _MESSAGE_LINES:  # the transcript has them all
                    yield Message("assistant", text[:4000])

    def _report(self, data: bytes) -> list[RuntimeEvent]:
        try:
            report: Any = json.loads(data)
            return self._typed(report)
        except programs.MISREAD as error:
            return [Notice(f"a ::spawnd line is not understood ({type(error).__name__}): {data[:200]!r}")]

    def _typed(self, report: dict[str, Any]) -> list[RuntimeEvent]:
        match report["type"]:
            case "usage":
                cost, model = report.get("cost_usd"), report.get("model")
                usage = Usage(
                    input_tokens=programs.tokens(report.get("input_tokens", 0)),
                    cached_input_tokens=programs.tokens(report.get("cached_input_tokens", 0)),
                    output_tokens=programs.tokens(report.get("output_tokens", 0)),
                    cost_usd=None if cost is None else programs.dollars(cost),
                    cost_source="none" if cost is None else "provider",
                    model=None if model is None else str(model),
                )
                return [UsageReported(usage)]
            case "session":
                return [SessionStarted(str(report["id"]), resumed=bool(report.get("resumed", False)))]
            case "tool":
                self._calls += 1
                call = f"call-{self._calls}"
                output = str(report.get("output", ""))[:65536]
                return [
                    ToolStarted(call, str(report["name"]), report.get("input")),
                    ToolEnded(call, output, bool(report.get("is_error", False))),
                ]
            case "quota":
                reset = report.get("reset_at")
                when = datetime.fromisoformat(reset) if reset else None
                if when is not None and when.tzinfo is None:
                    raise ValueError("reset_at needs a zone")
                message = str(report.get("message", "a usage limit"))
                self.quota = Failure(FailureClass.QUOTA, message, reset_at=when and when.astimezone(UTC))
                return [Notice(message)]
            case "notice":
                return [Notice(str(report["message"]))]
            case other:
                return [Notice(f"a ::spawnd line of unknown type {other!r}")]


def _failure(code: int, reader: _Reader, child: Child) -> Failure | None:
    if code == 0:
        return None
    if reader.quota is not None:
        return reader.quota
    said = child.stderr_tail().decode("utf-8", "replace").strip().splitlines()
    words = (said[-1] if said else reader.last)[:_SHOWN]
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    class_ = FailureClass.NETWORK if code == _TEMPFAIL else FailureClass.AGENT_ERROR
    return Failure(class_, f"The command {how}{f': {words}' if words else ''}", detail={"exit_code": code})


def _write(path: Path, brief: Brief) -> None:
    parts = [brief.system_prompt, brief.prompt]
    path.write_text("\n\n".join(part for part in parts if part) + "\n")
    path.chmod(0o600)
