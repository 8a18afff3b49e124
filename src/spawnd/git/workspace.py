"""A scratch checkout for one attempt, and everything that it left.

Two repositories stand behind a workspace. The agent sees ``<dest>/.git``: objects of its own beside those of the
mirror, which it can read and not write. Beside the workspace lies ours, the shadow: it has its own index and
configuration, the agent never reaches it, and every git command of ours runs with it. So whatever the agent did to
its ``.git`` (hooks, filters, a rebase in progress, nothing left at all), we read its files and no more.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat as stat_module
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spawnd.errors import GitFailed, Unavailable
from spawnd.git.command import borrowing, git, git_code
from spawnd.git.patch import stat

#: A larger single file is left out of a snapshot and named in it.
MAX_FILE_BYTES = 100 * 1024 * 1024
#: What the agent's own commits may hold together.
_MAX_OBJECTS_BYTES = 1024 * 1024 * 1024

_SHA = re.compile(r"^[0-9a-f]{40}$")
_REF = re.compile(r"^ref: (refs/[^\x00-\x20~^:?*\[\\]+)$")
_LOOSE = re.compile(r"^[0-9a-f]{38}$")
_PACK = re.compile(r"^pack-[0-9a-f]{40,64}\.(pack|idx)$")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A commit whose tree is what the agent left. ``commits`` are its own; ``skipped`` says what was left out."""

    sha: str
    base_sha: str
    commits: int
    files_changed: int
    insertions: int
    deletions: int
    skipped: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return self.files_changed == 0 and self.commits == 0


@dataclass(frozen=True, slots=True)
class Workspace:
    """``path`` is the checkout, ``shadow`` our repository beside it, ``base_sha`` where the agent started."""

    path: Path
    shadow: Path
    mirror: Path
    base_sha: str

    async def snapshot(
        self,
        message: str,
        *,
        author: str,
        trailers: Mapping[str, str],
        include: Sequence[str] = (),
    ) -> Snapshot:
        """Commit everything: the agent's commits, then whatever it left uncommitted, as one commit by ``author``.

        Ignored files stay out, but for ``include``. Changes nothing in the workspace. Raises ``GitFailed``.
        """
        skipped = await asyncio.to_thread(_oversized, self.path)
        nested = await asyncio.to_thread(_nested_repositories, self.path)
        await self._stage(include, [*skipped, *nested])
        for place in nested:
            await self._stage_plainly(place)
        tree = (await self._git("write-tree")).decode().strip()
        tip, commits = await self._own_commits()
        sha = tip
        if tree != await self._tree(tip):
            body = "\n".join(f"{key}: {value}" for key, value in trailers.items())
            env = {"GIT_AUTHOR_NAME": author, "GIT_AUTHOR_EMAIL": f"{author}@spawnd.invalid"}
            text = f"{message}\n\n{body}\n".encode()
            out = await self._git("commit-tree", tree, "-p", tip, "-F", "-", env=env, stdin=text)
            sha = out.decode().strip()
        changes = await stat(self.shadow, self.base_sha, sha)
        return Snapshot(
            sha, self.base_sha, commits, len(changes.files), changes.insertions, changes.deletions, tuple(skipped)
        )

    async def publish(self, snapshot: Snapshot, ref: str) -> None:
        """Bring the snapshot into the mirror under ``ref``. Durable on return; safe to repeat."""
        await git("update-ref", "refs/spawnd/snapshot", snapshot.sha, git_dir=self.shadow)
        await git(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(self.shadow), f"+refs/spawnd/snapshot:{ref}",
            git_dir=self.mirror, local=True,
        )  # fmt: skip

    async def release(self) -> None:
        """Remove the checkout and the shadow. What must last has been published."""
        await asyncio.to_thread(remove_tree, self.path)
        await asyncio.to_thread(remove_tree, self.shadow)

    async def _git(self, *args: str, env: Mapping[str, str] | None = None, stdin: bytes | None = None) -> bytes:
        options = ["-c", "core.bare=false", "-c", "core.longpaths=true", f"--work-tree={self.path}"]
        return await git(*options, *args, git_dir=self.shadow, cwd=self.path, env=env, stdin=stdin, timeout_seconds=600)

    async def _stage(self, include: Sequence[str], leave_out: Sequence[str]) -> None:
        left_out = [f":(exclude,literal){place}" for place in leave_out]
        await self._git("add", "--all", "--ignore-errors", "--", ".", *left_out)
        there = [path for path in include if (self.path / path).exists()]
        if there:
            await self._git("add", "--force", "--ignore-errors", "--", *(f":(literal){path}" for path in there))

    async def _stage_plainly(self, place: str) -> None:
        """A repository inside the workspace, as the plain files that it holds; git would record only its commit."""
        files = await asyncio.to_thread(_plain_files, self.path, place)
        entries = []
        for path, mode in files:
            if mode == "120000":
                target = os.fsencode(Path(self.path / path).readlink())
                out = await self._git("hash-object", "-w", "--stdin", stdin=target)
            else:
                out = await self._git("hash-object", "-w", "--no-filters", "--", path)
            entries.append(f"{mode} {out.decode().strip()}\t".encode() + os.fsencode(path) + b"\0")
        if entries:
            await self._git("update-index", "-z", "--index-info", stdin=b"".join(entries))

    async def _tree(self, commit: str) -> str:
        return (await git("rev-parse", f"{commit}^{{tree}}", git_dir=self.shadow)).decode().strip()

    async def _own_commits(self) -> tuple[str, int]:
        """The agent's last commit and how many it made; the base if it made none that can be taken over."""
        head = await asyncio.to_thread(_read_head, self.path / ".git")
        if head is None or head == self.base_sha:
            return self.base_sha, 0
        try:
            await self._import(head)
            code, _, _ = await git_code("merge-base", "--is-ancestor", self.base_sha, head, git_dir=self.shadow)
            if code != 0:
                return self.base_sha, 0  # it rewrote history: its files are taken over, its commits are not
            count = await git("rev-list", "--count", f"{self.base_sha}..{head}", git_dir=self.shadow)
            return head, int(count)
        except (GitFailed, OSError, ValueError):
            return self.base_sha, 0  # its objects are damaged or lie elsewhere: its files still count

    async def _import(self, head: str) -> None:
        """Copy the agent's objects into the shadow through git's own check of every byte.

        Only regular files of its own object folder are looked at: no links, no alternates of its choosing.
        """
        quarantine = self.shadow / "quarantine"
        try:
            await asyncio.to_thread(_copy_objects, self.path / ".git" / "objects", quarantine)
            revisions = f"{head}\n^{self.base_sha}\n".encode()
            pack = await git(
                "pack-objects", "--revs", "--stdout", "--quiet", "--delta-base-offset",
                git_dir=self.shadow, env=borrowing(quarantine), stdin=revisions, timeout_seconds=600,
            )  # fmt: skip
            await git("index-pack", "--stdin", "--strict", git_dir=self.shadow, stdin=pack, timeout_seconds=600)
        finally:
            await asyncio.to_thread(remove_tree, quarantine)


