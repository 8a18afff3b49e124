"""Artifacts as files: ``<root>/<first two digits>/<sha256>``, through obstore, and on the disk before we say so.

obstore's local store writes to a temporary name and renames, so a reader never sees half an object; it does not
fsync, so a row could outlive its bytes after a power loss. We fsync the file and its folder.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from spawnd.errors import Conflict, NotFound, Unwritable


class LocalArtifacts:
    """A folder of content-addressed files, shared by all processes of a user."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @functools.cached_property
    def _store(self) -> LocalStore:
        """Made when it is first needed: who only looks at a run needs no folder."""
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Unwritable(
                f"Artifacts cannot be stored in {self._root}: {error.strerror}.",
                hint="Set SPAWND_HOME to a writable directory.",
            ) from error
        return LocalStore(prefix=self._root)

    async def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            # A power loss between the rename and the fsync leaves the name with fewer bytes: they are written again.
            if await self._size(sha256) != len(data):
                await obstore.put_async(self._store, _key(sha256), data)
                await asyncio.to_thread(self._sync, sha256)
        except (OSError, BaseError) as error:  # obstore has errors of its own beside Python's
            raise Unwritable(
                f"An artifact of {len(data):,} bytes cannot be stored: {_first_line(error)}.",
                hint=f"Free space in {self._root}, and see that it is writable.",
            ) from error
        return sha256

    async def get(self, sha256: str) -> bytes:
        try:
            data = bytes(await (await obstore.get_async(self._store, _key(sha256))).bytes_async())
        except FileNotFoundError:
            raise NotFound(f"No artifact {sha256} is stored.") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Conflict(f"The stored bytes of artifact {sha256} are damaged.")
        return data

    async def exists(self, sha256: str) -> bool:
        return await self._size(sha256) is not None

    async def delete(self, sha256: str) -> None:
        if await self.exists(sha256):
            await obstore.delete_async(self._store, _key(sha256))

    async def _size(self, sha256: str) -> int | None:
        """In bytes; None if it is not there."""
        try:
            return (await obstore.head_async(self._store, _key(sha256)))["size"]
        except FileNotFoundError:
            return None

    def _sync(self, sha256: str) -> None:
        path = self._root / _key(sha256)
        for target in (path, path.parent, self._root):
            descriptor = os.open(target, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


def _first_line(error: Exception) -> str:
    """What happened, without the details that obstore adds below."""
    said = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return said.splitlines()[0]
