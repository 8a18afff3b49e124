"""Runtime: drive the agent program, and turn what it reports into facts as it happens."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

from spawnd.contracts.runtime import (
    Brief,
    Finished,
    McpServer,
    Message,
    Notice,
    Raw,
    Runtime,
    RuntimeEvent,
    SessionStarted,
    ToolEnded,
    ToolStarted,
    UsageReported,
)
from spawnd.domain import facts as f
from spawnd.domain.failures import Failure, FailureClass
from spawnd.telemetry.redact import Speech, StreamRedactor
from spawnd.worker.job import Job
from spawnd.worker.steps.prompt import system_prompt, user_prompt

_UNPRICED = "No price is known for {}: budgets cannot hold its cost. SPAWND_PRICES_FILE can name one."
_TRANSCRIPT_MAX = 32 * 1024 * 1024


async def execute(job: Job, runtime: Runtime) -> Finished:
    """Run the program to its end or its time limit. Cancelling it stops the program; the transcript is kept."""
    spec, recorder = job.assignment.spec, job.recorder
    job.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    probe = await asyncio.to_thread(runtime.probe, job.tools.settings.environ)
    recorder.redactor = recorder.redactor.knowing(probe.secrets)
    brief = Brief(
        run_id=job.assignment.run_id,
        agent=job.assignment.agent,
        attempt=job.assignment.attempt,
        prompt=user_prompt(job),
        workspace=_path(job),
        state_dir=job.state_dir,
        system_prompt=await system_prompt(job),
        model=spec.model,
        write_allowed=spec.write_allowed,
        max_iterations=spec.max_iterations,
        env=job.variables(),
        resume_session=job.resume_session,
        mcp_servers=_servers(job),
        program=probe,
        options=_options(job),
    )
    told = "\n\n".join(part for part in (brief.system_prompt, brief.prompt) if part)
    await recorder.store("prompt", told.encode("utf-8", "replace"))
    transcript = Transcript(None if recorder.capture_raw else recorder.redactor.stream())
    speech = recorder.redactor.speech()
    started, clock = datetime.now(UTC), time.monotonic()
    finished: Finished | None = None
    boundary = job.boundary(state_dir=job.state_dir, readable=probe.readable)
    try:
        async with job.tools.sandbox.open(boundary) as room:
            try:
                async with asyncio.timeout(spec.runtime_timeout_seconds) as limit:
                    async with aclosing(runtime.run(brief, room)) as events:  # type: ignore[type-var]  # a generator
                        async for event in events:
                            if isinstance(event, Finished):
                                finished = event
                                break
                            await _report(job, event, transcript, speech)
            except TimeoutError:
                if not limit.expired():
                    raise  # the adapter's own
                message = f"It hit its time limit of {spec.runtime_timeout_seconds:g} s."
                finished = Finished(Failure(FailureClass.TIMEOUT, message))
            verdict = getattr(room, "verdict", None)
            if verdict is not None:
                finished = Finished(Failure(FailureClass.AGENT_ERROR, f"It was ended: {verdict}."))
    finally:
        # Also when it is cancelled: what it said until then is evidence.
        seconds = time.monotonic() - clock
        code = finished.exit_code if finished else None
        await asyncio.shield(
            _keep(job, transcript, f.Invoked("runtime", started, seconds, code, {"name": runtime.name}))
        )
    if finished is None:
        return Finished(Failure(FailureClass.AGENT_ERROR, f"The adapter {runtime.name} ended without a result."))
    if finished.final_message:
        finished = dataclasses.replace(finished, final_message=speech.repeat(finished.final_message))
        await recorder.store("final-message", finished.final_message.encode("utf-8", "replace"))
    return finished


class Transcript:
    """What the program printed, redacted as it arrives, bounded."""

    def __init__(self, redactor: StreamRedactor | None) -> None:
        self.truncated = False
        self._redactor = redactor
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> None:
        if self._size > _TRANSCRIPT_MAX:
            self.truncated = True
            return
        data = line + b"\n"
        self._take(data if self._redactor is None else self._redactor.feed(data))

    def finish(self) -> bytes:
        if self._redactor is not None:
            self._take(self._redactor.flush())
        return b"".join(self._parts)

    def _take(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._size += len(data)


async def _keep(job: Job, transcript: Transcript, invoked: f.Invoked) -> None:
    data = transcript.finish()
    if data:
        await job.recorder.store("transcript", data, truncated=transcript.truncated, clean=True)
    await job.recorder.add(invoked)


async def _report(job: Job, event: RuntimeEvent, transcript: Transcript, speech: Speech) -> None:
    add = job.recorder.add
    match event:
        case Raw(line=line, stream=stream):
            transcript.add(line if stream == "stdout" else b"[" + stream.encode() + b"] " + line)
        case SessionStarted():
            await add(
                f.SessionOpened(
                    job.assignment.spec.runtime, event.session_id, event.resumed, event.program_version, event.model
                )
            )
        case Message(role=role, text=text):
            await add(f.Said(role, speech.text(text)))
        case ToolStarted():
            await add(f.ToolCalled(event.call_id, event.name, event.input))
        case ToolEnded():
            await add(f.ToolReturned(event.call_id, event.output, event.is_error, event.exit_code))
        case UsageReported(usage=usage):
            await add(f.Used(usage))
            if usage.cost_usd is None and usage.input_tokens + usage.output_tokens > 0 and not job.unpriced:
                job.unpriced = True
                await add(f.Noted("notice", {"message": _UNPRICED.format(usage.model or "its model")}))
        case Notice(message=message):
            await add(f.Noted("notice", {"message": message}))


def _path(job: Job) -> Path:
    assert job.workspace is not None
    return job.workspace.path


def _servers(job: Job) -> list[McpServer]:
    environ = job.tools.settings.environ
    return [
        McpServer(
            name=server.name,
            type=server.type,
            command=server.command,
            args=tuple(server.args),
            url=server.url,
            env={variable: environ[name] for variable, name in server.env_refs.items()},
            headers={
                **server.headers,
                **{header: environ[name] for header, name in server.header_refs.items()},
            },
            tools=tuple(server.tools),
        )
        for server in job.assignment.spec.mcp_servers
    ]


def _options(job: Job) -> dict[str, object]:
    spec, settings = job.assignment.spec, job.tools.settings
    common: dict[str, object] = {
        "outer_sandbox": job.tools.sandbox.isolates,
        "prices_file": str(settings.prices_file) if settings.prices_file else None,
    }
    match spec.runtime:
        case "codex":
            return {**common, **spec.codex.model_dump()}
        case "command":
            return {**common, "command": spec.command if isinstance(spec.command, str) else list(spec.command or ())}
        case "mock":
            return {**common, **spec.mock.model_dump()}
        case _:
            return common
