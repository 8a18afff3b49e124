"""A runtime that plays a script: for tests, and to try a plan without a model."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from spawnd.contracts.runtime import (
    Brief,
    Finished,
    Message,
    Probe,
    Raw,
    RuntimeEvent,
    SessionStarted,
    UsageReported,
)
from spawnd.contracts.sandbox import Room
from spawnd.domain.failures import Failure, FailureClass
from spawnd.domain.usage import Usage

_FAILURES = {
    "failed": FailureClass.AGENT_ERROR,
    "quota": FailureClass.QUOTA,
    "payment": FailureClass.PAYMENT,
    "auth": FailureClass.AUTHENTICATION,
    "overload": FailureClass.OVERLOAD,
    "network": FailureClass.NETWORK,
    "timeout": FailureClass.TIMEOUT,
}


class MockRuntime:
    """Takes the time, writes the files, reports the usage and ends the way ``options`` say."""

    name: ClassVar[str] = "mock"
    autonomous: ClassVar[bool] = False
    networked: ClassVar[bool] = False

    def probe(self, env: Mapping[str, str]) -> Probe:
        return Probe(installed=True, ready=True, detail="built in")

    def credential(self, env_refs: Mapping[str, str]) -> str | None:
        return "mock:login"

    async def run(self, brief: Brief, room: Room) -> AsyncIterator[RuntimeEvent]:
        options = brief.options
        resumed = brief.resume_session is not None
        yield SessionStarted(brief.resume_session or f"mock-{uuid.uuid4()}", resumed=resumed, model=brief.model)
        yield Raw(f"mock attempt {brief.attempt}: {brief.prompt}".encode())
        if options.get("hang"):
            await asyncio.Event().wait()
        await asyncio.sleep(float(options.get("seconds", 0.05)))
        outcomes = list(options.get("outcomes") or ["completed"])
        outcome = outcomes[min(brief.attempt, len(outcomes)) - 1]
        yield UsageReported(_usage(options, brief.model))
        if outcome == "crash":
            raise RuntimeError("the mock was told to crash")
        if outcome == "completed":
            await asyncio.to_thread(_write, brief, options.get("write") or {})
            message = str(options.get("message", "done"))
            yield Message("assistant", message)
            yield Finished(final_message=message)
            return
        reset = None
        if outcome == "quota" and options.get("reset_after_seconds") is not None:
            reset = datetime.now(UTC) + timedelta(seconds=float(options["reset_after_seconds"]))
        yield Finished(Failure(_FAILURES[outcome], f"The mock was told to end with {outcome}.", reset_at=reset))


def _usage(options: Mapping[str, Any], model: str | None) -> Usage:
    return Usage(
        input_tokens=int(options.get("input_tokens", 0)),
        output_tokens=int(options.get("output_tokens", 0)),
        cost_usd=Decimal(str(options.get("cost_usd", 0))),
        cost_source="provider",
        model=model,
    )


def _write(brief: Brief, files: Mapping[str, str]) -> None:
    root = brief.workspace.resolve()
    for name, content in files.items():
        target = (root / name).resolve()
        if not target.is_relative_to(root) or not brief.write_allowed:
            raise PermissionError(f"the mock may not write {name}")
        Path(target.parent).mkdir(parents=True, exist_ok=True)
        target.write_text(content)
