"""Bring a patch onto the user's branch: three-way, whole or not at all, never over uncommitted changes."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from spawnd.errors import GitFailed, MergeConflict, Refused, SourceError
from spawnd.git.command import UPLOAD_PACK, git, git_code


@dataclass(frozen=True, slots=True)
class Applied:
    """What changed; ``commit`` is set if a commit was made."""

    files: tuple[str, ...]
    commit: str | None = None


async def apply(
    repo: Path,
    patch: bytes,
    *,
    mirror: Path | None = None,
    head: str | None = None,
    message: str | None = None,
    author: str | None = None,
    check_only: bool = False,
) -> Applied:
    """Apply ``patch`` to the work tree and index of ``repo``; with ``message`` commit it too.

    ``mirror`` holds the commit ``head`` that the patch leads to: its objects are brought in first, so that the
    three-way merge has every side of it (borrowing them would leave an index that refers to objects of another
    repository). Raises ``Refused`` for a dirty tree, ``MergeConflict`` with the files if it does not fit; then the work
    tree, the index and the branches are exactly as they were.
    """
    if not patch.strip():
        return Applied(())
    repo = await _top(repo)
    await _require_clean(repo)
    if mirror is not None and head is not None:
        await git(
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            f"--upload-pack={UPLOAD_PACK}",
            str(mirror),
            head,
            cwd=repo,
            local=True,
        )
    with tempfile.NamedTemporaryFile(prefix="spawnd-apply-", suffix=".patch") as file:
        file.write(patch)
        file.flush()
        await _rehearse(repo, file.name)
        files = await _files(repo, file.name)
        if check_only:
            return Applied(files)
        await git("apply", "--3way", "--index", "--whitespace=nowarn", file.name, cwd=repo, trusted=True)
    if message is None:
        return Applied(files)
    await git("commit", "--quiet", "--no-verify", "-m", message, cwd=repo, env=_identity(author), trusted=True)
    return Applied(files, (await git("rev-parse", "HEAD", cwd=repo)).decode().strip())


async def _top(repo: Path) -> Path:
    """The root: below it, `git apply` passes silently over what lies outside of the folder."""
    code, out, _ = (
        await git_code("rev-parse", "--show-toplevel", cwd=repo, trusted=True) if repo.is_dir() else (1, b"", b"")
    )
    if code != 0:
        raise SourceError(f"{repo} is not a git repository.", hint="Name the one to apply to with --repo.")
    return Path(os.fsdecode(out).removesuffix("\n"))


async def _require_clean(repo: Path) -> None:
    status = await git("status", "--porcelain", "--untracked-files=no", cwd=repo, trusted=True)
    if status.strip():
        changed = [line[3:] for line in status.decode(errors="replace").splitlines()]
        shown = ", ".join(changed[:5]) + (" …" if len(changed) > 5 else "")
        raise Refused(f"{repo} has uncommitted changes: {shown}.", hint="Commit or stash them, then apply again.")


async def _rehearse(repo: Path, patch: str) -> None:
    """Apply to a copy of the index first: a conflict then leaves the repository untouched."""
    index = (await git("rev-parse", "--path-format=absolute", "--git-path", "index", cwd=repo)).decode().strip()
    with tempfile.TemporaryDirectory(prefix="spawnd-index-") as scratch:
        copy = Path(scratch, "index")
        if Path(index).exists():
            copy.write_bytes(Path(index).read_bytes())
        code, _, err = await git_code(
            "apply",
            "--3way",
            "--cached",
            "--whitespace=nowarn",
            patch,
            cwd=repo,
            env={"GIT_INDEX_FILE": str(copy)},
            trusted=True,
        )
        if code == 0:
            return
        listing = await git("ls-files", "--unmerged", "-z", cwd=repo, env={"GIT_INDEX_FILE": str(copy)})
    files = sorted({record.partition("\t")[2] for record in os.fsdecode(listing).split("\0") if record})
    said = err.decode(errors="replace").strip()
    if not files:
        raise GitFailed(f"The patch does not apply: {said.splitlines()[-1] if said else code}", stderr=said)
    shown = ", ".join(files[:5]) + (" …" if len(files) > 5 else "")
    raise MergeConflict(
        f"The work and your branch changed the same lines: {shown}. Nothing was changed.",
        files=files,
        sides=("HEAD", "the patch"),
    )


async def _files(repo: Path, patch: str) -> tuple[str, ...]:
    out = await git("apply", "--numstat", "-z", patch, cwd=repo)
    return tuple(record.split("\t", 2)[2] for record in os.fsdecode(out).split("\0") if record)


def _identity(author: str | None) -> dict[str, str]:
    return {"GIT_AUTHOR_NAME": author, "GIT_AUTHOR_EMAIL": f"{author}@spawnd.invalid"} if author else {}
