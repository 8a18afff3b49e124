"""Setup: the plan's commands that prepare a workspace, in the sandbox, with a cache that lasts if asked for."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from spawnd.domain.facts import Invoked
from spawnd.domain.failures import Failure, FailureClass
from spawnd.worker.job import Job
from spawnd.worker.steps.commands import run
from spawnd.worker.steps.failing import StepFailed

_DEFAULT_SECONDS = 1800.0


async def prepare(job: Job) -> None:
    """Run worktree_setup, then the agent's own setup. Raises ``StepFailed`` with the end of the output."""
    common = job.assignment.orchestration.worktree_setup
    if common is not None:
        env = dict(common.env)
        writable: tuple[Path, ...] = ()
        if common.cache:
            cache = await asyncio.to_thread(_cache, job, common.command, common.cache_paths)
            env |= _cache_variables(cache)
            writable = (cache,)
        await _run(job, "worktree_setup", common.command, common.timeout_seconds or _DEFAULT_SECONDS, env, writable)
    if job.assignment.spec.setup is not None:
        await _run(job, "setup", job.assignment.spec.setup, _DEFAULT_SECONDS, {}, ())


async def _run(
    job: Job, name: str, command: str, timeout: float, env: dict[str, str], writable: Sequence[Path]
) -> None:
    assert job.workspace is not None
    place = str(job.workspace.path)
    env = {**env, "SPAWND_WORKTREE_PATH": place, "SPAWND_SOURCE_TREE_PATH": place, "CODEX_WORKTREE_PATH": place}
    # Setup installs things: it has the network unless the plan took it from the agent by name.
    boundary = job.boundary(network="full", read_only=False, writable=tuple(writable))
    started, clock = datetime.now(UTC), time.monotonic()
    result = await run(job, boundary, command, timeout_seconds=timeout, env=env)
    await job.recorder.store("setup-output", result.output, name=name, truncated=result.truncated)
    await job.recorder.add(
        Invoked("setup", started, time.monotonic() - clock, result.exit_code, {"name": name, "command": command})
    )
    if result.exit_code != 0:
        how = f"hit its limit of {timeout:g} s" if result.timed_out else f"ended with exit code {result.exit_code}"
        tail = job.recorder.redactor.text(result.tail)
        raise StepFailed(
            name, Failure(FailureClass.SETUP_FAILED, f"{name} {how}: {tail[-300:]}", detail={"output_tail": tail})
        )


def _cache(job: Job, command: str, paths: Sequence[str]) -> Path:
    """The cache of this command with these lock files; one directory per key, shared by all agents of it."""
    assert job.workspace is not None
    digest = hashlib.sha256(command.encode())
    for name in paths:
        file = job.workspace.path / name
        if file.is_file() and not file.is_symlink():
            digest.update(b"\0" + name.encode() + b"\0" + file.read_bytes())
    cache = job.tools.settings.setup_caches / digest.hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _cache_variables(cache: Path) -> dict[str, str]:
    return {
        "SPAWND_SETUP_CACHE_KEY": cache.name,
        "SPAWND_SETUP_CACHE_DIR": str(cache),
        "npm_config_cache": str(cache / "npm"),
        "npm_config_store_dir": str(cache / "pnpm-store"),
        "YARN_CACHE_FOLDER": str(cache / "yarn"),
        "BUN_INSTALL_CACHE_DIR": str(cache / "bun"),
        "UV_CACHE_DIR": str(cache / "uv"),
        "PIP_CACHE_DIR": str(cache / "pip"),
        "POETRY_CACHE_DIR": str(cache / "poetry"),
    }
