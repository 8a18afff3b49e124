"""Merge dependencies' results into the commit that a dependent starts from: in the mirror, without a work tree."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from spawnd.errors import MergeConflict
from spawnd.git.command import git, git_code


@dataclass(frozen=True, slots=True)
class Part:
    """What one dependency did: from ``base`` (where it started) to ``head``."""

    agent: str
    base: str
    head: str


async def merged(
    mirror: Path,
    start: str,
    parts: Sequence[Part],
    *,
    mode: str = "full",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> str:
    """The commit with every part's work on ``start``.

    ``full`` merges the commits themselves; ``diff_only`` adds each part's own change as one commit; ``paths`` adds only
    what lies under ``include`` (everything if empty) and not under ``exclude`` (prefixes or globs). Raises
    ``MergeConflict`` naming the files and both sides; the mirror then has nothing new but loose objects.
    """
    current = start
    done = "the source"
    for part in parts:
        if mode == "full":
            current = await _merge(mirror, current, part, done)
        else:
            wanted = part.head if mode == "diff_only" else await _limited(mirror, part, include, exclude)
            current = await _add(mirror, current, part, wanted, done)
        done = part.agent if done == "the source" else f"{done} + {part.agent}"
    return current


async def _merge(mirror: Path, current: str, part: Part, done: str) -> str:
    if await _is_ancestor(mirror, part.head, current):
        return current
    if await _is_ancestor(mirror, current, part.head):
        return part.head
    tree = await _merge_trees(mirror, current, part.head, part, done)
    return await _commit(mirror, tree, [current, part.head], f"spawnd: merge {part.agent}")


async def _add(mirror: Path, current: str, part: Part, wanted: str, done: str) -> str:
    # A three-way merge with the part's own start as the base, whatever the histories: two commits made
    # for the purpose, both on top of one that holds that start.
    root = await _commit(mirror, await _tree(mirror, part.base), [], "base")
    ours = await _commit(mirror, await _tree(mirror, current), [root], "ours")
    theirs = await _commit(mirror, await _tree(mirror, wanted), [root], "theirs")
    tree = await _merge_trees(mirror, ours, theirs, part, done)
    if tree == await _tree(mirror, current):
        return current
    return await _commit(mirror, tree, [current], f"spawnd: work of {part.agent}")


async def _merge_trees(mirror: Path, ours: str, theirs: str, part: Part, done: str) -> str:
    code, out, err = await git_code(
        "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", "--allow-unrelated-histories", ours, theirs,
        git_dir=mirror,
    )  # fmt: skip
    words = out.decode("utf-8", "backslashreplace").split("\0")
    if code == 0:
        return words[0]
    if code == 1:
        files = sorted({word for word in words[1:] if word})
        shown = ", ".join(files[:5]) + (" …" if len(files) > 5 else "")
        raise MergeConflict(
            f"The work of {done} and {part.agent} does not merge: {shown}.", files=files, sides=(ours, theirs)
        )
    raise MergeConflict(
        f"The work of {done} and {part.agent} cannot be merged: {err.decode(errors='replace').strip()}",
        files=(),
        sides=(ours, theirs),
    )


async def _limited(mirror: Path, part: Part, include: Sequence[str], exclude: Sequence[str]) -> str:
    """A tree: the part's start with only those of its changes that are wanted."""
    changes = await git("diff-tree", "-r", "-z", "--no-renames", part.base, part.head, git_dir=mirror)
    words = changes.split(b"\0")
    lines = []
    for meta, path in zip(words[0::2], words[1::2], strict=False):
        _, mode, _, sha, _ = meta.split(b" ")
        if _wanted(os.fsdecode(path), include, exclude):
            lines.append(b"%s %s\t%s\0" % (mode, sha, path))
    with tempfile.TemporaryDirectory(prefix="spawnd-index-") as scratch:
        env = {"GIT_INDEX_FILE": f"{scratch}/index"}
        await git("read-tree", part.base, git_dir=mirror, env=env)
        if lines:
            await git("update-index", "-z", "--index-info", git_dir=mirror, env=env, stdin=b"".join(lines))
        return (await git("write-tree", git_dir=mirror, env=env)).decode().strip()


def _wanted(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    def under(pattern: str) -> bool:
        plain = pattern.rstrip("/")
        return path == plain or path.startswith(f"{plain}/") or fnmatchcase(path, pattern)

    return (not include or any(map(under, include))) and not any(map(under, exclude))


async def _is_ancestor(mirror: Path, ancestor: str, of: str) -> bool:
    if ancestor == of:
        return True
    code, _, _ = await git_code("merge-base", "--is-ancestor", ancestor, of, git_dir=mirror)
    return code == 0


async def _tree(mirror: Path, treeish: str) -> str:
    return (await git("rev-parse", f"{treeish}^{{tree}}", git_dir=mirror)).decode().strip()


async def _commit(mirror: Path, tree: str, parents: Sequence[str], message: str) -> str:
    # A fixed date: the same inputs give the same commit, on any worker.
    env = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
    flags = [word for parent in parents for word in ("-p", parent)]
    return (await git("commit-tree", tree, *flags, "-m", message, git_dir=mirror, env=env)).decode().strip()
