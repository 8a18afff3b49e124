"""Checks: run after the agent, in the same kind of room, by the worker; their exit codes decide."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from spawnd.domain.facts import Checked, Invoked
from spawnd.domain.failures import Failure, FailureClass
from spawnd.plan.commands import refusal
from spawnd.worker.job import Job
from spawnd.worker.steps.commands import run


async def judge(job: Job) -> Failure | None:
    """Run every check in order; the first that fails is the failure, the rest are not run."""
    spec, recorder = job.assignment.spec, job.recorder
    policy = job.assignment.orchestration.command_policy
    for check in spec.checks:
        if problem := refusal(check.command, policy):
            return Failure(FailureClass.POLICY, f"The check {check.name}: {problem}.")
        started, clock = datetime.now(UTC), time.monotonic()
        result = await run(job, job.boundary(), check.command, timeout_seconds=check.timeout_seconds, env={})
        seconds = time.monotonic() - clock
        passed = result.exit_code == 0
        sha256 = await recorder.store("check-output", result.output, name=check.name, truncated=result.truncated)
        tail = recorder.redactor.text(result.tail)
        await recorder.add(
            Invoked("check", started, seconds, result.exit_code, {"name": check.name}),
            Checked(check.name, check.command, passed, result.exit_code, seconds, tail, sha256),
        )
        if not passed:
            how = (
                f"hit its limit of {check.timeout_seconds:g} s" if result.timed_out else f"exit code {result.exit_code}"
            )
            detail: dict[str, object] = {"check": check.name, "exit_code": result.exit_code}
            name = "check" if check.name == "check" else f"check {check.name}"
            return Failure(FailureClass.CHECK_FAILED, f"The {name} did not pass: {how}.", detail=detail)
    return None
