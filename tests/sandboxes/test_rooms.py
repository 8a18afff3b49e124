"""What every sandbox promises, isolating or not: the environment, home and temp, the limits, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import time
from pathlib import Path

import pytest

from rooms import nothing_left_of, once, running, shell
from spawnd.contracts.sandbox import Boundary, Limits, Sandbox
from spawnd.errors import Unavailable
from spawnd.process.orphans import MARK, marked
from spawnd.sandboxes.bubblewrap import Bubblewrap
from spawnd.sandboxes.none import NoSandbox

bound = pytest.mark.skipif(shutil.which("taskset") is None, reason="nothing here binds processes to processors")

GROUND = {"PATH", "HOME", "TMPDIR", "LANG", "USER", "LOGNAME", "TERM"}


@pytest.fixture(params=[Bubblewrap, NoSandbox], ids=lambda kind: kind.name)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    if problem := request.param.problem():
        pytest.skip(problem)
    made: Sandbox = request.param()
    return made


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    return path


async def test_the_environment_is_made_from_nothing(
    sandbox: Sandbox, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPAWND_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")

    ran = await once(sandbox, workspace, "exec env", env={"GIVEN": "1"})

    found = dict(line.split("=", 1) for line in ran.lines)
    assert set(found) - {"PWD"} == GROUND | {"GIVEN"}
    assert found["GIVEN"] == "1"


async def test_home_and_temp_are_empty_writable_and_gone_with_the_room(sandbox: Sandbox, workspace: Path) -> None:
    look = 'ls -A "$HOME"; ls -A "$TMPDIR"'
    async with sandbox.open(Boundary(workspace)) as room:
        first = await shell(room, f'{look}; echo a > "$HOME/a"; echo b > "$TMPDIR/b"')
        second = await shell(room, 'cat "$HOME/a" "$TMPDIR/b"')
        home = room.home

    # What a room is given and lies below /tmp is seen in its place: the checkout too, if that is where it is.
    interpreter = (Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve())
    places = {part for place in (workspace, home, *interpreter) for part in place.parts}
    assert set(first.lines) <= places
    assert second.lines == ["a", "b"]
    assert not home.exists()
    assert "a" not in (await once(sandbox, workspace, look)).lines


async def test_a_state_folder_is_a_home_that_outlives_the_room(
    sandbox: Sandbox, workspace: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"

    await once(sandbox, workspace, "echo kept > ~/session", state_dir=state)

    assert (state / "session").read_text() == "kept\n"
    assert (await once(sandbox, workspace, "cat ~/session; echo $HOME", state_dir=state)).lines == ["kept", str(state)]


async def test_it_starts_in_the_workspace_or_where_it_is_told(sandbox: Sandbox, workspace: Path) -> None:
    (workspace / "below").mkdir()
    async with sandbox.open(Boundary(workspace)) as room:
        assert (await shell(room, "pwd; echo x > made")).lines == [str(workspace)]
        assert (await shell(room, "pwd", cwd=workspace / "below")).lines == [str(workspace / "below")]

    assert (workspace / "made").read_text() == "x\n"


async def test_exit_codes_and_signals_come_through(sandbox: Sandbox, workspace: Path) -> None:
    async with sandbox.open(Boundary(workspace)) as room:
        assert (await shell(room, "exit 3")).code == 3
        assert (await shell(room, "kill -9 $$")).code in (-9, 128 + 9)


async def test_standard_input_is_empty_unless_it_is_asked_for(sandbox: Sandbox, workspace: Path) -> None:
    async with sandbox.open(Boundary(workspace)) as room:
        assert (await shell(room, "cat; echo read")).lines == ["read"]
        async with room.spawn(["cat"], env={}, stdin=True) as child:
            await child.write_stdin(b"told\n")
            await child.close_stdin()
            assert [line async for line in child.lines()] == [b"told"]


async def test_a_program_that_is_not_there_is_unavailable(sandbox: Sandbox, workspace: Path) -> None:
    async with sandbox.open(Boundary(workspace)) as room:
        with pytest.raises(Unavailable):
            async with room.spawn(["spawnd-nope"], env={}) as child:
                await child.wait()


async def test_a_program_of_the_workspace_is_found_there(sandbox: Sandbox, workspace: Path) -> None:
    (workspace / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (workspace / "run.sh").chmod(0o755)
    async with sandbox.open(Boundary(workspace)) as room, room.spawn(["./run.sh"], env={}) as child:
        assert [line async for line in child.lines()] == [b"ran"]


async def test_a_time_limit_ends_everything_in_it(sandbox: Sandbox, workspace: Path) -> None:
    mark = secrets.token_hex(8)
    script = "trap '' TERM; sleep 300 & setsid sleep 300 & echo up; while :; do wait; done"
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with (
            sandbox.open(Boundary(workspace)) as room,
            asyncio.timeout(0.5),
            running(room, script, **{MARK: mark}) as (child, _),
        ):
            assert marked(mark)
            await child.wait()
    await nothing_left_of(mark)

    assert time.monotonic() - started < 5


async def test_memory_beyond_the_limit_ends_it_and_says_so(sandbox: Sandbox, workspace: Path) -> None:
    code = "import time; held = b'x' * (300 << 20); time.sleep(60)"
    async with sandbox.open(Boundary(workspace, limits=Limits(memory_mb=150))) as room:
        async with room.spawn([sys.executable, "-c", code], env={}) as child:
            assert await child.wait() != 0

        assert "resources.memory_mb allows 150" in str(getattr(room, "verdict", None))


async def test_processes_beyond_the_limit_end_it_and_say_so(sandbox: Sandbox, workspace: Path) -> None:
    mark = secrets.token_hex(8)
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 300 & done; wait"
    async with sandbox.open(Boundary(workspace, limits=Limits(pids=8))) as room:
        assert (await shell(room, script, env={MARK: mark})).code != 0
        await nothing_left_of(mark)

        assert "resources.pids allows 8" in str(getattr(room, "verdict", None))


async def test_what_stays_within_its_limits_is_left_alone(sandbox: Sandbox, workspace: Path) -> None:
    async with sandbox.open(Boundary(workspace, limits=Limits(memory_mb=500, pids=8))) as room:
        ran = await shell(room, "sleep 0.5 & sleep 0.5 & wait; echo fine")

        assert (ran.code, ran.lines, getattr(room, "verdict", None)) == (0, ["fine"], None)


async def test_only_what_was_asked_for_counts_towards_the_limit(sandbox: Sandbox, workspace: Path) -> None:
    async with sandbox.open(Boundary(workspace, limits=Limits(pids=4))) as room:
        ran = await shell(room, "sleep 0.5 & sleep 0.5 & sleep 0.5 & wait; echo fine")

        assert (ran.code, ran.lines, getattr(room, "verdict", None)) == (0, ["fine"], None)


@bound
async def test_a_room_uses_no_more_processors_than_it_may(sandbox: Sandbox, workspace: Path) -> None:
    ours = len(os.sched_getaffinity(0))
    for cpus, seen in ((None, ours), (0.5, 1), (1, 1), (1.5, min(2, ours)), (1024, ours)):
        ran = await once(sandbox, workspace, "nproc; (nproc)", limits=Limits(cpus=cpus))

        assert ran.lines == [str(seen)] * 2


@bound
async def test_rooms_do_not_all_use_the_same_processors(sandbox: Sandbox, workspace: Path) -> None:
    ours = os.sched_getaffinity(0)
    script = "sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status"

    used = {(await once(sandbox, workspace, script, limits=Limits(cpus=1))).lines[0] for _ in ours}

    assert used == {str(one) for one in ours}


async def test_limits_hold_for_everything_in_a_room_together(sandbox: Sandbox, workspace: Path) -> None:
    script = "sleep 300 & sleep 300 & sleep 300 & echo up; wait"
    async with (
        sandbox.open(Boundary(workspace, limits=Limits(pids=8))) as room,
        running(room, script) as (first, _),
        running(room, script) as (second, _),
        running(room, script) as (third, _),
    ):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.gather(first.wait(), second.wait(), third.wait())

        assert "resources.pids allows 8" in str(getattr(room, "verdict", None))
