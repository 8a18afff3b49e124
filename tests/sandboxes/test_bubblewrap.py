"""The walls of bubblewrap, tried from inside."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rooms import nothing_left_of, once, running, shell
from spawnd.contracts.sandbox import Boundary, Network
from spawnd.errors import Unavailable
from spawnd.process.orphans import MARK, descendants, marked
from spawnd.sandboxes.bubblewrap import Bubblewrap

pytestmark = pytest.mark.skipif(Bubblewrap.problem() is not None, reason=str(Bubblewrap.problem()))

BOX = Bubblewrap()


@pytest.fixture
def data() -> Iterator[Path]:
    """A worker's data, in a place that no room empties by itself: a workspace, its sibling, a mirror, a secret."""
    places = [place for place in ("/var/lib", "/opt", "/var/cache") if os.access(place, os.W_OK)]
    if not places:
        pytest.skip("there is no place to write to outside of homes and temps")
    root = Path(tempfile.mkdtemp(prefix="spawnd-test-", dir=places[0]))
    for name in ("workspaces/mine", "workspaces/sibling", "mirrors/m.git", "state"):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_text("before\n")
    yield root
    shutil.rmtree(root)


@asynccontextmanager
async def listener() -> AsyncIterator[int]:
    """Something of the host that listens on its loopback; the port."""

    async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_of_a_workers_data_only_the_workspace_is_seen(data: Path) -> None:
    workspace = data / "workspaces/mine"

    ran = await once(BOX, workspace, f"find {data} -type f; echo after > file; echo new > new", hidden=(data,))

    assert ran.lines == [str(workspace / "file")]
    assert (workspace / "file").read_text() == "after\n"
    assert (workspace / "new").read_text() == "new\n"


@pytest.mark.parametrize("place", ["workspaces/sibling", "mirrors/m.git", "state"])
async def test_nothing_else_of_it_can_be_written_hidden_or_not(data: Path, place: str) -> None:
    script = f"echo x > {data / place}/file; echo x > {data / place}/new; rm -rf {data / place}; true"
    for hidden in ((), (data,)):
        await once(BOX, data / "workspaces/mine", script, hidden=hidden)

        assert (data / place / "file").read_text() == "before\n"
        assert not (data / place / "new").exists()


async def test_the_system_is_read_only(tmp_path: Path) -> None:
    name = f"spawnd-{secrets.token_hex(4)}"
    places = ["/etc", "/usr/bin", "/var/lib", "/", "/usr/local", "/sys", "/opt"]
    script = "; ".join(f"(echo x > {place}/{name}) 2>/dev/null && echo wrote {place}" for place in places)

    assert (await once(BOX, tmp_path, f"{script}; true")).lines == []

    assert not [place for place in places if Path(place, name).exists()]


async def test_it_can_give_itself_no_more_rights(tmp_path: Path) -> None:
    script = """
    mount -o remount,rw / 2>/dev/null && echo remounted
    mount --bind /etc /mnt 2>/dev/null && echo bound
    umount /tmp 2>/dev/null && echo unmounted
    chroot / true 2>/dev/null && echo chrooted
    mknod disk b 8 0 2>/dev/null && echo made
    grep '^Cap\\(Eff\\|Prm\\|Bnd\\)' /proc/self/status | tr -d '\\t'
    """

    assert (await once(BOX, tmp_path, script)).lines == [f"Cap{one}:0000000000000000" for one in ("Prm", "Eff", "Bnd")]


async def test_the_users_home_cannot_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/id").write_text("key")
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "ws").mkdir()

    ran = await once(BOX, tmp_path / "ws", f"cat {home}/.ssh/id 2>/dev/null; ls -A /root /home /run /mnt /srv | wc -w")

    # Names and colons of the five folders; what may be open in them is spawnd's own Python.
    assert "key" not in ran.lines
    assert int(ran.lines[-1]) <= 6


async def test_temps_of_the_host_and_of_other_rooms_are_not_seen(tmp_path: Path) -> None:
    (tmp_path / "host").write_text("x")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with BOX.open(Boundary(tmp_path / "a")) as first, BOX.open(Boundary(tmp_path / "b")) as second:
        script = f"ls {tmp_path}; ls /var/tmp /dev/shm | grep -v :; echo mine > /tmp/mine"

        assert [line for line in (await shell(first, script)).lines if line] == ["a"]
        assert (await shell(first, "cat /tmp/mine")).lines == ["mine"]
        assert (await shell(second, "cat /tmp/mine 2>/dev/null")).lines == []
    assert not Path("/tmp/mine").exists()


