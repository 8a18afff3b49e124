"""Source: the commit that the run builds on, in this worker's mirror, and the results of the dependencies."""

from __future__ import annotations

from collections.abc import Mapping

from spawnd.contracts.control_plane import Contribution
from spawnd.domain.facts import Noted
from spawnd.domain.failures import Failure, FailureClass
from spawnd.errors import SourceError
from spawnd.git import names, patch
from spawnd.git.merge import Part, merged
from spawnd.worker.job import Job
from spawnd.worker.steps.failing import StepFailed


async def resolve(job: Job) -> None:
    """Bring the source's commit into the mirror; the first attempt of the run fixes which one it is."""
    assignment, mirrors = job.assignment, job.tools.mirrors
    options = assignment.orchestration.worktree_source
    env = _credentials(job, options.env_refs)
    if assignment.source_sha is not None:
        job.mirror = mirrors.path(assignment.source_repo)
        if not await mirrors.has(job.mirror, assignment.source_sha):
            await mirrors.resolve(assignment.source_repo, assignment.source_sha, env=env)
        job.source_sha = assignment.source_sha
        return
    ref = options.base_ref or assignment.source_ref
    revision = await mirrors.resolve(assignment.source_repo, ref, fetch=options.fetch, env=env)
    pinned = await job.recorder.patiently(lambda: job.tools.plane.pin_source(assignment.lease, revision.sha))
    if pinned != revision.sha and not await mirrors.has(revision.mirror, pinned):
        await mirrors.resolve(assignment.source_repo, pinned, env=env)
    job.mirror, job.source_sha = revision.mirror, pinned
    await patch.keep(revision.mirror, names.source_ref(assignment.run_id), pinned)
    await job.recorder.add(Noted("source_resolved", {"sha": pinned, "ref": ref or "HEAD"}))


async def combine(job: Job) -> None:
    """The commit that the agent starts from: the source with its dependencies' results. Raises ``MergeConflict``."""
    assignment, mirror = job.assignment, job.mirror
    assert mirror is not None and job.source_sha is not None
    parts = []
    for one in assignment.dependencies:
        await fetch(job, one)
        parts.append(Part(one.agent, one.base_sha, one.head_sha))
    context = assignment.orchestration.dependency_context
    job.base_sha = await merged(
        mirror,
        job.source_sha,
        parts,
        mode=context.mode,
        include=context.include_paths,
        exclude=context.exclude_paths,
    )
    if job.base_sha != job.source_sha:
        await patch.keep(mirror, names.base_ref(assignment.run_id, assignment.agent, assignment.attempt), job.base_sha)
        data = {"sha": job.base_sha, "dependencies": [one.agent for one in assignment.dependencies]}
        await job.recorder.add(Noted("dependencies_merged", data))


async def fetch(job: Job, work: Contribution) -> None:
    """Bring a result into this mirror if it was made with another one."""
    assert job.mirror is not None
    if await job.tools.mirrors.has(job.mirror, work.head_sha):
        return
    if work.bundle_sha256 is None:
        raise SourceError(
            f"The work of {work.agent} ({work.head_sha[:12]}) is not on this machine and was not bundled."
        )
    bundle = work.bundle_sha256
    data = await job.recorder.patiently(lambda: job.tools.plane.get_artifact(bundle))
    await patch.unbundle(job.mirror, data, work.ref)


def _credentials(job: Job, refs: Mapping[str, str]) -> dict[str, str]:
    """What git needs to fetch: the plan's references and the operator's askpass program."""
    settings = job.tools.settings
    env = {}
    for variable, name in refs.items():
        if name not in settings.environ:
            raise StepFailed(
                "source",
                Failure(
                    FailureClass.SETUP_FAILED, f"{name} (for {variable} in worktree_source.env_refs) is not set here."
                ),
            )
        env[variable] = settings.environ[name]
    if settings.git_askpass is not None:
        env.setdefault("GIT_ASKPASS", str(settings.git_askpass))
    return env
