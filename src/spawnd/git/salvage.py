"""Work that was kept: every attempt's last state, by run, agent and attempt, and the way back to files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from spawnd.errors import Conflict, NotFound
from spawnd.git.command import git, git_code
from spawnd.git.names import ROOT


@dataclass(frozen=True, slots=True)
class Kept:
    """A ref in a mirror that holds what one attempt left."""

    mirror: Path
    ref: str
    run_id: str
    agent: str
    attempt: int
    sha: str
    at: datetime


async def kept(mirror: Path, run_id: str | None = None) -> list[Kept]:
    """Everything kept in ``mirror``, the newest first; of one run if ``run_id`` is given."""
    prefix = f"{ROOT}/work/{run_id}/" if run_id else f"{ROOT}/work/"
    out = await git(
        "for-each-ref", "--sort=-committerdate", "--format=%(refname) %(objectname) %(committerdate:unix)", prefix,
        git_dir=mirror,
    )  # fmt: skip
    found = []
    for line in out.decode().splitlines():
        ref, sha, seconds = line.split(" ")
        _, _, _, run, agent, attempt = ref.split("/")
        found.append(Kept(mirror, ref, run, agent, int(attempt), sha, datetime.fromtimestamp(int(seconds), UTC)))
    return found


async def restore(mirror: Path, ref: str, dest: Path) -> str:
    """Check the work out at ``dest``, which must not exist or be empty; a repository of its own. Returns the commit.

    Raises ``NotFound`` for an unknown ref and ``Conflict`` if there is something at ``dest``.
    """
    code, out, _ = await git_code("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", git_dir=mirror)
    if code != 0:
        raise NotFound(f"{ref} is not kept.", hint="`spawnd salvage list` shows what is.")
    if dest.exists() and any(dest.iterdir()):
        raise Conflict(f"There is something at {dest} already.", hint="Name a directory that does not exist yet.")
    sha = out.decode().strip()
    await git("init", "--quiet", "--template=", str(dest))
    await git("fetch", "--quiet", "--no-tags", str(mirror), f"{ref}:refs/heads/salvaged", cwd=dest, local=True)
    await git("checkout", "--quiet", "salvaged", cwd=dest)
    return sha
