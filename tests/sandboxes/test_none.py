"""The sandbox `none` says what it is: the environment and the end are honoured, the walls are not there."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from rooms import nothing_left_of, once, running
from spawnd.contracts.sandbox import Boundary
from spawnd.process.orphans import MARK
from spawnd.sandboxes.none import NoSandbox


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    return path


def test_it_does_not_claim_to_isolate_and_always_works() -> None:
    assert NoSandbox.isolates is False
    assert NoSandbox.problem() is None


async def test_it_has_no_walls(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "sibling").mkdir()
    script = f"echo out > {tmp_path}/sibling/f; cat {tmp_path}/sibling/f; echo own > f"

    ran = await once(NoSandbox(), workspace, script, read_only=True, hidden=(tmp_path / "sibling",))

    assert (ran.code, ran.lines) == (0, ["out"])
    assert (workspace / "f").exists()


async def test_what_left_its_session_is_ended_with_its_parent(workspace: Path) -> None:
    mark = secrets.token_hex(8)
    async with NoSandbox().open(Boundary(workspace)) as room:
        async with running(room, "setsid sleep 300 & sleep 300 & echo up; wait", **{MARK: mark}):
            pass

        await nothing_left_of(mark)
