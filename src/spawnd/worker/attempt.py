"""One attempt, from claim to settlement.

    prepare → open → run → collect → check → deliver → settle

Only the steps up to the check can be cut short from outside (cancel, budget, shutdown, a lost lease); what follows
belongs to the supervisor and is bounded by time. Whatever happens, the work is on record before it is released.
"""

from __future__ import annotations

import asyncio
import logging
import traceback

from spawnd.contracts.control_plane import Assignment
from spawnd.contracts.runtime import Runtime
from spawnd.domain.facts import Entered, Erred
from spawnd.domain.failures import Failure, FailureClass
from spawnd.domain.settle import Failed, Outcome, StopCause, Stopped, Succeeded
from spawnd.domain.states import AgentState, AttemptState
from spawnd.errors import SpawndError, StaleLease, Unavailable
from spawnd.git.workspace import remove_tree
from spawnd.process.orphans import kill_marked
from spawnd.worker.job import Job, Tools
from spawnd.worker.leases import LeaseKeeper
from spawnd.worker.ownership import note_of
from spawnd.worker.recorder import Recorder
from spawnd.worker.steps import checks, collect, environment, runtime, setup, source, workspace
from spawnd.worker.steps.failing import StepFailed, failure_of
from spawnd.worker.steps.places import trouble
from spawnd.worker.stopping import Stop

log = logging.getLogger(__name__)

_COLLECT_SECONDS = 600.0
_SETTLE_RETRY_SECONDS = 1.0


async def run_attempt(tools: Tools, assignment: Assignment, keeper: LeaseKeeper, stop: Stop) -> None:
    """Run it. Returns when it is settled, or when its lease is lost."""
    keeper.hold(assignment.lease, stop)
    try:
        async with Recorder(tools.plane, assignment.lease, stop) as recorder:
            job = Job(tools, assignment, recorder)
            outcome = await _supervise(job, stop)
            outcome = await _conclude(job, stop, outcome)
            await _settle(job, stop, outcome)
    finally:
        keeper.drop(assignment.lease)


async def _supervise(job: Job, stop: Stop) -> Outcome:
    """Run the part that can be stopped, in a task of its own, and say how it ended."""
    work = asyncio.create_task(_work(job), name=f"attempt-{job.assignment.lease.attempt_id}")
    stop.attach(work)
    try:
        return await work
    except asyncio.CancelledError:
        if stop.cause is None:
            # Not asked for by anybody who said why: the worker itself is being torn down.
            stop.set(StopCause.SHUTDOWN)
            work.cancel()
            await asyncio.wait([work])
        assert stop.cause is not None
        return Stopped(stop.cause)
    except StaleLease:
        stop.set(StopCause.LEASE_LOST)
        return Stopped(StopCause.LEASE_LOST)
    finally:
        stop.detach()
        # The mark finds what left its process group; inside a sandbox nothing can.
        if not job.tools.sandbox.isolates:
            await asyncio.to_thread(kill_marked, job.mark)


async def _work(job: Job) -> Outcome:
    step = "prepare"
    try:
        program = job.tools.runtimes[job.assignment.spec.runtime]
        await job.recorder.add(Entered(AttemptState.PREPARING))
        await _prepare(job, program)
        step = job.assignment.spec.runtime
        await job.recorder.add(Entered(AttemptState.EXECUTING))
        finished = await runtime.execute(job, program)
        step = "collect"
        await collect.snapshot(job)
        if finished.failure is not None:
            await job.recorder.add(Erred(job.assignment.spec.runtime, finished.failure))
            return Failed(_redacted(job, finished.failure))
        step = "check"
        await job.recorder.add(Entered(AttemptState.CHECKING))
        if (failure := await checks.judge(job)) is not None:
            return Failed(_redacted(job, failure))
        return Succeeded(job.recorder.redactor.text(finished.final_message))
    except StaleLease:
        raise
    except Exception as error:
        place = await asyncio.to_thread(trouble, error, job.tools.settings)
        failure = _redacted(job, place or failure_of(error, step))
        if place is None and not isinstance(error, SpawndError | StepFailed):
            text = job.recorder.redactor.text("".join(traceback.format_exception(error)))
            log.error("an attempt met a surprise", extra={"agent": job.assignment.agent, "step": step, "trace": text})
            await job.recorder.store("runtime-error", text.encode(), name=step)
        source_step = error.source if isinstance(error, StepFailed) else step
        await job.recorder.add(Erred(source_step, failure))
        return Failed(failure)


async def _prepare(job: Job, program: Runtime) -> None:
    await environment.resolve(job)
    await environment.gate(job, program)
    await source.resolve(job)
    await source.combine(job)
    await workspace.prepare(job)
    await setup.prepare(job)


async def _conclude(job: Job, stop: Stop, outcome: Outcome) -> Outcome:
    """Put the work on record and release the workspace. A failure here fails the attempt and keeps the files."""
    if job.workspace is None:
        return outcome
    try:
        async with asyncio.timeout(_COLLECT_SECONDS):
            if job.snapshot is None:
                await collect.snapshot(job)
            if stop.cause is not StopCause.LEASE_LOST:
                await job.recorder.add(Entered(AttemptState.DELIVERING))
                await collect.store(job)
                await collect.deliver(job, accepted=isinstance(outcome, Succeeded))
    except StaleLease:
        pass  # the ref in the mirror holds the work; `spawnd salvage list` shows it
    except (SpawndError, OSError, TimeoutError) as error:
        message = f"Its work could not be kept; it is in {job.workspace.path}: {str(error) or type(error).__name__}"
        failure = _redacted(job, Failure(FailureClass.SETUP_FAILED, message))
        log.error("work could not be kept", extra={"path": str(job.workspace.path), "error": failure.message})
        await job.recorder.add(Erred("collect", failure))
        return outcome if isinstance(outcome, Stopped) else Failed(failure)
    await job.workspace.release()
    await asyncio.to_thread(note_of(job.workspace.path).unlink, missing_ok=True)
    return outcome


async def _settle(job: Job, stop: Stop, outcome: Outcome) -> None:
    """Tell the system, again and again until it answers or the lease is surely lost."""
    assignment, plane = job.assignment, job.tools.plane
    while stop.cause is not StopCause.LEASE_LOST:
        try:
            await job.recorder.flush()
            settled = await plane.finish(assignment.lease, outcome)
            state = settled.decision.state.value
            log.info("attempt ended", extra={"agent": assignment.agent, "attempt": assignment.attempt, "state": state})
            if settled.decision.state is AgentState.COMPLETED and not _keeps_session(job):
                await asyncio.to_thread(remove_tree, job.state_dir)
            return
        except StaleLease:
            break
        except Unavailable as error:
            if not error.retryable:
                break
            log.warning("the ending waits", extra={"agent": assignment.agent, "error": error.message})
            await asyncio.sleep(_SETTLE_RETRY_SECONDS)
    log.warning("lease lost", extra={"agent": assignment.agent, "attempt": assignment.attempt})


def _keeps_session(job: Job) -> bool:
    """What completed is not resumed: its session, with the login that was lent to it, goes unless the plan keeps it."""
    spec = job.assignment.spec
    return spec.runtime == "codex" and not spec.codex.ephemeral


def _redacted(job: Job, failure: Failure) -> Failure:
    redactor = job.recorder.redactor
    detail = redactor.value(failure.detail) if failure.detail else None
    return Failure(failure.failure_class, redactor.text(failure.message), failure.reset_at, detail)