async def checkout(mirror: Path, sha: str, dest: Path, *, branch: str) -> Workspace:
    """Check ``sha`` out at ``dest``, which must not exist, on ``branch``.

    Costs about what `git worktree add` does: one checkout; both repositories are written by hand.
    """
    shadow = dest.with_name(f"{dest.name}.shadow")
    try:
        await asyncio.to_thread(_write_repositories, mirror, sha, dest, shadow, branch)
        await git(
            "-c", "core.bare=false", f"--work-tree={dest}", "read-tree", "--reset", "-u", sha,
            git_dir=shadow, cwd=dest, timeout_seconds=1800,
        )  # fmt: skip
        await asyncio.to_thread(shutil.copyfile, shadow / "index", dest / ".git" / "index")
    except (OSError, GitFailed) as error:
        await asyncio.to_thread(remove_tree, dest)
        await asyncio.to_thread(remove_tree, shadow)
        said = error.stderr if isinstance(error, GitFailed) else str(error)
        if "No space left" in said or "Read-only" in said or "Permission denied" in said:
            raise Unavailable(
                f"A workspace cannot be made in {dest.parent}: {said.strip().splitlines()[-1]}",
                hint="Free space, or set SPAWND_SCRATCH_ROOT to another directory.",
            ) from error
        raise
    return Workspace(dest, shadow, mirror, sha)


def reopen(mirror: Path, dest: Path, base_sha: str) -> Workspace:
    """A workspace that another process made and left."""
    return Workspace(dest, dest.with_name(f"{dest.name}.shadow"), mirror, base_sha)


def remove_tree(path: Path) -> None:
    """Remove a tree, whatever permissions its owner left on it. Absent is fine."""

    def open_up(function: object, name: str, error: object) -> None:
        parent = Path(name).parent
        for place in (parent, Path(name)):
            if not place.is_symlink() and place.is_dir():
                place.chmod(0o700)
        if Path(name).is_dir() and not Path(name).is_symlink():
            shutil.rmtree(name, ignore_errors=True)
        else:
            Path(name).unlink(missing_ok=True)

    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.exists():
        shutil.rmtree(path, onerror=open_up)


