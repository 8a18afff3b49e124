"""Child processes: bounded, honest about how they ended, and gone afterwards with everything below them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spawnd.errors import Unavailable
from spawnd.process.spawn import Bounds, Process, spawn

ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
CUT = b" [cut: the line is longer than spawnd keeps]"
#: Nothing that was killed may take longer to be gone.
SOON = 5


async def lines_of(script: str, *, bounds: Bounds | None = None) -> tuple[list[bytes], int, Process]:
    async with spawn(["sh", "-c", script], env=ENV, bounds=bounds) as child:
        lines = [line async for line in child.lines()]
        return lines, await child.wait(), child


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(*pids: int) -> None:
    async with asyncio.timeout(SOON):
        while any(runs(pid) for pid in pids):
            await asyncio.sleep(0.01)


async def test_of_long_output_the_head_is_kept_and_the_program_is_not_blocked() -> None:
    lines, code, child = await lines_of("seq 1 400000; exit 7", bounds=Bounds(total=10))

    assert lines == [b"1", b"2", b"3", b"4", b"5"]
    assert (code, child.truncated) == (7, True)


async def test_of_standard_error_the_tail_is_kept() -> None:
    async with spawn(["sh", "-c", "seq 1 400000 >&2"], env=ENV, bounds=Bounds(stderr_tail=14)) as child:
        assert await child.wait() == 0

    assert child.stderr_tail() == b"399999\n400000\n"


async def test_what_it_says_last_on_standard_error_is_there_once_it_has_ended() -> None:
    missing = 0
    for _ in range(100):
        async with spawn(["sh", "-c", "echo why >&2; exit 3"], env=ENV) as child:
            await child.wait()
            missing += child.stderr_tail() != b"why\n"

    assert missing == 0


async def test_a_line_too_long_is_cut_and_the_next_is_whole() -> None:
    script = "head -c 300000 /dev/zero | tr '\\0' x; echo; echo next"

    lines, _, child = await lines_of(script, bounds=Bounds(line=100))

    assert lines == [b"x" * 100 + CUT, b"next"]
    assert child.truncated


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 131072])
async def test_a_line_of_any_length_within_the_bound_is_whole(size: int) -> None:
    script = f"head -c {size} /dev/zero | tr '\\0' x; echo; echo next"

    lines, _, child = await lines_of(script, bounds=Bounds(line=131072))

    assert lines == [b"x" * size, b"next"]
    assert not child.truncated


async def test_a_last_line_without_an_end_counts_and_a_carriage_return_does_not() -> None:
    assert (await lines_of("printf 'a\\r\\n\\nb'"))[0] == [b"a", b"", b"b"]


async def test_bytes_that_are_no_text_pass_unchanged() -> None:
    assert (await lines_of("printf '\\377\\376 \\0 \\303\\n'"))[0] == [b"\xff\xfe \0 \xc3"]


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=3000))
def test_whatever_it_prints_is_what_is_read(data: bytes) -> None:
    async def echoed() -> list[bytes]:
        async with spawn(["cat"], env=ENV, stdin=True) as child:
            await child.write_stdin(data)
            await child.close_stdin()
            return [line async for line in child.lines()]

    *whole, rest = data.split(b"\n")
    assert asyncio.run(echoed()) == [line.removesuffix(b"\r") for line in [*whole, *([rest] if rest else [])]]


async def test_standard_input_is_at_its_end() -> None:
    assert (await lines_of("cat; echo read"))[:2] == ([b"read"], 0)


async def test_writing_to_a_program_that_does_not_read_is_no_error() -> None:
    async with spawn(["sh", "-c", "exec <&-; echo closed; exit 5"], env=ENV, stdin=True) as child:
        assert [line async for line in child.lines()] == [b"closed"]
        await child.write_stdin(b"x" * 1_000_000)
        await child.close_stdin()

        assert await child.wait() == 5


async def test_both_outputs_come_as_one_if_asked_for() -> None:
    async with spawn(["sh", "-c", "echo out; echo err >&2"], env=ENV, merge_stderr=True) as child:
        assert [line async for line in child.lines()] == [b"out", b"err"]

    assert child.stderr_tail() == b""


async def test_the_environment_is_exactly_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAWND_TEST_SECRET", "hunter2")

    async with spawn(["env"], env={"PATH": ENV["PATH"], "A": "ä b"}) as child:
        assert sorted([line async for line in child.lines()]) == ["A=ä b".encode(), f"PATH={ENV['PATH']}".encode()]


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", -9), ("kill -15 $$", -15), ("kill -11 $$", -11)],
)
async def test_exit_codes_are_as_they_are_and_signals_negative(script: str, code: int) -> None:
    assert (await lines_of(script))[1] == code


async def test_waiting_drops_what_nobody_read() -> None:
    async with spawn(["seq", "1", "400000"], env=ENV) as child:
        assert await child.wait() == 0


async def test_a_time_limit_ends_the_whole_group_even_what_ignores_sigterm() -> None:
    script = "trap '' TERM; sh -c 'sleep 300' & echo $!; setsid sleep 300 & echo $!; echo $$; while :; do wait; done"
    pids: list[int] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5), spawn(["sh", "-c", script], env=ENV) as child:
            async for line in child.lines():
                pids.append(int(line))
            started = time.monotonic()
    assert len(pids) == 3
    assert pids[-1] == child.pid
    started = time.monotonic()
    await gone(*pids)

    assert time.monotonic() - started < 2


async def test_leaving_the_block_takes_no_longer_than_the_grace_and_a_little() -> None:
    started = time.monotonic()
    async with spawn(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], env=ENV) as child:
        async for _ in child.lines():
            break

    assert time.monotonic() - started < 3
    assert not runs(child.pid)


async def test_a_polite_program_may_say_goodbye() -> None:
    script = "trap 'echo bye >&2; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    async with spawn(["sh", "-c", script], env=ENV) as child:
        async for _ in child.lines():
            break
        await child.stop(grace_seconds=5)
        await child.stop()

        assert await child.wait() == 0


async def test_a_second_cancellation_leaves_nothing_running() -> None:
    up = asyncio.Event()
    pids: list[int] = []

    async def work() -> None:
        async with spawn(["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done"], env=ENV) as child:
            async for line in child.lines():
                pids.append(int(line))
                up.set()

    task = asyncio.create_task(work())
    await up.wait()
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not runs(pids[0])


async def test_a_program_that_closes_its_output_and_lives_on_is_waited_for() -> None:
    lines, code, _ = await lines_of("echo a; exec >&- 2>&-; sleep 0.2; exit 4")

    assert (lines, code) == ([b"a"], 4)


async def test_a_program_that_closes_its_output_and_lives_on_is_ended_with_the_block() -> None:
    async with spawn(["sh", "-c", "exec >&- 2>&-; exec sleep 300"], env=ENV) as child:
        assert [line async for line in child.lines()] == []

    assert not runs(child.pid)


async def test_a_daemon_that_keeps_the_output_open_does_not_keep_the_block_from_ending() -> None:
    # Double-forked into a session of its own: out of the group, and no longer below the program.
    script = "(setsid sh -c 'echo $$; exec sleep 6' &); trap '' TERM; while :; do sleep 0.1; done"
    started = time.monotonic()
    async with spawn(["sh", "-c", script], env=ENV) as child:
        async for line in child.lines():
            daemon = int(line)
            break
    took = time.monotonic() - started
    os.kill(daemon, signal.SIGKILL)

    assert took < 4
    assert not runs(child.pid)


async def test_a_daemon_that_keeps_the_output_open_does_not_keep_a_waiter() -> None:
    started = time.monotonic()
    async with spawn(["sh", "-c", "echo why >&2; (setsid sh -c 'exec sleep 6' &); exit 3"], env=ENV) as child:
        assert await child.wait() == 3
        assert child.stderr_tail() == b"why\n"

    assert time.monotonic() - started < 4


async def test_a_flood_that_nobody_reads_any_more_needs_no_grace() -> None:
    async with spawn(["yes"], env=ENV) as child:
        async for _ in child.lines():
            break
        await asyncio.sleep(0.2)  # until its pipe is full and not read any more
        started = time.monotonic()
        await child.stop(grace_seconds=30)

        assert time.monotonic() - started < SOON
        assert await child.wait() == -signal.SIGTERM


async def test_a_program_that_is_not_there_is_said_plainly() -> None:
    with pytest.raises(Unavailable, match="no program 'spawnd-nope'") as caught:
        async with spawn(["spawnd-nope"], env=ENV):
            pass

    assert caught.value.hint


async def test_a_file_that_is_not_executable_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")

    for program in ("plain", "."):
        with pytest.raises(Unavailable):
            async with spawn([str(tmp_path / program)], env=ENV):
                pass


async def test_what_the_kernel_will_not_start_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Argument list too long"):
        async with spawn(["true", "x" * 3_000_000], env=ENV):
            pass
    with pytest.raises(Unavailable):
        async with spawn(["true"], env=ENV, cwd=tmp_path / "gone"):
            pass


async def test_a_relative_program_is_looked_for_where_it_shall_run(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "run.sh").chmod(0o755)

    async with spawn(["./run.sh"], env=ENV, cwd=tmp_path) as child:
        assert [line async for line in child.lines()] == [b"ran"]


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="nothing here asks the kernel for it")
async def test_a_child_dies_with_a_parent_that_was_killed() -> None:
    code = (
        "import asyncio\nfrom spawnd.process.spawn import spawn\n"
        "async def main():\n"
        f"    async with spawn(['sleep', '300'], env={ENV!r}) as child:\n"
        "        print(child.pid, flush=True)\n        await child.wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        assert runs(pid)
        parent.kill()

    await gone(pid)
