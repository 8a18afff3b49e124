"""What lies between two commits of a mirror: as a patch, as numbers, as a bundle for another mirror."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from spawnd.git.command import borrowing, git, git_code


@dataclass(frozen=True, slots=True)
class FileChange:
    """A changed file. Lines are None for binary files; ``status`` is A, M, D or T (type changed)."""

    path: str
    status: str
    insertions: int | None
    deletions: int | None


@dataclass(frozen=True, slots=True)
class DiffStat:
    """All changed files, and the lines of all that are text."""

    files: tuple[FileChange, ...]

    @property
    def insertions(self) -> int:
        return sum(file.insertions or 0 for file in self.files)

    @property
    def deletions(self) -> int:
        return sum(file.deletions or 0 for file in self.files)


async def diff(mirror: Path, base: str, head: str) -> bytes:
    """A patch that `git apply` takes on a clone of ``base``: binary files, modes, new and deleted ones included."""
    return await git(
        "diff", "--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv",
        "--src-prefix=a/", "--dst-prefix=b/", base, head, git_dir=mirror,
    )  # fmt: skip


async def stat(mirror: Path, base: str, head: str) -> DiffStat:
    """The changed files with their lines, in the order of their paths."""
    options = ["diff", "--no-renames", "--no-ext-diff", "--no-textconv", "-z"]
    numbers = await git(*options, "--numstat", base, head, git_dir=mirror)
    names = await git(*options, "--name-status", base, head, git_dir=mirror)
    words = names.decode("utf-8", "surrogateescape").split("\0")
    statuses = dict(zip(words[1::2], words[0::2], strict=False))
    files = []
    for record in numbers.decode("utf-8", "surrogateescape").split("\0"):
        if record:
            added, removed, path = record.split("\t", 2)
            files.append(FileChange(_shown(path), statuses.get(path, "M")[:1], _lines(added), _lines(removed)))
    return DiffStat(tuple(files))


async def bundle(mirror: Path, base: str, head: str) -> bytes:
    """The commits from ``base`` to ``head``, for a mirror that has ``base``. Empty if there are none."""
    if base == head:
        return b""
    with tempfile.TemporaryDirectory(prefix="spawnd-bundle-") as scratch:
        # A bundle carries refs: a private repository that borrows the mirror's objects gives it one.
        await git("init", "--quiet", "--bare", "--template=", scratch)
        env = borrowing(mirror / "objects")
        await git("update-ref", "refs/spawnd/head", head, git_dir=Path(scratch), env=env)
        return await git(
            "bundle", "create", "--quiet", "-", "refs/spawnd/head", f"^{base}", git_dir=Path(scratch), env=env
        )


async def unbundle(mirror: Path, data: bytes, ref: str) -> str:
    """Bring a bundle's commits into ``mirror`` under ``ref``; returns the commit. Raises ``GitFailed``."""
    with tempfile.NamedTemporaryFile(prefix="spawnd-bundle-", suffix=".bundle") as file:
        file.write(data)
        file.flush()
        await git(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", file.name, f"+refs/spawnd/head:{ref}",
            git_dir=mirror, local=True,
        )  # fmt: skip
    return (await git("rev-parse", ref, git_dir=mirror)).decode().strip()


async def read_file(mirror: Path, sha: str, path: str) -> bytes | None:
    """A file as it is in a commit; None if there is none of that path."""
    code, out, _ = await git_code("cat-file", "blob", f"{sha}:{path}", git_dir=mirror)
    return out if code == 0 else None


async def keep(mirror: Path, ref: str, sha: str) -> None:
    """Point ``ref`` at ``sha``, so that nothing collects it."""
    await git("update-ref", ref, sha, git_dir=mirror)


def _lines(text: str) -> int | None:
    return None if text == "-" else int(text)


def _shown(path: str) -> str:
    # File names are bytes; what is not UTF-8 is shown as such and never fails a record.
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