def _write_repositories(mirror: Path, sha: str, dest: Path, shadow: Path, branch: str) -> None:
    dest.mkdir(parents=True, mode=0o755)
    for root, head in ((dest / ".git", f"ref: refs/heads/{branch}\n"), (shadow, f"{sha}\n")):
        (root / "objects" / "info").mkdir(parents=True)
        (root / "objects" / "pack").mkdir()
        (root / "refs" / "heads").mkdir(parents=True)
        (root / "objects" / "info" / "alternates").write_text(f"{mirror / 'objects'}\n")
        (root / "HEAD").write_text(head)
    config = (
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
        "[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
        "[user]\n\tname = spawnd agent\n\temail = agent@spawnd.invalid\n[advice]\n\tdetachedHead = false\n"
    )
    (dest / ".git" / "config").write_text(config)
    (shadow / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n")
    ref = dest / ".git" / "refs" / "heads" / branch
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(f"{sha}\n")


def _read_head(git_dir: Path) -> str | None:
    """The commit that HEAD names, read as plain text: nothing of the workspace's git is run."""
    try:
        if git_dir.is_symlink() or not git_dir.is_dir():
            return None
        text = _small_text(git_dir / "HEAD")
        if text is not None and (match := _REF.match(text)) and ".." not in match[1]:
            text = _small_text(git_dir / match[1]) or _packed(git_dir, match[1])
        return text if text is not None and _SHA.match(text) else None
    except OSError:
        return None


def _packed(git_dir: Path, ref: str) -> str | None:
    packed = git_dir / "packed-refs"
    if packed.is_symlink() or not packed.is_file() or packed.stat().st_size > 10 * 1024 * 1024:
        return None
    for line in packed.read_text(errors="replace").splitlines():
        sha, _, name = line.partition(" ")
        if name == ref:
            return sha
    return None


def _small_text(path: Path) -> str | None:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > 4096:
        return None
    return path.read_text(errors="replace").strip()


def _copy_objects(source: Path, quarantine: Path) -> None:
    """Regular files with the names of objects and packs, bounded. Raises ``ValueError`` beyond the bound."""
    total = 0
    for folder in _folders(source):
        pattern = _PACK if folder == "pack" else _LOOSE
        for entry in os.scandir(source / folder):
            if not entry.is_file(follow_symlinks=False) or not pattern.match(entry.name):
                continue
            total += entry.stat(follow_symlinks=False).st_size
            if total > _MAX_OBJECTS_BYTES:
                raise ValueError("the agent's commits are too large to take over")
            target = quarantine / folder / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(entry.path, target, follow_symlinks=False)
    quarantine.mkdir(exist_ok=True)


def _folders(source: Path) -> Iterable[str]:
    if source.is_symlink() or not source.is_dir():
        return
    for entry in os.scandir(source):
        if entry.is_dir(follow_symlinks=False) and re.match(r"^([0-9a-f]{2}|pack)$", entry.name):
            yield entry.name


def _oversized(root: Path) -> list[str]:
    found = []
    for folder, names, files in os.walk(root):
        if Path(folder) == root:
            names[:] = [name for name in names if name != ".git"]
        for name in files:
            path = Path(folder, name)
            try:
                status = path.lstat()
            except OSError:
                continue
            if stat_module.S_ISREG(status.st_mode) and status.st_size > MAX_FILE_BYTES:
                found.append(str(path.relative_to(root)))
    return found


def _nested_repositories(root: Path) -> list[str]:
    """Folders below the workspace that hold a ``.git`` of their own, the outermost of each."""
    found = []
    for folder, names, files in os.walk(root):
        if Path(folder) == root:
            names[:] = [name for name in names if name != ".git"]
        elif ".git" in names or ".git" in files:
            found.append(str(Path(folder).relative_to(root)))
            names.clear()
    return found


def _plain_files(root: Path, place: str) -> list[tuple[str, str]]:
    found = []
    for folder, names, files in os.walk(root / place):
        names[:] = [name for name in names if name != ".git"]
        for name in [*files, *(name for name in names if Path(folder, name).is_symlink())]:
            path = Path(folder, name)
            status = path.lstat()
            if name == ".git" or status.st_size > MAX_FILE_BYTES:
                continue
            if stat_module.S_ISLNK(status.st_mode):
                mode = "120000"
            elif stat_module.S_ISREG(status.st_mode):
                mode = "100755" if status.st_mode & 0o100 else "100644"
            else:
                continue
            found.append((str(path.relative_to(root)), mode))
    return sorted(found)
