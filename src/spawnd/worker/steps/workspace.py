"""Workspace: a checkout for the attempt, from its dependencies' results or from where its last attempt stopped."""

from __future__ import annotations

import asyncio
import dataclasses

from spawnd.contracts.control_plane import Contribution, Earlier
from spawnd.domain.facts import Noted
from spawnd.errors import SpawndError
from spawnd.git.command import git_code
from spawnd.git.names import branch_for, work_ref
from spawnd.git.workspace import checkout
from spawnd.worker.job import Job
from spawnd.worker.ownership import Owner, claim_path, discard
from spawnd.worker.steps.source import fetch


async def prepare(job: Job) -> None:
    """Check out. Sets ``workspace``, ``continued`` and ``resume_session``."""
    assignment = job.assignment
    assert job.mirror is not None and job.base_sha is not None
    # First of all: what a dead attempt left at the path is kept now, and this one goes on from it.
    path = await claim_path(job.tools, assignment)
    start = await _earlier_work(job) or job.base_sha
    job.continued = start != job.base_sha
    owner = Owner.of(job, path)
    await asyncio.to_thread(owner.write)
    try:
        workspace = await checkout(job.mirror, start, path, branch=branch_for(assignment.run_id, assignment.agent))
    except BaseException:  # cut short, too: nobody has worked in it yet
        await asyncio.shield(discard(owner))
        raise
    await asyncio.to_thread(dataclasses.replace(owner, ready=True).write)
    job.workspace = dataclasses.replace(workspace, base_sha=job.base_sha)
    job.resume_session = await _session(job)
    data = {"start_sha": start, "continued": job.continued, "resumes_session": job.resume_session is not None}
    await job.recorder.add(Noted("workspace_ready", data))


async def _earlier_work(job: Job) -> str | None:
    """What the last attempt left, if it can be built on: it did not succeed and began from the same base."""
    earlier, assignment = job.assignment.earlier, job.assignment
    assert job.mirror is not None and job.base_sha is not None
    if earlier is None or earlier.state == "succeeded":
        return None
    if salvaged := await _salvaged(job, earlier):
        return salvaged
    if earlier.head_sha is not None and earlier.base_sha == job.base_sha and earlier.ref is not None:
        try:
            work = Contribution(
                assignment.agent, earlier.base_sha, earlier.head_sha, earlier.ref, earlier.bundle_sha256
            )
            await fetch(job, work)
            return earlier.head_sha
        except SpawndError as error:
            await job.recorder.add(Noted("earlier_work_missing", {"message": error.message}))
            return None
    return None


async def _salvaged(job: Job, earlier: Earlier) -> str | None:
    """What lost attempts left later than the last one on record.

    Their workers could record nothing, but what they left was kept in the mirror of this machine.
    """
    assignment = job.assignment
    assert job.mirror is not None and job.base_sha is not None
    known = max(earlier.fresh_since, int(earlier.ref.rpartition("/")[2]) if earlier.ref else 0)
    for attempt in range(earlier.attempt, known, -1):
        ref = work_ref(assignment.run_id, assignment.agent, attempt)
        code, out, _ = await git_code("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", git_dir=job.mirror)
        if code != 0:
            continue
        head = out.decode().strip()
        code, _, _ = await git_code("merge-base", "--is-ancestor", job.base_sha, head, git_dir=job.mirror)
        if code == 0:
            return head
    return None


async def _session(job: Job) -> str | None:
    """The provider's session to resume: only with the state that it left on this machine."""
    earlier = job.assignment.earlier
    if earlier is None or earlier.session_id is None or earlier.state == "succeeded":
        return None
    if job.state_dir.is_dir() and any(job.state_dir.iterdir()):
        return earlier.session_id
    await job.recorder.add(
        Noted(
            "session_not_resumed",
            {"message": f"The session {earlier.session_id} was kept on {earlier.worker_id}; this attempt starts cold."},
        )
    )
    return None
