"""Bare mirrors of sources, one each: fetched under a lock, never written by an agent, never the user's own repo."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import fcntl
import hashlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from spawnd.errors import GitFailed, SourceError, Unavailable
from spawnd.git.command import UPLOAD_PACK, git, git_code

_FETCH_SECONDS = 1800
_LOCK_POLL_SECONDS = 0.05
_SHA = re.compile(r"^[0-9a-f]{4,40}$")
_SCP = re.compile(r"^[^/\s@]+@[^/\s:]+:.+")


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit of a source, present in its mirror."""

    mirror: Path
    sha: str
    source: str
    ref: str


def is_remote(source: str) -> bool:
    """Whether ``source`` is an address and not a path."""
    return "://" in source or bool(_SCP.match(source))


def without_credentials(source: str) -> str:
    """An address as it may be shown and stored: no user's password, no token."""
    if "://" not in source:
        return source
    parts = urlsplit(source)
    host = parts.netloc.rpartition("@")[2]
    user = parts.username if parts.scheme == "ssh" and parts.username else None
    return urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host))


class Mirrors:
    """All mirrors below ``root``. Safe to use from many processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, source: str) -> Path:
        """Where the mirror of ``source`` is or would be."""
        key = without_credentials(source) if is_remote(source) else os.path.realpath(source)
        return self._root / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.git"

    def all(self) -> list[Path]:
        """Every mirror that there is."""
        return sorted(self._root.glob("*.git"))

    async def resolve(
        self, source: str, ref: str | None = None, *, fetch: bool = False, env: Mapping[str, str] | None = None
    ) -> Revision:
        """The commit that ``ref`` (default HEAD) names, brought into the mirror.

        ``source`` is a path (anywhere in a repository) or an address. A local source is always seen as it is now;
        a remote one is fetched when it is new, when ``ref`` is unknown, or on demand. ``env`` reaches git only.
        Raises ``SourceError`` saying what is wrong and what to do.
        """
        if ref is not None and (not ref.strip() or ref.startswith("-") or any(c in ref for c in "\n\0 ")):
            raise SourceError(f"{ref!r} cannot be a revision.")
        if is_remote(source):
            return await self._remote(source, ref or "HEAD", fetch, env or {})
        return await self._local(source, ref or "HEAD")

    async def has(self, mirror: Path, sha: str) -> bool:
        """Whether the mirror holds the commit with everything below it that it was stored with."""
        code, _, _ = await git_code("cat-file", "-e", f"{sha}^{{commit}}", git_dir=mirror)
        return code == 0

    async def _local(self, source: str, ref: str) -> Revision:
        top = await self.top(Path(source))
        code, out, _ = await git_code("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", cwd=top)
        if code != 0:
            raise await self._unknown(str(top), ref, top)
        sha = out.decode().strip()
        mirror = self.path(str(top))
        if not (mirror / "HEAD").exists() or not await self.has(mirror, sha):
            async with self._locked(mirror):
                await self._create(mirror)
                if not await self.has(mirror, sha):
                    await self._fetch_local(mirror, top, sha)
        return Revision(mirror, sha, str(top), ref)

    async def top(self, path: Path) -> Path:
        """The root of the repository that ``path`` is in (or the bare repository). Raises ``SourceError``."""
        if not path.exists():
            raise SourceError(f"There is no {path}.", hint="Give a repository with --source-repo.")
        inside = path if path.is_dir() else path.parent
        code, out, err = await git_code("rev-parse", "--is-bare-repository", "--absolute-git-dir", cwd=inside)
        if code != 0:
            said = err.decode(errors="replace").strip()
            if "not a git repository" in said:
                raise SourceError(
                    f"{path.absolute()} is not a git repository.", hint="`git init` and a first commit make it one."
                )
            raise SourceError(f"{path} cannot be read as a repository: {said.splitlines()[-1] if said else code}")
        bare, git_dir = out.decode().splitlines()
        if bare == "true":
            return Path(git_dir)
        return Path((await git("rev-parse", "--show-toplevel", cwd=inside)).decode().rstrip("\n"))

    async def is_dirty(self, path: Path) -> bool:
        """Whether the work tree has changes, untracked files included, that no commit holds."""
        return bool(await git("status", "--porcelain", "--no-renames", cwd=path))

    async def tracked(self, path: Path, pattern: str) -> list[str]:
        """The tracked files that match a glob (``**`` for any depth), relative to the repository's root."""
        top = await self.top(path)
        out = await git("ls-files", "-z", "--", f":(top,glob){pattern}", cwd=top)
        return sorted(name for name in os.fsdecode(out).split("\0") if name)

    async def _unknown(self, source: str, ref: str, top: Path) -> SourceError:
        code, _, _ = await git_code("rev-parse", "--verify", "--quiet", "HEAD^{commit}", cwd=top)
        if code != 0:
            return SourceError(f"{source} has no commit yet.", hint="Commit something first.")
        names = (await git("for-each-ref", "--format=%(refname:short)", "--count=2000", cwd=top)).decode().split()
        return _no_such_ref(source, ref, names)

    async def _fetch_local(self, mirror: Path, top: Path, sha: str) -> None:
        try:
            await git(
                "fetch",
                "--quiet",
                "--no-tags",
                "--no-write-fetch-head",
                f"--upload-pack={UPLOAD_PACK}",
                str(top),
                f"{sha}:refs/spawnd/fetched/{sha}",
                git_dir=mirror,
                local=True,
                timeout_seconds=_FETCH_SECONDS,
            )
        except GitFailed as error:
            raise _not_fetched(str(top), error) from error

    async def _remote(self, source: str, ref: str, fetch: bool, env: Mapping[str, str]) -> Revision:
        shown = without_credentials(source)
        mirror = self.path(source)
        new = not (mirror / "HEAD").exists()
        if not new and not fetch and (sha := await self._find(mirror, ref)):
            return Revision(mirror, sha, shown, ref)
        async with self._locked(mirror):
            await self._create(mirror)
            # Someone else may have fetched while we waited for the lock; only a demanded fetch is done again.
            sha = None if fetch else await self._find(mirror, ref)
            if sha is None:
                await self._fetch_remote(mirror, source, ref, env)
                sha = await self._find(mirror, ref)
        if sha is None:
            names = (await git("for-each-ref", "--format=%(refname:lstrip=3)", "refs/source", git_dir=mirror)).decode()
            raise _no_such_ref(shown, ref, names.split())
        return Revision(mirror, sha, shown, ref)

    async def _find(self, mirror: Path, ref: str) -> str | None:
        short = ref.removeprefix("refs/heads/").removeprefix("refs/tags/").removeprefix("origin/")
        if ref == "HEAD":
            candidates = ["refs/source/HEAD"]
        else:
            candidates = [f"refs/source/heads/{short}", f"refs/source/tags/{short}"]
            if _SHA.match(ref):
                candidates.append(ref)
        for candidate in candidates:
            code, out, _ = await git_code("rev-parse", "--verify", "--quiet", f"{candidate}^{{commit}}", git_dir=mirror)
            if code == 0:
                return out.decode().strip()
        return None

    async def _fetch_remote(self, mirror: Path, source: str, ref: str, env: Mapping[str, str]) -> None:
        local = source.startswith("file://")
        try:
            await git(
                "fetch",
                "--quiet",
                "--prune",
                "--no-write-fetch-head",
                "--no-tags",
                source,
                "+refs/heads/*:refs/source/heads/*",
                "+refs/tags/*:refs/source/tags/*",
                "+HEAD:refs/source/HEAD",
                git_dir=mirror,
                env=env,
                local=local,
                timeout_seconds=_FETCH_SECONDS,
            )
            if _SHA.match(ref) and len(ref) == 40 and not await self.has(mirror, ref):
                # A commit that no branch holds any more: many servers still give it out.
                await git_code(
                    "fetch", "--quiet", "--no-tags", source, f"{ref}:refs/spawnd/fetched/{ref}", git_dir=mirror, env=env
                )
        except GitFailed as error:
            raise _not_fetched(without_credentials(source), error, source) from error

    async def _create(self, mirror: Path) -> None:
        if (mirror / "HEAD").exists():
            return
        await git("init", "--quiet", "--bare", "--template=", str(mirror))

    @asynccontextmanager
    async def _locked(self, mirror: Path) -> AsyncIterator[None]:
        """One process at a time creates or fetches a mirror. The kernel frees the lock if it dies."""
        try:
            mirror.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(mirror.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(
                f"Mirrors cannot be kept in {mirror.parent}: {error.strerror}.",
                hint="Set SPAWND_HOME or SPAWND_SOURCE_CACHE_ROOT to a writable directory.",
            ) from error
        try:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(_LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)


def _no_such_ref(source: str, ref: str, names: list[str]) -> SourceError:
    nearest = difflib.get_close_matches(ref, names, n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]}?" if nearest else "`git branch -a` and `git log` show what there is."
    return SourceError(f"{source} has no revision {ref!r}.", hint=hint)


def _not_fetched(shown: str, error: GitFailed, source: str | None = None) -> SourceError:
    said = error.stderr.replace(source, shown) if source else error.stderr
    last = said.splitlines()[-1] if said else error.message
    hint = "Check the address and that this machine reaches it."
    if "No space left" in said:
        hint = "Free space, or set SPAWND_SOURCE_CACHE_ROOT to another disk."
    elif re.search(
        r"Authentication failed|Permission denied|could not read (Username|Password)|terminal prompts", said
    ):
        hint = "Give credentials by worktree_source.env_refs or SPAWND_GIT_ASKPASS."
    return SourceError(f"{shown} cannot be fetched: {last}", hint=hint)
