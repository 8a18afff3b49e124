"""Collect: whatever the agent left is on record, as a ref in the mirror and a patch, before anything is released."""

from __future__ import annotations

from spawnd.domain.facts import Delivered, Noted
from spawnd.git import names, patch
from spawnd.worker.job import Job


async def snapshot(job: Job) -> None:
    """Take the snapshot and publish it to the mirror. Needs no lease: it is safe when that is lost."""
    assert job.workspace is not None
    assignment = job.assignment
    job.snapshot = await job.workspace.snapshot(
        f"spawnd: {assignment.run_id}/{assignment.agent}",
        author=assignment.agent,
        trailers={
            "Spawnd-Run": assignment.run_id,
            "Spawnd-Agent": assignment.agent,
            "Spawnd-Attempt": str(assignment.attempt),
        },
        include=assignment.spec.outputs,
    )
    await job.workspace.publish(job.snapshot, names.work_ref(assignment.run_id, assignment.agent, assignment.attempt))


async def store(job: Job) -> None:
    """Store the patch and the bundle as artifacts."""
    assert job.workspace is not None and job.snapshot is not None and job.source_sha is not None
    taken, mirror = job.snapshot, job.workspace.mirror
    if taken.skipped:
        words = f"left out of the record, larger than 100 MB: {', '.join(taken.skipped[:10])}"
        await job.recorder.add(Noted("files_skipped", {"message": words, "files": list(taken.skipped[:100])}))
    if taken.sha != taken.base_sha:
        data = await patch.diff(mirror, taken.base_sha, taken.sha)
        job.patch_sha256 = await job.recorder.store("patch", data, content_type="text/x-diff")
    if taken.sha == job.source_sha:
        return
    # Another machine has the source and no more: what this began from travels along, if it is a merge made here.
    whole = await patch.diff(mirror, job.source_sha, taken.sha)
    if job.recorder.redactor.bytes_(whole) == whole:
        # A bundle cannot be redacted without breaking it: it leaves the machine only when there was no secret.
        bundle = await patch.bundle(mirror, job.source_sha, taken.sha)
        job.bundle_sha256 = await job.recorder.store(
            "bundle", bundle, content_type="application/x-git-bundle", clean=True
        )


async def deliver(job: Job, *, accepted: bool) -> None:
    """Record where the work is and, if it was accepted, put it on the agent's branch in the mirror."""
    assert job.workspace is not None and job.snapshot is not None and job.source_sha is not None
    assignment, taken, mirror = job.assignment, job.snapshot, job.workspace.mirror
    head = taken.sha
    if not assignment.spec.write_allowed and not taken.empty:
        words = "It may not write, yet files changed; they are kept and are no result."
        await job.recorder.add(Noted("read_only_work_dropped", {"message": words}))
        head = taken.base_sha
    changes = await patch.stat(mirror, taken.base_sha, head)
    branch = names.branch_for(assignment.run_id, assignment.agent)
    if accepted and assignment.orchestration.git.commit:
        await patch.keep(mirror, f"refs/heads/{branch}", head)
    await job.recorder.add(
        Delivered(
            source_sha=job.source_sha,
            base_sha=taken.base_sha,
            head_sha=head,
            ref=names.work_ref(assignment.run_id, assignment.agent, assignment.attempt),
            branch=branch,
            accepted=accepted,
            patch_sha256=job.patch_sha256,
            bundle_sha256=job.bundle_sha256,
            files=tuple(
                {
                    "path": file.path,
                    "status": file.status,
                    "insertions": file.insertions,
                    "deletions": file.deletions,
                }
                for file in changes.files[:2000]
            ),
            insertions=changes.insertions,
            deletions=changes.deletions,
            commits=taken.commits,
        )
    )