async def test_a_read_only_workspace_is_read_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before\n")
    script = (
        "cat file; echo x > file; echo x > new; rm -f file; mkdir d; chmod 777 file; cd /tmp && echo tmp > t && cat t"
    )

    ran = await once(BOX, tmp_path, f"({script}) 2>/dev/null", read_only=True)

    assert ran.lines == ["before", "tmp"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "before\n"


async def test_what_a_boundary_opens_is_open_as_it_says(data: Path) -> None:
    script = f"cat {data}/mirrors/m.git/file; echo x > {data}/mirrors/m.git/file; echo x > {data}/state/file"

    ran = await once(
        BOX,
        data / "workspaces/mine",
        f"({script}) 2>/dev/null",
        hidden=(data,),
        readable=(data / "mirrors/m.git",),
        writable=(data / "state",),
    )

    assert ran.lines == ["before"]
    assert (data / "mirrors/m.git/file").read_text() == "before\n"
    assert (data / "state/file").read_text() == "x\n"


async def test_a_program_is_there_if_the_room_sees_it(data: Path) -> None:
    tool = data / "state/tool"
    tool.write_text("#!/bin/sh\necho ran\n")
    tool.chmod(0o755)
    workspace = data / "workspaces/mine"

    with pytest.raises(Unavailable, match="no program"):
        async with BOX.open(Boundary(workspace, hidden=(data,))) as room, room.spawn([str(tool)], env={}):
            pass
    for spelled in ("tool", str(tool), "../../state/tool"):
        path = {"PATH": f"/bin:{tool.parent}"}
        async with (
            BOX.open(Boundary(workspace, hidden=(data,), readable=(tool.parent,))) as room,
            room.spawn([spelled], env=path) as child,
        ):
            assert [line async for line in child.lines()] == [b"ran"]


async def test_a_program_that_the_room_made_in_its_temp_is_there(tmp_path: Path) -> None:
    async with BOX.open(Boundary(tmp_path)) as room:
        await shell(room, "printf '#!/bin/sh\necho ran\n' > /tmp/tool; chmod +x /tmp/tool")
        async with room.spawn(["/tmp/tool"], env={}) as child:
            assert [line async for line in child.lines()] == [b"ran"]


async def test_a_symlink_leads_nowhere(data: Path) -> None:
    workspace = data / "workspaces/mine"
    (workspace / "out").symlink_to(data / "state")

    ran = await once(BOX, workspace, "cat out/file 2>/dev/null; (echo x > out/file) 2>/dev/null", hidden=(data,))

    assert ran.lines == []
    assert (data / "state/file").read_text() == "before\n"


async def test_without_network_the_host_is_out_of_reach_and_with_it_it_is_not(tmp_path: Path) -> None:
    async with listener() as port:
        script = f"bash -c 'cat < /dev/tcp/127.0.0.1/{port}' 2>/dev/null; grep -c : /proc/net/dev"

        none = await once(BOX, tmp_path, script, network=Network.NONE)
        full = await once(BOX, tmp_path, script, network=Network.FULL)

    assert none.lines == ["1"]  # a loopback of its own
    assert full.lines[0] == "hello"


async def test_without_network_abstract_sockets_of_the_host_are_out_of_reach(tmp_path: Path) -> None:
    name = f"spawnd-{secrets.token_hex(8)}"
    server = await asyncio.start_unix_server(lambda *_: None, f"\0{name}")
    code = f"import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + '{name}')"
    async with server:
        ran = await once(BOX, tmp_path, f'{sys.executable} -c "{code}" 2>&1 | tail -1', network=Network.NONE)

    assert ran.lines[0].startswith("ConnectionRefusedError")


async def test_other_processes_can_be_neither_seen_nor_signalled(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "300"]) as other:
        try:
            script = f"kill -9 {other.pid} 2>/dev/null && echo killed; ls /proc | grep -c '^[0-9]'"

            (seen,) = (await once(BOX, tmp_path, script)).lines

            assert int(seen) < 8
            assert other.poll() is None
        finally:
            other.kill()


async def test_values_of_the_environment_stand_on_no_command_line(tmp_path: Path) -> None:
    secret = f"secret-{secrets.token_hex(8)}"
    async with (
        BOX.open(Boundary(tmp_path)) as room,
        running(room, "echo up; sleep 300", SPAWND_TEST=secret) as (child, _),
    ):
        for pid in {child.pid} | descendants(child.pid):
            assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_a_daemon_ends_with_the_program_that_started_it(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    async with BOX.open(Boundary(tmp_path)) as room:
        ran = await shell(room, "(setsid sh -c 'trap \"\" TERM; sleep 300' &) ; echo done", env={MARK: mark})

        assert ran.lines == ["done"]
        await nothing_left_of(mark)


async def test_nothing_of_it_outlives_a_worker_that_was_killed(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    script = "(setsid sleep 300 &); sleep 300 & echo up; wait"
    code = (
        "import asyncio, pathlib\n"
        "from spawnd.contracts.sandbox import Boundary\n"
        "from spawnd.sandboxes.bubblewrap import Bubblewrap\n"
        "async def main():\n"
        f"    async with Bubblewrap().open(Boundary(pathlib.Path({str(tmp_path)!r}))) as room:\n"
        f"        async with room.spawn(['sh', '-c', {script!r}], env={{{MARK!r}: {mark!r}}}) as child:\n"
        "            async for line in child.lines():\n"
        "                print(line.decode(), flush=True)\n"
        "asyncio.run(main())\n"
    )
    environ = {**os.environ, "TMPDIR": str(tmp_path)}  # a killed worker's scratch folder goes with the test's
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environ) as worker:
        assert worker.stdout is not None
        assert await asyncio.to_thread(worker.stdout.readline) == b"up\n"
        assert len(marked(mark)) >= 3
        worker.kill()

    await nothing_left_of(mark)
