"""Artifact bytes in files: whole or not there, and never other bytes than were stored."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spawnd.artifacts.local import LocalArtifacts
from spawnd.errors import Conflict, NotFound, Unwritable
from spawnd.sandboxes.bubblewrap import Bubblewrap

ABSENT = "0" * 64
walled = pytest.mark.skipif(Bubblewrap.problem() is not None, reason=str(Bubblewrap.problem()))

#: Stores bytes in the folder that it is told, and says how that ended.
STORES = """
import asyncio, sys
from pathlib import Path
from spawnd.artifacts.local import LocalArtifacts
from spawnd.errors import SpawndError
async def main():
    try:
        await LocalArtifacts(Path(sys.argv[1])).put(b"x" * int(sys.argv[2]))
    except SpawndError as error:
        print(type(error).__name__, "|", error.message, "|", error.hint)
    else:
        print("stored")
asyncio.run(main())
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def place(root: Path, sha256: str) -> Path:
    (found,) = root.rglob(sha256)
    return found


def stores(root: str, size: int, *walls: str) -> str:
    """What another process says that stores so many bytes behind these walls."""
    command = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", *walls, "--"]
    ran = subprocess.run([*command, sys.executable, "-c", STORES, root, str(size)], capture_output=True, text=True)
    return ran.stdout.strip() or ran.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("data", [b"", b"x", b"\0\xff\n", os.urandom(5 << 20)], ids=["none", "one", "binary", "large"])
async def test_what_is_put_is_got_under_its_sha256(root: Path, data: bytes) -> None:
    store = LocalArtifacts(root)

    assert await store.put(data) == sha(data)

    assert await store.get(sha(data)) == data
    assert await LocalArtifacts(root).get(sha(data)) == data
    assert await store.exists(sha(data))


async def test_what_is_absent_is_not_found_and_may_be_deleted(root: Path) -> None:
    store = LocalArtifacts(root)

    with pytest.raises(NotFound, match=ABSENT):
        await store.get(ABSENT)
    assert not await store.exists(ABSENT)
    await store.delete(ABSENT)


async def test_what_was_deleted_is_gone_and_can_be_put_again(root: Path) -> None:
    store = LocalArtifacts(root)
    key = await store.put(b"x")

    await store.delete(key)

    with pytest.raises(NotFound):
        await store.get(key)
    assert await store.get(await store.put(b"x")) == b"x"


async def test_the_same_bytes_put_by_many_at_once_are_stored_once(root: Path) -> None:
    data = os.urandom(1 << 20)
    stores = [LocalArtifacts(root) for _ in range(4)]

    keys = await asyncio.gather(*(store.put(data) for store in stores * 8))

    assert set(keys) == {sha(data)}
    assert [path.name for path in root.rglob("*") if path.is_file()] == [sha(data)]
    assert await stores[0].get(sha(data)) == data


async def test_damaged_bytes_are_never_handed_out(root: Path) -> None:
    store = LocalArtifacts(root)
    key = await store.put(b"the right bytes")
    place(root, key).write_bytes(b"the wrong bytes")

    with pytest.raises(Conflict, match=key):
        await store.get(key)


@pytest.mark.parametrize("left", [b"", b"half of"])
async def test_bytes_that_a_power_loss_cut_short_are_mended_by_the_next_put(root: Path, left: bytes) -> None:
    # The name was there before the bytes were on the disk: the writer died between its rename and its fsync.
    store = LocalArtifacts(root)
    key = await store.put(b"half of it is here")
    place(root, key).write_bytes(left)
    with pytest.raises(Conflict):
        await store.get(key)

    assert await store.put(b"half of it is here") == key

    assert await store.get(key) == b"half of it is here"


async def test_a_leftover_of_a_dead_writer_is_not_an_artifact_and_not_in_the_way(root: Path) -> None:
    store = LocalArtifacts(root)
    key = sha(b"whole")
    (root / key[:2]).mkdir(parents=True)
    for leftover in (f"{key}#1", f"{key}.tmp"):
        (root / key[:2] / leftover).write_bytes(b"who")

    assert not await store.exists(key)
    with pytest.raises(NotFound):
        await store.get(key)

    assert await store.get(await store.put(b"whole")) == b"whole"


async def test_a_writer_killed_in_the_middle_leaves_no_torn_artifact(root: Path) -> None:
    code = (
        "import asyncio, os, pathlib, sys\nfrom spawnd.artifacts.local import LocalArtifacts\n"
        "async def main():\n"
        "    store = LocalArtifacts(pathlib.Path(sys.argv[1]))\n"
        "    while True:\n"
        "        print(await store.put(os.urandom(2 << 20)), flush=True)\n"
        "asyncio.run(main())\n"
    )
    promised = []
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            promised += [await asyncio.to_thread(writer.stdout.readline) for _ in range(3)]
            writer.kill()

    named = [path for path in root.rglob("*") if re.fullmatch("[0-9a-f]{64}", path.name)]
    assert {key.strip() for key in promised} <= {path.name for path in named}
    assert all(sha(path.read_bytes()) == path.name for path in named)


async def test_nobody_else_may_look_into_the_folder(root: Path) -> None:
    await LocalArtifacts(root).put(b"x")

    assert root.stat().st_mode & 0o077 == 0


async def test_a_folder_that_cannot_be_made_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(Unwritable, match="Artifacts cannot be stored in") as caught:
        await LocalArtifacts(tmp_path / "file" / "artifacts").put(b"x")

    assert "SPAWND_HOME" in str(caught.value.hint)


@walled
def test_a_folder_on_a_read_only_disk_is_said_plainly(root: Path) -> None:
    root.mkdir()

    assert stores(str(root), 10).startswith("Unwritable | ")


@walled
def test_a_full_disk_is_said_plainly(root: Path) -> None:
    root.mkdir()

    said = stores(str(root), 1_000_000, "--size", "65536", "--tmpfs", str(root))

    assert said.startswith("Unwritable | An artifact of 1,000,000 bytes cannot be stored")
    assert "Free space" in said


@walled
def test_a_disk_with_room_is_written_to(root: Path) -> None:
    root.mkdir()

    assert stores(str(root), 10, "--bind", str(root), str(root)) == "stored"
    shutil.rmtree(root)
