"""What becomes of a workspace whose worker died, by how far it had come."""

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path

import pytest

from spawnd import assembly
from spawnd.git.names import work_ref
from spawnd.git.workspace import checkout
from spawnd.worker.ownership import Owner, keep, note_of
from systems import System, git


@pytest.fixture
async def orphan(system: System) -> Owner:
    """A workspace in which README.md is missing, of a process that is no more."""
    revision = await assembly.mirrors(system.settings).resolve(str(system.repo))
    path = system.workspace("run-1", "a")
    await checkout(revision.mirror, revision.sha, path, branch="work")
    (path / "README.md").unlink()
    owner = Owner(
        path=str(path),
        mirror=str(revision.mirror),
        base_sha=revision.sha,
        run_id="run-1",
        agent="a",
        attempt=1,
        attempt_id=1,
        mark="of nobody",
        worker_id="w",
        hostname=socket.gethostname(),
        pid=os.getpid(),
        started="long ago",
    )
    owner.write()
    return owner


def kept(owner: Owner) -> list[str]:
    """The refs that hold work of it."""
    ref = work_ref(owner.run_id, owner.agent, owner.attempt)
    return git(Path(owner.mirror), "for-each-ref", "--format=%(refname)", ref).split()


async def test_a_checkout_that_was_cut_short_is_nobodys_work(orphan: Owner) -> None:
    # Killed while git wrote the files: what is missing was never there, and was removed by nobody.
    assert not orphan.alive and not orphan.ready

    assert await keep(orphan)

    assert kept(orphan) == []
    assert not Path(orphan.path).exists() and not note_of(Path(orphan.path)).exists()


async def test_what_is_missing_from_a_complete_checkout_was_removed_by_the_agent(orphan: Owner) -> None:
    orphan = dataclasses.replace(orphan, ready=True)
    orphan.write()

    assert await keep(orphan)

    (ref,) = kept(orphan)
    assert git(Path(orphan.mirror), "ls-tree", "--name-only", ref).split() == []
    assert not Path(orphan.path).exists() and not note_of(Path(orphan.path)).exists()


async def test_a_release_that_was_cut_short_removes_nothing_from_the_work(orphan: Owner) -> None:
    orphan = dataclasses.replace(orphan, ready=True)
    git(Path(orphan.mirror), "update-ref", work_ref(orphan.run_id, orphan.agent, orphan.attempt), orphan.base_sha)
    orphan.write()

    assert await keep(orphan)

    (ref,) = kept(orphan)
    assert git(Path(orphan.mirror), "ls-tree", "--name-only", ref).split() == ["README.md"]
